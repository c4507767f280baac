"""How much of what prompts in twelve languages ask for is understood, and of what is not, how much is said.

The prompts and what they ask for are data beside this (`intent_prompts`), in four sets: the reader is tuned on three
of them and only measured on the fourth. The baseline is the reader of the release before, in the same run: it read
style, mood, tempo, key and length of English. It named no words, so each of its readings counts as one of the whole
prompt, and how long it took stands beside it.

    python -m benchmarks.intent [--show de] [--out FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.before_after import worktree
from benchmarks.document import machine_now, publish
from orchestrion.tracks.intent.intent import Intent, Reading, Value, Words
from orchestrion.tracks.intent.reader import read_intent

FOLDER: Final = Path(__file__).parent / "intent_prompts"
#: Set → where its prompts are.
SETS: Final = {"tuned": FOLDER} | {name: FOLDER / name for name in ("second", "third", "held_out")}
#: The sets whose prompts may be looked at. Whoever works on the reader sees nothing of the last but its figures.
SHOWN: Final = ("tuned", "second", "third")
LANGUAGES: Final = ("en", "es", "pt", "fr", "de", "it", "nl", "pl", "ru", "ja", "ko", "zh")
TOLERANCE: Final = 1e-6
#: The last revision whose prompts were read by patterns.
BASELINE: Final = "6a545cb"
#: Run there: prompts on standard input; what was read of each, and milliseconds, on standard output.
_READ_BEFORE: Final = """
import json, sys, time
from dataclasses import asdict
from orchestrion.tracks.prompt import read_prompt
read = read_prompt.__wrapped__
found, took_ms = [], []
for prompt in json.load(sys.stdin):
    begin = time.perf_counter()
    reading = read(prompt)
    took_ms.append(1000.0 * (time.perf_counter() - begin))
    found.append(asdict(reading) | {"key": reading.key and str(reading.key)})
