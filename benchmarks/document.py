"""The one JSON document that every program of this folder ends in."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path


def about(question: str, *, quick: bool) -> dict[str, object]:
    """What the figures are of: the first keys of a document of a program that runs Ray."""
    return {
        "question": question,
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "python": platform.python_version(),
        "ray": metadata.version("ray"),
        "quick": quick,
    }


def machine_now() -> dict[str, object]:
    """The machine, and how busy it is: of programs that keep all of it at work."""
    return {
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
    }


def publish(document: Mapping[str, object], out: Path | None) -> None:
    """Print the document, and write it to `out` if that is given."""
    text = json.dumps(document, indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
