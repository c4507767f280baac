"""What public taggers hear of each style, today and before.

    .venv/bin/python -m benchmarks.styles [--before REVISION] [--only metal,funk] [--yamnet FOLDER] [--quick] [--out F]

Each style is asked for by its name as a prompt, in several takes, of this checkout and of another revision (a worktree;
a style that it lacks is what its words gave then). The judges know nothing of the composer: MusiCNN with two sets of
weights (benchmarks/musicnn.py says how to install it), and YAMNet where its files are given. `style_tags.json` says
which of their tags mean which style; it was written from the tag lists, before the first judgement. Per style and
judge: how likely those tags are heard, and at which place it stands among all styles for them (1: it sounds most like
what it is called). A judge without a tag for a style says nothing of it.

Few takes differ by chance. A style that seems to be heard worse is therefore rendered again, in more takes that nobody
has listened to, and is called worse only if these say so as well, beyond twice their standard error (`again` in its
row). Where the other revision had no such style, `played_before` says what its words gave then: that is compared too.

The measurement is checked first: a judge must give the same answer twice, and must hear something else in noise. Ends
in one JSON document; exits with 1 where a style is heard worse than before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

TAKES: Final = 3
#: … and of those that seem to be worse: others than the first.
MORE_TAKES: Final = 12
QUICK_MORE_TAKES: Final = 4
CLIP_S: Final = 16.0
QUICK_CLIP_S: Final = 9.0
RATE_HZ: Final = 16_000
LOUDNESS_LUFS: Final = -14.0
#: Likelihoods of takes differ by chance: a style seems worse when its own tags lose more than this in the mean.
NOISE: Final = 0.01
#: … and is worse when they do so in more takes, and lose more than so many standard errors of the difference.
ERRORS: Final = 2.0
TAGS: Final = Path(__file__).with_name("style_tags.json")

#: [samples] at `RATE_HZ`.
Mono = npt.NDArray[np.float32]


class Judge(Protocol):
    """A tagger of music."""

    def hear(self, mono: Mono) -> dict[str, float]:
        """How likely each tag is."""


@dataclass(frozen=True, slots=True)
class Clips:
    """What one revision played: the takes of each style, and the style that it says each take is in."""

    takes: Mapping[str, Sequence[Mono]]
    played: Mapping[str, Sequence[str]]


#: What a judge says of a style: for each take, how likely each tag is.
Heard = Mapping[str, Sequence[Mapping[str, float]]]


def render(folder: str, first: str, takes: str, clip_s: str, *styles: str) -> None:
    """Compose and master the takes of `styles` with the code that this process imports, into `folder`."""
    import soxr

    from orchestrion.audio.mastering import FinishSpec, finish
    from orchestrion.models.composer.model import Composer
    from orchestrion.models.protocol import Conditioning
    from orchestrion.tracks.spec import TrackSpec

    composer = Composer()
    played: dict[str, list[str]] = {style: [] for style in styles}
    for style in styles:
        for take in range(int(first), int(first) + int(takes)):
            asked = {"prompt": style, "duration_s": float(clip_s), "seed": take, "loudness_lufs": LOUDNESS_LUFS}
            request = TrackSpec.from_json(asked).resolve()
            performance = composer.perform(Conditioning.of(request.composition, None, None))
            raw = np.concatenate(list(performance.chunks))
            master = finish(raw, composer.info.sample_rate_hz, FinishSpec.of(request))
            mono = soxr.resample(master.mean(1), request.delivery.sample_rate_hz, RATE_HZ)
            np.save(Path(folder) / f"{style}-{take}.npy", mono.astype(np.float32))
            played[style].append(str(performance.choices["style"]))
    (Path(folder) / "played.json").write_text(json.dumps(played), encoding="utf-8")


def rendered(code: Path, takes: range, clip_s: float, styles: Sequence[str]) -> Clips:
    """The clips of each style, made by the checkout at `code` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with tempfile.TemporaryDirectory(prefix="styles-") as name:
        probe = [str(Path(__file__)), "--render", name, str(takes.start), str(len(takes)), str(clip_s), *styles]
        subprocess.run([sys.executable, *probe], cwd=code, env=environment, check=True)
        clips = {style: [np.load(Path(name) / f"{style}-{take}.npy") for take in takes] for style in styles}
        return Clips(clips, json.loads((Path(name) / "played.json").read_text(encoding="utf-8")))


def judgement(
    judge: Judge, clips: Mapping[str, Sequence[Mono]], known: dict[bytes, dict[str, float]]
) -> dict[str, list[dict[str, float]]]:
    """Style → for each take, how likely each tag is; a clip that is in `known` is not listened to again."""
    heard: dict[str, list[dict[str, float]]] = {}
    for style, takes in clips.items():
        heard[style] = []
        for take in takes:
            name = hashlib.sha256(take.tobytes()).digest()
            if name not in known:
                known[name] = judge.hear(take)
            heard[style].append(known[name])
    return heard


