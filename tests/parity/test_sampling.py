"""Our draws follow the very probabilities that audiocraft's own functions draw from."""

import numpy as np
import pytest
import torch
from scipy import stats

from orchestrion.models.audiocraft.imports import import_audiocraft
from orchestrion.models.musicgen.decoder.decoder import Draws
from orchestrion.models.musicgen.decoder.sampling import draw

DRAWS = 100_000
CARD = 512


@pytest.fixture(scope="module")
def theirs():
    return import_audiocraft().utils.utils


def their_probabilities(theirs, monkeypatch, logits, temperature, top_k, top_p) -> np.ndarray:
    """What audiocraft gives to its multinomial draw, by code."""
    given = []
    multinomial = theirs.multinomial
    monkeypatch.setattr(theirs, "multinomial", lambda p, **rest: given.append(p.clone()) or multinomial(p, **rest))
    probabilities = torch.softmax(torch.from_numpy(logits)[None, None] / temperature, dim=-1)
    if top_p:
        codes = torch.sort(probabilities, dim=-1, descending=True).indices
        theirs.sample_top_p(probabilities, top_p)
        return torch.zeros_like(given[0]).scatter(-1, codes, given[0])[0, 0].numpy().astype(np.float64)
    theirs.sample_top_k(probabilities, top_k)
    return given[0][0, 0].numpy().astype(np.float64)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize(("top_k", "top_p"), [(250, 0.0), (0, 0.9)])
def test_draws_follow_audiocrafts_probabilities(theirs, monkeypatch, temperature, top_k, top_p):
    logits = (np.random.default_rng(1).normal(size=CARD) * 2).astype(np.float32)
    expected = their_probabilities(theirs, monkeypatch, logits, temperature, top_k, top_p) * DRAWS
    rows = DRAWS // 4
    draws = Draws(
        seed=np.full(rows, 9, np.uint64),
        column=np.arange(rows),
        temperature=np.full(rows, temperature, np.float32),
        top_k=np.full(rows, top_k),
        top_p=np.full(rows, top_p, np.float32),
    )
    codes = draw(np.broadcast_to(logits, (rows, 4, CARD)), draws)

    observed = np.bincount(codes.ravel(), minlength=CARD)
    assert np.array_equal(np.unique(codes), np.flatnonzero((observed > 0) & (expected > 0)))
    # Rare codes join the first of the others, so that each bin expects at least ten.
    often = expected >= 10
    bins = [
        np.append(counts[often][0] + counts[~often].sum(), counts[often][1:])
        for counts in (observed, expected / expected.sum() * DRAWS)
    ]
    assert stats.chisquare(*bins).pvalue > 1e-4
