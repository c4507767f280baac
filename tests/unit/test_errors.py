"""Errors cross processes whole, and carry any value at all in a short, printable message."""

import copy
import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion import errors
from orchestrion.errors import (
    CODES,
    CheckFailed,
    Internal,
    InvalidRequest,
    ModelFailed,
    NotFound,
    NotReady,
    OnHold,
    OrchestrionError,
    OutOfMemory,
    Overloaded,
    Problem,
    RightsRefused,
    Stalled,
    StoreUnavailable,
    Transient,
    VerificationFailed,
    Withdrawn,
    as_ours,
    code_of,
    shown,
)


@dataclass(frozen=True)
class StandInFinding:
    """What `CheckFailed` asks of a finding."""

    name: str
    passed: bool

    def describe(self) -> str:
        return f"{self.name} failed"


FINDINGS = (StandInFinding("clipping", passed=False), StandInFinding("silence", passed=True))
EXAMPLES = [
    InvalidRequest([Problem("seed", "-1", "is negative"), Problem("mood", "'x'", "is not known")]),
    NotFound("no such track"),
    Withdrawn("taken down"),
    OnHold("a person is to decide"),
    RightsRefused("not for commercial use"),
    CheckFailed(FINDINGS),
    VerificationFailed("the hash differs"),
    ModelFailed("no theme found"),
    Internal("something broke"),
    Overloaded("queue full", retry_after_s=7.5),
    NotReady("the models are being loaded"),
    OutOfMemory("no room"),
    Stalled("no progress for 60 s"),
    StoreUnavailable("no answer"),
]


def state(error: OrchestrionError) -> tuple[type, str, dict]:
    return type(error), str(error), vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("send", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_an_error_crosses_processes_with_everything_it_carries(error, send):
    assert state(send(error)) == state(error)


def test_there_is_an_example_and_a_code_for_each_error_that_is_raised():
    raised = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OrchestrionError)
    } - {OrchestrionError, Transient}

    assert {type(example) for example in EXAMPLES} == raised
    assert sorted(example.code for example in EXAMPLES) == sorted(set(CODES))


def test_the_drawn_tree_is_the_real_one():
    drawn = {line.split("── ")[1].split()[0] for line in errors.__doc__.splitlines() if "── " in line}

    assert drawn == {kind.__name__ for kind in (*map(type, EXAMPLES), Transient)}


def test_only_what_may_succeed_later_is_retryable():
    assert {type(example) for example in EXAMPLES if example.retryable} == {
        Overloaded,
        NotReady,
        OutOfMemory,
        Stalled,
        StoreUnavailable,
    }


class ModelTooProud(ModelFailed):
    """Of a model that we do not know."""

    code = "too-proud"


class StoreOnStrike(Transient):
    """Transient, but none of ours."""


class StrangeError(OrchestrionError):
    """Under the root, and under nothing else."""


class OutOfMemoryError(RuntimeError):
    """What torch calls its own."""


@pytest.mark.parametrize(
    "error, code, retryable",
    [
        (ModelTooProud("no"), "model-failed", False),
        (StoreOnStrike("no"), "internal", True),
        (StrangeError("no"), "internal", False),
        (MemoryError(), "out-of-memory", True),
        (OutOfMemoryError("CUDA out of memory: 3 GiB"), "out-of-memory", True),
        (OSError(28, "No space left on device: /secret/path"), "internal", False),
        (KeyError("codebook_7"), "internal", False),
    ],
)
def test_whatever_is_thrown_has_a_reason_and_a_message_that_shows_no_insides(error, code, retryable):
    ours = as_ours(error)

    assert (code_of(ours), ours.retryable) == (code, retryable)
    assert (ours.retry_after_s is not None) == retryable
    assert str(ours)
    assert not any(inside in str(ours) for inside in ("Error", "secret", "codebook", "CUDA"))


@pytest.mark.parametrize("forecast_s, told_s", [(0.0, 1.0), (-3.0, 1.0), (12.5, 12.5)])
def test_nobody_is_told_to_come_back_in_less_than_a_second(forecast_s, told_s):
    assert Overloaded("full", forecast_s).retry_after_s == told_s


def test_a_failed_check_tells_only_what_failed():
    assert str(CheckFailed(FINDINGS)) == "clipping failed"


def test_an_invalid_request_says_field_remedy_and_value():
    error = InvalidRequest.of("tempo_bpm", 900, "give 30 to 300")

    assert str(error) == "tempo_bpm: give 30 to 300 (got 900)"


def deep(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
EXTREMES = st.sampled_from(
    [
        *(10**5000, -(10**100_000), deep(20_000), {10**5000: 10**5000}, [10**5000] * 1000, list(range(100_000))),
        *("\ud800" * 500, "\U0001f3b9" * 5000, "x" * 1_000_000, b"\xff" * 10**6, {"\x00\x1b[31m": "\u202e"}),
        *(object, "'\"\\\n\r"),
    ]
)


@given(value=VALUES | EXTREMES)
def test_any_value_is_shown_short_and_in_printable_ascii(value):
    text = shown(value)

    assert len(text) < 120
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    "value, text",
    [
        ("a", "'a'"),
        (7, "7"),
        (1.5, "1.5"),
        (None, "null"),
        (True, "true"),
        ([None, False], "[null, false]"),
        ("é", "'\\xe9'"),
        ([1, "a"], "[1, 'a']"),
    ],
)
def test_a_small_value_is_shown_as_it_is(value, text):
    assert shown(value) == text


def test_of_a_long_text_the_start_and_the_length_are_shown():
    assert shown("abc" * 1000).startswith("'abcabc")
    assert "3000 characters" in shown("abc" * 1000)
