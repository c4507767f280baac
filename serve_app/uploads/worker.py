"""A process that reads uploads through, so that a harmful one ends this process and disturbs no audio.

    python -m serve_app.uploads.worker

One path a line on standard input, one JSON list of problems a line on standard output: [] for a file that can be used.
Ends with its standard input, after a quiet minute, and when a file has made it large.
"""

from __future__ import annotations

import json
import resource
import select
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Final

from orchestrion.audio.uploads import check_upload
from orchestrion.errors import InvalidRequest
from orchestrion.isolation.limits import limit_memory, step_back

#: Addresses beyond those of its libraries.
MAX_MEMORY_BYTES: Final = 1600 << 20
IDLE_S: Final = 60.0
#: A process that has ever been larger is replaced: what Python has freed it seldom gives back.
MAX_RESIDENT_KB: Final = 160 * 1024


def main() -> None:
    """Check files until there are no more."""
    step_back()
    limit_memory(MAX_MEMORY_BYTES)
    while select.select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.readline()):
        sys.stdout.write(json.dumps(problems_of(Path(line.removesuffix("\n")))) + "\n")
        sys.stdout.flush()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MAX_RESIDENT_KB:
            return


def problems_of(path: Path) -> list[tuple[str, str, str]]:
    """Field, value and message of each thing that is wrong with a file."""
    size_bytes = path.stat().st_size
    try:
        with path.open("rb") as file:
            check_upload(file, size_bytes)
    except InvalidRequest as error:
        return [astuple(problem) for problem in error.problems]
    except MemoryError:
        return [("theme", f"{size_bytes} bytes", "needs more memory to be read than a check has; send a simpler file")]
    return []


if __name__ == "__main__":
    main()