json.dump({"found": found, "took_ms": took_ms}, sys.stdout)
"""
#: Fields whose readings are taken together: all that is asked must be among them.
_SEVERAL: Final = ("instruments", "exclude")
_VOCABULARY: Final = json.loads((FOLDER / "vocabulary.json").read_text("utf-8"))
_NEAR: Final[dict[str, list[str]]] = (
    _VOCABULARY["instruments"] | _VOCABULARY["instruments_outside_general_midi"] | _VOCABULARY["other_exclusions"]
)

Prompt = Mapping[str, Any]


@dataclass(slots=True)
class Score:
    """What became of what the prompts of a language ask for."""

    asked: int = 0
    right: int = 0
    #: Of those that are not right, the ones of which the intent says something at these words.
    said: int = 0
    unfollowable: int = 0
    unfollowable_said: int = 0
    traps: int = 0
    trapped: int = 0
    plain_asked: int = 0
    plain_right: int = 0
    misses: list[str] = field(default_factory=list)
    by_field: dict[str, list[int]] = field(default_factory=dict)


def overlaps(words: Words, start: int, end: int) -> bool:
    """Whether a part of the prompt has a character in common with another."""
    return words.start < end and start < words.end


def is_right(asked: Prompt, intent: Intent, start: int, end: int) -> bool:
    """Whether one thing that is asked was read so, or as one of what else it may mean."""
    others = [{**other, "words": asked["words"]} for other in asked.get("or", ())]
    return any(_is_read(each, intent, start, end) for each in (asked, *others))


def _is_read(asked: Prompt, intent: Intent, start: int, end: int) -> bool:
    name, value = asked["field"], asked["value"]
    if name == "conflict":
        return any(
            conflict.field == value["field"] and any(overlaps(words, start, end) for words in conflict.words)
            for conflict in intent.conflicts
        )
    found = [r for r in intent.readings if r.field == name and overlaps(r.words, start, end)]
    if name in _SEVERAL:
        read = {one for reading in found for one in _names(reading.value)}
        return all(one in read or not read.isdisjoint(_NEAR.get(one, ())) for one in value)
    if name == "ensemble":
        return any(_is_ensemble(value, reading, intent, start, end) for reading in found)
    return any(_is_value(name, value, reading) for reading in found)


def _names(value: Value) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _is_ensemble(value: Prompt, reading: Reading, intent: Intent, start: int, end: int) -> bool:
    """The kind, and at least those who are named, there or beside it."""
    beside = {r.value for r in intent.readings if r.field == "instruments" and overlaps(r.words, start, end)}
    read = {*reading.value["instruments"], *beside}
    named = all(one in read or not read.isdisjoint(_NEAR.get(one, ())) for one in value["instruments"])
    return reading.value["kind"] == value["kind"] and named


def _is_value(name: str, value: Value, reading: Reading) -> bool:
    match name:
        case "tempo_bpm" | "tempo_end_bpm" | "duration_s":
            return bool(value[0] - TOLERANCE <= reading.value <= value[1] + TOLERANCE)
        case "mood" | "use":
            return reading.value in value
        case "style" if isinstance(value, dict):
            if not isinstance(reading.value, dict):
                return False
            return reading.value["genre"] == value["genre"] or reading.value["nearest"][0] in value["nearest"]
        case "fade_in_s" | "fade_out_s" | "loudness_lufs":
            return bool(abs(reading.value - value) < TOLERANCE)
        case _:
            return bool(reading.value == value)


def is_said(intent: Intent, start: int, end: int) -> bool:
    """Whether the intent says of these words that they are not followed or not understood, or in conflict."""
    told = [*(one.words for one in intent.not_followed), *intent.not_understood]
    told += [words for conflict in intent.conflicts for words in conflict.words]
    return any(overlaps(words, start, end) for words in told)


def score(prompts: Sequence[Prompt], read: Callable[[str], Intent]) -> Score:
    """Read prompts and compare."""
    total = Score()
    for prompt in prompts:
        text = prompt["prompt"]
        intent = read(text)
        for asked in prompt["asked"]:
            start = text.index(asked["words"])
            end = start + len(asked["words"])
            right = is_right(asked, intent, start, end)
            counts = total.by_field.setdefault(asked["field"], [0, 0])
            counts[0] += right
            counts[1] += 1
            total.asked += 1
            total.right += right
            total.plain_asked += not prompt["nasty"]
            total.plain_right += right and not prompt["nasty"]
            if not right:
                said = is_said(intent, start, end)
                total.said += said
                read_here = [(r.field, r.value) for r in intent.readings if overlaps(r.words, start, end)]
                wanted = f"{asked['field']}={json.dumps(asked['value'], ensure_ascii=False)} <{asked['words']}>"
                total.misses.append(f"{prompt['id']} {'said' if said else '    '} {wanted} read {read_here} in: {text}")
        for one in prompt["unfollowable"]:
            start = text.index(one["words"])
            said = is_said(intent, start, start + len(one["words"]))
            total.unfollowable += 1
            total.unfollowable_said += said
            if not said:
                total.misses.append(f"{prompt['id']} NOT SAID {one['kind']} <{one['words']}> in: {text}")
        for trap in prompt["not_asked"]:
            start = text.index(trap["words"])
            end = start + len(trap["words"])
            trapped = [r for r in intent.readings if r.field == trap["field"] and overlaps(r.words, start, end)]
            total.traps += 1
            total.trapped += bool(trapped)
            if trapped:
                total.misses.append(
                    f"{prompt['id']} TRAP {trap['field']} <{trap['words']}> read {trapped[0].value} in: {text}"
                )
    return total


def share(part: int, whole: int) -> float:
    """A share in percent."""
    return round(100.0 * part / whole, 1) if whole else 100.0


def figures(found: Score) -> dict[str, Any]:
    """What is published of a score."""
    missed = found.asked - found.right
    return {
        "asked": found.asked,
        "right_percent": share(found.right, found.asked),
        "plain_right_percent": share(found.plain_right, found.plain_asked),
        "nasty_right_percent": share(found.right - found.plain_right, found.asked - found.plain_asked),
        "missed_and_not_said_percent": share(missed - found.said, found.asked),
        "unfollowable": found.unfollowable,
        "unfollowable_said_percent": share(found.unfollowable_said, found.unfollowable),
        "traps": found.traps,
        "trapped_percent": share(found.trapped, found.traps),
        "by_field": {name: {"right": right, "asked": asked} for name, (right, asked) in sorted(found.by_field.items())},
    }


def read_before(prompts: Sequence[str], revision: str) -> tuple[dict[str, Intent], dict[str, float]]:
    """What the reader of an earlier revision says of prompts, and how long it took."""
    with worktree(revision) as code:
        done = subprocess.run(
            [sys.executable, "-c", _READ_BEFORE],
            input=json.dumps(prompts),
            cwd=code,
            env=os.environ | {"PYTHONPATH": str(code)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    answer = json.loads(done.stdout)
    intents = {}
    for prompt, found in zip(prompts, answer["found"], strict=True):
        everywhere = Words(prompt, 0, len(prompt))
        readings = [Reading(name, value, everywhere, 1.0) for name, value in found.items() if value is not None]
        intents[prompt] = Intent(tuple(readings), (), (), (), ())
    return intents, spread(answer["took_ms"])


def timed(prompts: Sequence[str], read: Callable[[str], object], rounds: int = 3) -> dict[str, float]:
    """Milliseconds a prompt, each read for the first time in its round."""
    gc.collect()
    took_ms = []
    for _ in range(rounds):
        for prompt in prompts:
            begin = time.perf_counter()
            read(prompt)
            took_ms.append(1000.0 * (time.perf_counter() - begin))
    return spread(took_ms)


def spread(took_ms: Sequence[float]) -> dict[str, float]:
    """How long prompts took."""
    return {
        "median_ms": round(median(took_ms), 3),
        "p95_ms": round(quantiles(took_ms, n=20)[18], 3),
        "max_ms": round(max(took_ms), 2),
    }


def prompts_of(language: str, folder: Path) -> list[Prompt]:
    """A set's prompts in a language."""
    return [json.loads(line) for line in (folder / f"{language}.jsonl").read_text("utf-8").splitlines()]


