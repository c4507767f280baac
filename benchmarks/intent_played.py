"""Is what the intent says what is played? 300 prompts in twelve languages through HTTP, measured in score and sound.

Every second of the prompts of `intent_prompts`, of all kinds, is asked of the whole service on this machine. What the
answer's intent says is held against the MIDI file and the audio, read by `played.py`, not by the composer's
code: who plays and who does not, metre, tempo, key, length, sections, loops, fades, form of delivery. What the intent
says that it is not followed is counted apart. Where a prompt asks for no length, twelve seconds are.

Ends in one JSON document, and in an error where a share is below its threshold:
`intent_played.py [--quick] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import httpx
import soundfile

from benchmarks.document import about, publish
from benchmarks.intent import LANGUAGES, SETS, prompts_of
from benchmarks.judging import (
    LENGTH_S,
    Answer,
    Finding,
    asks_length,
    body_of,
    compose_only,
    judge,
    opposite_energy,
)
from benchmarks.played import read_midi
from benchmarks.serve_latency import ENVIRONMENT, service
from orchestrion.models.composer.model import Composer
from orchestrion.trust.signing import Signer
from serve_app.config import read_config

#: Fields whose share is one: few prompts change their key.
_TOGETHER: Final = {"key_end": "key"}
#: What a share must be at least, of what is asked and not told as not followed.
THRESHOLDS: Final = {
    "exclude": 1.0, "metre": 1.0, "ensemble": 1.0, "instruments": 1.0, "duration_s": 1.0, "tempo_bpm": 0.95,
    "tempo_in_sound": 0.95, "tempo_end_bpm": 0.95, "key": 0.92, "bars": 1.0, "sections": 1.0,
    "loop": 1.0, "style": 1.0, "channels": 1.0, "format": 1.0, "sample_rate_hz": 1.0, "fade_in_s": 1.0,
    "fade_out_s": 1.0, "loudness_lufs": 0.95, "dynamics": 1.0, "energy": 1.0, "mood": 1.0,
}  # fmt: skip


def chosen_prompts(*, quick: bool) -> list[Mapping[str, Any]]:
    """Every second prompt of each language; quick: every thirteenth of those."""
    everything = [prompt for language in LANGUAGES for prompt in prompts_of(language, SETS["tuned"])[::2]]
    return everything[::13] if quick else everything


def ask(client: httpx.Client, number: int, prompt: Mapping[str, Any]) -> Answer | str:
    """One prompt's track, its score and its sound; or why it is refused."""
    understood = client.post("/v1/intent", json={"prompt": prompt["prompt"]})
    if understood.status_code == 422:
        return understood.text
    intent = understood.raise_for_status().json()
    body = body_of(number, prompt, intent)
    made = client.post("/v1/tracks", json=body)
    if made.status_code == 422:
        return made.text
    told = made.raise_for_status().json()
    score = client.get(told["links"]["midi"]).raise_for_status().content
    contrary = None
    if (opposite := opposite_energy(intent)) is not None:
        other = client.post("/v1/tracks", json=body | {"energy": opposite}).raise_for_status().json()
        contrary = read_midi(client.get(other["links"]["midi"]).raise_for_status().content)
    sound = client.get(told["links"]["audio"]).raise_for_status().content
    with soundfile.SoundFile(io.BytesIO(sound)) as file:
        rate_hz, container = file.samplerate, file.format
        audio = file.read(dtype="float32", always_2d=True)
    score_of = read_midi(score)
    return Answer(
        prompt["id"], prompt["prompt"], told["intent"], told["record"], score_of, audio, rate_hz, container, contrary
    )


def shares(findings: Sequence[tuple[str, Finding]]) -> dict[str, dict[str, object]]:
    """Of each field: how often it is asked, how often it is played, how often not and told."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for _, found in findings:
        counts[_TOGETHER.get(found.field, found.field)][
            "told" if found.told else "wrong" if found.faults else "right"
        ] += 1
    table: dict[str, dict[str, object]] = {}
    for field, of_field in sorted(counts.items()):
        measured = of_field["right"] + of_field["wrong"]
        share = of_field["right"] / measured if measured else 1.0
        table[field] = {"asked": measured + of_field["told"], "told": of_field["told"], "right": of_field["right"],
                        "share": round(share, 4), "threshold": THRESHOLDS.get(field, 1.0)}  # fmt: skip
    return table


def report(prompts: Sequence[Mapping[str, Any]], answers: Sequence[Answer | str]) -> dict[str, object]:
    """The figures, what is not played as it is said, and whether all shares are high enough."""
    findings = [(answer.id, found) for answer in answers if isinstance(answer, Answer) for found in judge(answer)]
    table = shares(findings)
    texts = {prompt["id"]: prompt["prompt"] for prompt in prompts}
    missed = [
        {"id": name, "prompt": texts[name], "field": found.field, "value": found.value, "is": list(found.faults)}
        for name, found in findings
        if found.faults and not found.told
    ]
    return {
        "prompts": len(prompts),
        "length_asked_for_by": sum(isinstance(each, Answer) and asks_length(each.intent) for each in answers),
        "other_length_s": LENGTH_S,
        "refused": {one["id"]: each for one, each in zip(prompts, answers, strict=True) if isinstance(each, str)},
        "fields": table,
        "missed": missed,
        "below_threshold": [
            name for name, row in table.items() if float(str(row["share"])) < THRESHOLDS.get(name, 1.0)
        ],
    }


def main() -> int:
    """Ask, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="24 prompts instead of 300")
    parser.add_argument("--score", action="store_true", help="no service and no sound, only the scores")
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    options = parser.parse_args()
    prompts = chosen_prompts(quick=options.quick)
    if options.score:
        answers = [compose_only(composer, n, one) for composer in (Composer(),) for n, one in enumerate(prompts)]
    else:
        if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
            os.execve(sys.executable, sys.orig_argv, os.environ | ENVIRONMENT)
        answers = through_http(prompts)
    found = report(prompts, answers)
    document = about((__doc__ or "").splitlines()[0], quick=options.quick) | {"scores_only": options.score} | found
    publish(document, options.out)
    return 1 if found["below_threshold"] else 0


def through_http(prompts: Sequence[Mapping[str, Any]]) -> list[Answer | str]:
    """All prompts asked of a service that is up for them, two at a time."""
    with tempfile.TemporaryDirectory(prefix="intent-played-") as folder:
        Signer.create(f"{folder}/key.pem")
        places = {"store_url": f"{folder}/store", "signing_key_path": f"{folder}/key.pem"}
        with service(read_config(places, {})) as client, ThreadPoolExecutor(2) as threads:
            return list(threads.map(ask, repeat(client), range(len(prompts)), prompts))


if __name__ == "__main__":
    sys.exit(main())
