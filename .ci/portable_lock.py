"""Make pip-compile's output mean the same on every machine: rewrites the lock given as the one argument.

Local build tags go ("torch==2.13.0+cpu" is "torch==2.13.0"), and so do the CUDA libraries and Triton: which torch build
a machine gets, and what that build needs, is decided where it is installed.
"""

import re
import sys
from pathlib import Path

HEADER = """\
# Every package and version that is installed, made by `make lock`; do not edit.
# Why it is as it is: docs/decisions/0002-lock-and-nodeps.md
"""
BUILD_SPECIFIC = re.compile(r"(nvidia-|cuda-|triton\b|pytorch-triton)")
LOCAL_TAG = re.compile(r"^([\w.-]+==[^+\s]+)\+\S+")


def portable(lock: str) -> str:
    """`lock` without local build tags and without the blocks of packages that only one torch build needs."""
    lines: list[str] = []
    dropping = False
    for line in lock.splitlines():
        if line and not line[0].isspace():
            dropping = BUILD_SPECIFIC.match(line) is not None
        if not dropping and not line.startswith("#") and line:
            lines.append(LOCAL_TAG.sub(r"\1", line))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(portable(path.read_text(encoding="utf-8")), encoding="utf-8")