def over_all(scores: Iterable[Score]) -> dict[str, float]:
    """The right share of all that a set asks for, in percent: a language's share alone rests on few prompts."""
    found = list(scores)
    return {
        "asked": sum(one.asked for one in found),
        "right_percent": share(sum(one.right for one in found), sum(one.asked for one in found)),
        "missed_and_not_said_percent": share(
            sum(one.asked - one.right - one.said for one in found), sum(one.asked for one in found)
        ),
    }


def shown(scores: Mapping[str, Mapping[str, Score]], language: str) -> list[str]:
    """What was missed of a language, without the held-out prompts."""
    return [line for name in SHOWN for line in scores[name][language].misses]


def main() -> int:
    """Read all prompts, print what was missed if asked to, and the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intent", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--show",
        metavar="LANGUAGE",
        choices=LANGUAGES,
        help="print what was missed of a language, held-out prompts excepted, on standard error",
    )
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    uncached = read_intent.__wrapped__
    uncached("one prompt, so that the vocabulary is read")
    scores = {
        name: {language: score(prompts_of(language, folder), uncached) for language in LANGUAGES}
        for name, folder in SETS.items()
    }
    if arguments.show:
        print("\n".join(shown(scores, arguments.show)), file=sys.stderr)
    texts = [prompt["prompt"] for language in LANGUAGES for prompt in prompts_of(language, SETS["tuned"])]
    everything = [
        prompt["prompt"]
        for folder in SETS.values()
        for language in LANGUAGES
        for prompt in prompts_of(language, folder)
    ]
    before, before_ms = read_before(everything, BASELINE)
    scores_before = {
        name: [score(prompts_of(language, folder), before.__getitem__) for language in LANGUAGES]
        for name, folder in SETS.items()
    }
    document = {
        "benchmark": "intent",
        "question": "how much of what prompts ask for is understood, and how much of the rest is said?",
        "machine": machine_now(),
        "sets": {
            name: {
                "over_all": over_all(found.values()),
                "languages": {language: figures(one) for language, one in found.items()},
            }
            for name, found in scores.items()
        },
        "time": timed(texts, uncached),
        "baseline": {
            "revision": BASELINE,
            "sets": {
                name: {"over_all": over_all(found), "english": over_all(found[:1])}
                for name, found in scores_before.items()
            },
            "time": before_ms,
        },
    }
    publish(document, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
