"""The draws have the right probabilities, are independent, and are the same codes in numpy and torch."""

import numpy as np
import pytest
import torch
from scipy import stats

from orchestrion.models.musicgen.decoder.decoder import Draws
from orchestrion.models.musicgen.decoder.sampling import NO_CODE, DeviceDraws, draw, draw_torch, philox, philox_torch

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
DRAWS = 100_000
#: A test that is right fails once in ten thousand seeds; the seeds below are fixed.
ALARM = 1e-4

# Random123's known answers for philox4x32 with ten rounds: counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def asked(w: int, *, temperature=1.0, top_k=0, top_p=0.0, seed=5, column=None) -> Draws:
    return Draws(
        seed=np.full(w, seed, np.uint64),
        column=np.arange(w) if column is None else column,
        temperature=np.full(w, temperature, np.float32),
        top_k=np.full(w, top_k),
        top_p=np.full(w, top_p, np.float32),
    )


def some_logits(card: int, seed: int = 0) -> np.ndarray:
    """With ties, also around any threshold: guided bf16 logits have them."""
    return (np.random.default_rng(seed).normal(size=card) * 2).astype(np.float16).astype(np.float32)


def repeated(logits: np.ndarray, w: int, codebooks: int = 4) -> np.ndarray:
    return np.broadcast_to(logits, (w, codebooks, len(logits)))


def exact_probabilities(logits, temperature, top_k, top_p) -> np.ndarray:
    """What the draws must follow, by the slow and plain way of sorting."""
    p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    if top_p > 0:
        before = np.cumsum(p[order]) - p[order]
        p[order[before > top_p]] = 0
    elif top_k > 0:
        p[p < p[order[top_k - 1]]] = 0
    return p / p.sum()


def fit(codes: np.ndarray, probabilities: np.ndarray) -> float:
    """The chi-square test's p-value. Rare codes join the first of the others, so that each bin expects at least ten."""
    observed = np.bincount(codes.ravel(), minlength=len(probabilities))
    assert observed[probabilities == 0].sum() == 0
    expected = probabilities * codes.size
    often = expected >= 10
    bins = [np.append(x[often][0] + x[~often].sum(), x[often][1:]) for x in (observed, expected)]
    return stats.chisquare(*bins).pvalue


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert philox(*map(np.uint64, key + counter)) == answer
    seed = torch.from_numpy(np.array([key[0] | key[1] << 32], np.uint64).view(np.int64))
    assert tuple(int(word) for word in philox_torch(seed, *map(torch.tensor, counter))) == answer


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize(("top_k", "top_p"), [(250, 0.0), (0, 0.9)])
def test_draws_follow_the_exact_probabilities(temperature, top_k, top_p):
    logits = some_logits(512)
    choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    codes = draw(repeated(logits, DRAWS // 4), asked(DRAWS // 4, **choice))
    assert fit(codes, exact_probabilities(logits, **choice)) > ALARM


def test_top_p_comes_before_top_k_and_without_both_every_code_can_come():
    logits = repeated(some_logits(32), 5000)
    nucleus = draw(logits, asked(5000, top_p=0.9))
    assert np.array_equal(draw(logits, asked(5000, top_p=0.9, top_k=1)), nucleus)
    assert fit(draw(logits, asked(5000)), exact_probabilities(logits[0, 0], 1.0, 0, 0.0)) > ALARM


def test_codebooks_columns_and_seeds_are_independent():
    card, w = 16, DRAWS
    logits = repeated(some_logits(card), w, 2)
    codes, other_seed = draw(logits, asked(w)), draw(logits, asked(w, seed=6))
    pairs = {
        "codebooks": (codes[:, 0], codes[:, 1]),
        "columns": (codes[:-1, 0], codes[1:, 0]),
        "seeds": (codes[:, 0], other_seed[:, 0]),
        "seeds far apart": (codes[:, 0], draw(logits, asked(w, seed=5 + 2**32))[:, 0]),
    }
    for a, b in pairs.values():
        table = np.bincount(a * card + b, minlength=card * card).reshape(card, card)
        assert stats.chi2_contingency(table).pvalue > ALARM


def test_a_draw_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(1)
    w = 40
    logits = rng.normal(size=(w, 4, 100)).astype(np.float32)
    draws = Draws(
        seed=rng.integers(0, 2**64, w, np.uint64),
        column=rng.integers(0, 3000, w),
        temperature=rng.choice(np.array([0, 0.5, 1, 2], np.float32), w),
        top_k=rng.choice([0, 1, 10, 1000], w),
        top_p=rng.choice(np.array([0, 0, 0.5, 1], np.float32), w),
    )
    together = draw(logits, draws)
    for i in rng.permutation(w):
        one = Draws(*(getattr(draws, name)[i : i + 1] for name in Draws.__slots__))
        assert np.array_equal(draw(logits[i : i + 1], one), together[i : i + 1])


@pytest.mark.parametrize("device", DEVICES)
def test_torch_draws_the_same_codes(device):
    """On 100,000 draws with every choice of temperature, top-k and top-p mixed."""
    rng = np.random.default_rng(2)
    w, card = DRAWS // 4, 32
    logits = (rng.normal(size=(w, 4, card)) * 3).astype(np.float16).astype(np.float32)
    draws = Draws(
        seed=rng.integers(0, 2**64, w, np.uint64),
        column=rng.integers(0, 3000, w),
        temperature=rng.choice(np.array([0, 0.01, 0.7, 1, 1.3, 50], np.float32), w),
        top_k=rng.choice([0, 1, 10, 32, 250], w),
        top_p=rng.choice(np.array([0, 0, 0.3, 0.9, 1], np.float32), w),
    )
    theirs = draw_torch(torch.from_numpy(logits).to(device), DeviceDraws.of(draws, device))
    assert np.array_equal(draw(logits, draws), theirs.cpu().numpy())


def both(logits: np.ndarray, draws: Draws) -> np.ndarray:
    codes = draw(logits, draws)
    assert np.array_equal(codes, draw_torch(torch.from_numpy(logits.copy()), DeviceDraws.of(draws, "cpu")).numpy())
    return codes


def test_temperature_zero_takes_the_first_of_the_likeliest():
    logits = np.array([[[-1, 3, 3, 0], [0.0, -0.0, -5, -5]]], np.float32)
    assert both(logits, asked(1, temperature=0, top_k=250, top_p=0.5)).tolist() == [[1, 0]]


def test_top_k_keeps_those_equal_to_the_last():
    codes = both(repeated(np.array([0, 1, 1, 1, -0.5], np.float32), 200), asked(200, top_k=2))
    assert set(np.unique(codes)) == {1, 2, 3}


def test_top_p_always_keeps_the_likeliest():
    codes = both(repeated(np.array([0, 5, 0, 0], np.float32), 100), asked(100, top_p=0.01))
    assert set(np.unique(codes)) == {1}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_logit_gives_no_code_and_leaves_its_neighbours_alone(broken):
    logits = repeated(some_logits(32), 6).copy()
    whole = both(logits, asked(6, top_k=8))
    logits[2, 1, 30] = broken
    codes = both(logits, asked(6, top_k=8))
    assert codes[2, 1] == NO_CODE
    codes[2, 1] = whole[2, 1]
    assert np.array_equal(codes, whole)
