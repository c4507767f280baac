"""Tiny checkpoints on disk, one of each kind and format for the whole run."""

from pathlib import Path

import pytest

from tests.musicgen_checkpoints import (
    TINY,
    TINY_CODEC,
    TINY_MELODY,
    TINY_STEREO,
    codec_geometry,
    write_audiocraft,
    write_hugging_face,
)

KINDS = {
    "text": (TINY, TINY_CODEC),
    "stereo": (TINY_STEREO, codec_geometry(8, channels=2)),
    "melody": (TINY_MELODY, TINY_CODEC),
}
WRITERS = {"audiocraft": write_audiocraft, "hugging_face": write_hugging_face}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Gives the folder of a kind in a format; the same random weights in both."""
    written: dict[tuple[str, str], Path] = {}

    def folder(kind: str, file_format: str) -> Path:
        if (kind, file_format) not in written:
            target = tmp_path_factory.mktemp(f"{kind}-{file_format}")
            written[kind, file_format] = WRITERS[file_format](target, *KINDS[kind])
        return written[kind, file_format]

    return folder
