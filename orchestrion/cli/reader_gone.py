"""A command whose reader goes before it has written everything, as `head` does, ends quietly."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

#: As a shell says of a program that SIGPIPE has ended.
EXIT_READER_GONE: Final = 128 + 13


def ending_quietly(main: Callable[[], int]) -> int:
    """Run a command and write out what it said; its exit code, or `EXIT_READER_GONE` where nobody reads any more."""
    try:
        code = main()
        # Here and not when Python ends, where it could only be complained about.
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends: into nothing.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        return EXIT_READER_GONE
    return code
