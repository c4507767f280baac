"""What a prompt asks for is what its score plays, from its words alone, in several languages."""

from __future__ import annotations

from itertools import count

import pytest

from benchmarks.judging import Answer, Finding, compose_only, judge
from benchmarks.played import Played, bar_contrast, metre_faults, plays_excluded, read_midi
from orchestrion.models.composer.model import Composer
from orchestrion.models.composer.score import midi_bytes
from tests.composing import score_of

PROMPTS = (
    "upbeat rock with no drums and no bass, 128 bpm, E minor, 20 seconds",
    "solo cello, slow, in D minor",
    "string quartet in G major, 90 bpm, in 3/4",
    "only piano and double bass, 3/4, 132 bpm",
    "jazz trio in 5/4 at 150 bpm",
    "a loop of 8 bars of techno at 128 bpm in A minor, seamless",
    "march getting faster from 90 to 140 bpm, brass, F major",
    "intro 8 seconds, verse 16 bars, outro 4 bars, pop at 120 bpm",
    "rock sin batería ni guitarra, con órgano, 100 bpm, en re menor",
    "Walzer nur mit Akkordeon und Geige, h-Moll",
    "valse pour flûte et harpe, sans piano, do majeur, crescendo",
    "バイオリンとチェロの二重奏、ニ短調、ドラムなし",
    "прогрессивный рок в размере 7/8, без вокала, 140 уд/мин",
    "samba sem pandeiro e sem cavaquinho, 100 bpm",
    "folk in 6/8, 60 bpm, no violin, modulating from D major to E major, 40 seconds",
)
#: What the prompts above must be read to say at least; else nothing would be judged.
FIELDS = {
    "exclude": 8, "instruments": 8, "ensemble": 5, "metre": 5, "tempo_bpm": 9, "key": 8, "style": 9, "bars": 1,
    "loop": 1, "sections": 1, "tempo_end_bpm": 1, "key_end": 1, "dynamics": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def findings(composer: Composer) -> dict[str, list[Finding]]:
    found = {}
    for number, prompt in zip(count(), PROMPTS):
        answer = compose_only(composer, number, {"id": str(number), "prompt": prompt})
        assert isinstance(answer, Answer), answer
        found[prompt] = list(judge(answer))
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_said_is_played(findings: dict[str, list[Finding]], prompt: str) -> None:
    assert [finding for finding in findings[prompt] if finding.faults] == []


def test_all_kinds_are_judged(findings: dict[str, list[Finding]]) -> None:
    judged = [finding.field for of_one in findings.values() for finding in of_one]
    assert {field for field, least in FIELDS.items() if judged.count(field) < least} == set()


def played(style: str, **changes: object) -> Played:
    return read_midi(midi_bytes(score_of(style, 30.0, **changes)))


@pytest.mark.parametrize("metre", ["3/4", "4/4", "5/4", "7/8"])
def test_the_judge_hears_another_metre_than_the_time_signature_says(metre: str) -> None:
    music = played("rock", metre=metre)
    assert metre_faults(music, metre) == []
    for other in {"3/4", "4/4", "5/4", "7/8"} - {metre}:
        claimed = Played(music.tracks, music.tempos, music.markers, other, music.end)
        assert metre_faults(claimed, other) != []
        assert bar_contrast(music, metre) > bar_contrast(claimed, other)


def test_the_judge_hears_who_must_not_play() -> None:
    music = played("rock")
    assert plays_excluded(music, "drums") and plays_excluded(music, "guitar") and plays_excluded(music, "bass")
    assert plays_excluded(music, "accordion") == []
