"""A process that reads uploads through, so that a harmful one ends this process and disturbs no audio.

    python -m serve_app.uploads.worker

One JSON list a line on standard input, what the file is for and its path; one JSON object a line on standard output,
what was `read` or the `problems`. Ends with its standard input, after a quiet minute, and when a file has made it
large.
"""

from __future__ import annotations

import json
import resource
import select
import sys
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Final

from orchestrion.errors import InvalidRequest
from orchestrion.isolation.limits import limit_memory, step_back
from serve_app.uploads.found import UploadUse
from serve_app.uploads.reading import read_upload

#: Addresses beyond those of its libraries.
MAX_MEMORY_BYTES: Final = 1600 << 20
IDLE_S: Final = 60.0
#: A process that has ever been larger is replaced: what Python has freed it seldom gives back.
#: It begins with 55 MB, has 210 after half a minute of a recording, and 460 after two minutes.
MAX_RESIDENT_KB: Final = 256 * 1024


def main() -> None:
    """Read files until there are no more."""
    step_back()
    limit_memory(MAX_MEMORY_BYTES)
    while select.select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.readline()):
        use, path = json.loads(line)
        sys.stdout.write(json.dumps(answer_to(Path(path), UploadUse(use))) + "\n")
        sys.stdout.flush()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MAX_RESIDENT_KB:
            return


def answer_to(path: Path, use: UploadUse) -> dict[str, Any]:
    """What is found in a file, or what is wrong with it: field, value and message of each thing."""
    try:
        return {"read": asdict(read_upload(path.read_bytes(), use))}
    except InvalidRequest as error:
        return {"problems": [astuple(problem) for problem in error.problems]}
    except MemoryError:
        complaint = "needs more memory to be read than a check has; send a simpler file"
        return {"problems": [(use, f"{path.stat().st_size} bytes", complaint)]}


if __name__ == "__main__":
    main()
