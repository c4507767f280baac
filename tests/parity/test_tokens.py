"""Greedy codes are those of audiocraft's own `generate`, run alone, every one of them. Tiny geometries; the program
`benchmarks/parity.py` does the same at the published size, which takes audiocraft half an hour."""

from dataclasses import replace

import numpy as np
import pytest

from tests.musicgen_checkpoints import TINY, TINY_CODEC, TINY_MELODY, TINY_STEREO, codec_geometry, write_audiocraft
from tests.parity.token_cases import Case, Ours, Theirs

GEOMETRIES = {
    "mono": (TINY, TINY_CODEC),
    "stereo": (TINY_STEREO, codec_geometry(8, channels=2)),
    "melody": (TINY_MELODY, TINY_CODEC),
    "windows of 4 s": (replace(TINY, window_s=4.0), TINY_CODEC),
}
CASES = {
    "text": ("mono", Case(4.0)),
    "unconditional": ("mono", Case(3.0, prompt="")),
    "continuation": ("mono", Case(5.0, continuation_s=2.5)),
    "40 s, in two windows": ("mono", Case(40.0)),
    "8 s, in windows of 4 s": ("windows of 4 s", Case(8.0)),
    "stereo": ("stereo", Case(3.0)),
    "stereo continuation": ("stereo", Case(3.0, continuation_s=1.0)),
    "text to a melody model": ("melody", Case(3.0)),
    "melody": ("melody", Case(4.0, theme_s=5.0)),
    "melody without text": ("melody", Case(3.0, prompt="", theme_s=5.0)),
    "melody, in two windows": ("melody", Case(31.0, theme_s=7.0)),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Theirs and ours of each geometry, loaded when first asked for."""
    loaded = {}

    def pair(name):
        if name not in loaded:
            folder = write_audiocraft(tmp_path_factory.mktemp(name), *GEOMETRIES[name])
            loaded[name] = Theirs(folder), Ours(folder)
        return loaded[name]

    return pair


@pytest.mark.parametrize("name", CASES)
def test_greedy_codes_are_audiocrafts(name, pairs):
    geometry, case = CASES[name]
    theirs, ours = pairs(geometry)

    expected, made = theirs.codes(case), ours.codes(case)

    assert made.shape == expected.shape
    assert np.array_equal(made, expected), f"{(made == expected).mean():.2%} of the codes are equal"
    assert len(np.unique(expected)) > 50, "codes that hardly vary would be equal by chance"