def means(answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How likely each tag is over the takes of a style."""
    return {tag: statistics.fmean(answer[tag] for answer in answers) for tag in answers[0]}


def likelihood(heard: Mapping[str, float], tags: Sequence[str]) -> float:
    """That at least one of `tags` is meant, if each is judged on its own."""
    return 1 - float(np.prod([1 - heard[tag] for tag in tags]))


def place(style: str, heard: Mapping[str, Mapping[str, float]], tags: Sequence[str]) -> int:
    """1 where no other style has more of `tags`."""
    own = likelihood(heard[style], tags)
    return 1 + sum(likelihood(other, tags) > own for name, other in heard.items() if name != style)


def compare(expected: Mapping[str, Sequence[str]], before: Heard, today: Heard) -> dict[str, dict[str, object]]:
    """One judge's row for each style that it has a tag for."""
    then = {style: means(answers) for style, answers in before.items()}
    now = {style: means(answers) for style, answers in today.items()}
    rows = {}
    for style, tags in expected.items():
        if not tags or style not in now:
            continue
        loudest = sorted(now[style], key=lambda tag: -now[style][tag])[:5]
        rows[style] = {
            "tags": list(tags),
            "before": round(likelihood(then[style], tags), 3),
            "today": round(likelihood(now[style], tags), 3),
            "place_before": place(style, then, tags),
            "place_today": place(style, now, tags),
            "heard_today": {tag: round(now[style][tag], 2) for tag in loudest},
        }
    return rows


def look_again(
    tags: Sequence[str], before: Sequence[Mapping[str, float]], today: Sequence[Mapping[str, float]]
) -> dict[str, object]:
    """What more takes say of a style that seemed to be worse: the means, the error of their difference, the verdict."""
    then, now = ([likelihood(answer, tags) for answer in answers] for answers in (before, today))
    error = math.hypot(*(statistics.stdev(each) / math.sqrt(len(each)) for each in (then, now)))
    lost = statistics.fmean(then) - statistics.fmean(now)
    return {
        "takes": len(now),
        "before": round(statistics.fmean(then), 3),
        "today": round(statistics.fmean(now), 3),
        "standard_error": round(error, 3),
        "is_worse": lost > NOISE and lost > ERRORS * error,
    }


def check(judge: Judge, clip: Mono) -> None:
    """A judge answers the same twice, and hears noise as something else."""
    once, twice = judge.hear(clip), judge.hear(clip)
    noise = judge.hear((0.1 * np.random.default_rng(0).standard_normal(len(clip))).astype(np.float32))
    if once != twice or max(abs(once[tag] - noise[tag]) for tag in once) < 0.1:
        raise SystemExit("the tagger hears no difference between music and noise, or changes its mind")


def suspects(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The styles that a judge seems to hear less well than before."""
    return [style for style, row in rows.items() if row["today"] < row["before"] - NOISE]


def worse(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The styles that a judge hears less well than before, in the takes of the second look as well."""
    return [style for style, row in rows.items() if "again" in row and row["again"]["is_worse"]]


def judged(
    judges: Mapping[str, Judge],
    expected: Mapping[str, Mapping[str, Sequence[str]]],
    play: Callable[[range, Sequence[str]], tuple[Clips, Clips]],
    takes: range,
    more_takes: range,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Each judge's rows for the styles of `expected`; `play` renders takes of styles before and today."""
    before, today = play(takes, list(expected))
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name, judge in judges.items():
        check(judge, next(iter(today.takes.values()))[0])
        tags = {style: meant.get(name.split()[-1], []) for style, meant in expected.items()}
        known: dict[bytes, dict[str, float]] = {}
        rows[name] = compare(tags, judgement(judge, before.takes, known), judgement(judge, today.takes, known))
        for style, row in rows[name].items():
            if set(before.played[style]) != {style}:
                row["played_before"] = list(before.played[style])
    again = [style for style in expected if any(style in suspects(found) for found in rows.values())]
    if again:
        before, today = play(more_takes, again)
        for name, judge in judges.items():
            for style in set(again) & set(suspects(rows[name])):
                sides = (judgement(judge, {style: side.takes[style]}, {})[style] for side in (before, today))
                rows[name][style]["again"] = look_again(rows[name][style]["tags"], *sides)
    return rows


def main() -> int:
    """Render both sides, ask every judge, print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD", help="the revision to compare with (default: the last commit)")
    parser.add_argument("--quick", action="store_true", help="one short take of each style")
    parser.add_argument("--only", help="these styles alone, with commas; places are then among them")
    parser.add_argument("--yamnet", type=Path, help="a folder with YAMNet's files: one judge more")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--render", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.render:
        render(*options.render)
        return 0
    # Here, because the other revision, in which styles are rendered too, need not have them.
    from benchmarks.before_after import ROOT, worktree
    from benchmarks.document import machine_now, publish
    from benchmarks.musicnn import TRAINED_ON, Tagger, is_installed
    from benchmarks.yamnet import Yamnet

    judges: dict[str, Judge] = {f"MusiCNN {name}": Tagger(name) for name in TRAINED_ON} if is_installed() else {}
    if options.yamnet:
        judges["YAMNet"] = Yamnet(options.yamnet)
    expected: dict[str, dict[str, list[str]]] = json.loads(TAGS.read_text(encoding="utf-8"))
    if options.only:
        expected = {style: expected[style] for style in options.only.split(",")}
    takes, more, clip_s = (1, QUICK_MORE_TAKES, QUICK_CLIP_S) if options.quick else (TAKES, MORE_TAKES, CLIP_S)
    document: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "machine": machine_now(),
        "takes": takes,
        "clip_s": clip_s,
        "judges": list(judges),
        "quick": options.quick,
    }
    if not judges:
        document["why_none"] = "no tagger is installed: see benchmarks/musicnn.py"
        publish(document, options.out)
        return 0
    with worktree(options.before) as code:

        def play(takes: range, styles: Sequence[str]) -> tuple[Clips, Clips]:
            return rendered(code, takes, clip_s, styles), rendered(ROOT, takes, clip_s, styles)

        rows = judged(judges, expected, play, range(takes), range(takes, takes + more))
    lost = {judge_name: worse(found) for judge_name, found in rows.items()}
    publish(document | {"before": options.before, "styles": rows, "worse": lost}, options.out)
    return 1 if any(lost.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
