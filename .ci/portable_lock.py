"""Make pip-compile's output mean the same on every machine: rewrites the lock given as the one argument.

Local build tags go ("torch==2.13.0+cpu" is "torch==2.13.0"), and so do the CUDA libraries and Triton: which torch build
a machine gets, and what that build needs, is decided where it is installed. pip-compile knows the hash of one torch
build, the one that it found; here all builds are named that this project may meet. The project itself goes as well:
its extras name each other, so pip-compile lists it, by its folder.
"""

import re
import sys
from pathlib import Path
from typing import Final

HEADER: Final = """\
# Every package and version that is installed, with the hashes of its files, made by `make lock`; do not edit.
# Why it is as it is: docs/decisions/0002-lock-and-nodeps.md
"""
BUILD_SPECIFIC: Final = re.compile(r"(nvidia-|cuda-|triton\b|pytorch-triton)")
OURSELVES: Final = re.compile(r"orchestrion(\[[\w,]+\])? @ ")
OUR_NAME: Final = "orchestrion (pyproject.toml)"
LOCAL_TAG: Final = re.compile(r"^([\w.-]+==[^+\s]+)\+\S+")
TORCH: Final = "torch==2.13.0"
#: Builds of TORCH for Python 3.11 and 3.12: file name's end → SHA-256, as the package index gives them.
TORCH_BUILDS: Final = {
    "cp311-macosx_14_0_arm64": "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8",
    "cp311-manylinux_2_28_aarch64": "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c",
    "cp311-manylinux_2_28_x86_64": "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
    "cp312-macosx_14_0_arm64": "2fe228aba290d14b9f31b049be550dbd469c3fd3013d7a19705b30454da97027",
    "cp312-manylinux_2_28_aarch64": "572df8be8ffb4599c88cbd6a0726f1f854f4da65d2e3c09f0e2c2283333cd6d4",
    "cp312-manylinux_2_28_x86_64": "796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b",
    "cpu-cp311-manylinux_2_28_x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
}


def portable(lock: str) -> str:
    """`lock` without local build tags, without what only one torch build needs, and with every torch build's hash.

    Raises:
        ValueError: the lock has another torch than the one whose builds are known here.
    """
    lines: list[str] = []
    package = ""
    for line in lock.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.endswith(OUR_NAME):
            line = line.replace(OUR_NAME, "orchestrion")
            if line == lines[-1]:  # Wanted by an extra, and already named for that.
                continue
        if not line[0].isspace():
            package = LOCAL_TAG.sub(r"\1", line).removesuffix(" \\")
            if package.startswith("torch==") and package != TORCH:
                raise ValueError(f"{package}: put this version and the hashes of its builds into {__file__}")
            if package == TORCH:
                hashes = sorted(TORCH_BUILDS.values())
                lines.append(" \\\n    ".join([package, *(f"--hash=sha256:{one}" for one in hashes)]))
                continue
        if BUILD_SPECIFIC.match(package) or OURSELVES.match(package) or (package == TORCH and "--hash" in line):
            continue
        lines.append(LOCAL_TAG.sub(r"\1", line))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(portable(path.read_text(encoding="utf-8")), encoding="utf-8")
