"""What public taggers hear of each style, today and before.

    .venv/bin/python -m benchmarks.styles [--before REVISION] [--only metal,funk] [--yamnet FOLDER] [--quick] [--out F]

Each style is asked for by its name as a prompt, in several takes, of this checkout and of another revision (a worktree;
a style that it lacks is what its words gave then). The judges know nothing of the composer: MusiCNN with two sets of
weights (benchmarks/musicnn.py says how to install it), and YAMNet where its files are given. `style_tags.json` says
which of their tags mean which style; it was written from the tag lists, before the first judgement. Per style and
judge: how likely those tags are heard, and at which place it stands among all styles for them (1: it sounds most like
what it is called). A judge without a tag for a style says nothing of it.

The measurement is checked first: a judge must give the same answer twice, and must hear something else in noise. Ends
in one JSON document; exits with 1 where a style is heard worse than before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

TAKES: Final = 3
CLIP_S: Final = 16.0
QUICK_CLIP_S: Final = 9.0
RATE_HZ: Final = 16_000
LOUDNESS_LUFS: Final = -14.0
#: Likelihoods of takes differ by chance: a style is worse when its own tags lose more than this in the mean.
NOISE: Final = 0.01
TAGS: Final = Path(__file__).with_name("style_tags.json")

#: [samples] at `RATE_HZ`.
Mono = npt.NDArray[np.float32]


class Judge(Protocol):
    """A tagger of music."""

    def hear(self, mono: Mono) -> dict[str, float]:
        """How likely each tag is."""


def render(folder: str, takes: str, clip_s: str, *styles: str) -> None:
    """Compose and master the takes of `styles` with the code that this process imports, into `folder`."""
    import soxr

    from orchestrion.audio.mastering import FinishSpec, finish
    from orchestrion.models.composer.model import Composer
    from orchestrion.models.protocol import Conditioning
    from orchestrion.tracks.spec import TrackSpec

    composer = Composer()
    for style in styles:
        for take in range(int(takes)):
            asked = {"prompt": style, "duration_s": float(clip_s), "seed": take, "loudness_lufs": LOUDNESS_LUFS}
            request = TrackSpec.from_json(asked).resolve()
            chunks = composer.perform(Conditioning.of(request.composition, None, None)).chunks
            master = finish(np.concatenate(list(chunks)), composer.info.sample_rate_hz, FinishSpec.of(request))
            mono = soxr.resample(master.mean(1), request.delivery.sample_rate_hz, RATE_HZ)
            np.save(Path(folder) / f"{style}-{take}.npy", mono.astype(np.float32))


def rendered(code: Path, folder: Path, takes: int, clip_s: float, styles: Sequence[str]) -> dict[str, list[Mono]]:
    """The clips of each style, made by the checkout at `code` in a process of its own."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    probe = [str(Path(__file__)), "--render", str(folder), str(takes), str(clip_s), *styles]
    subprocess.run([sys.executable, *probe], cwd=code, env=environment, check=True)
    return {style: [np.load(folder / f"{style}-{take}.npy") for take in range(takes)] for style in styles}


def judgement(
    judge: Judge, clips: Mapping[str, Sequence[Mono]], known: dict[bytes, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Style → tag → mean likelihood over its takes; a clip that is in `known` is not listened to again."""
    heard = {}
    for style, takes in clips.items():
        answers = []
        for take in takes:
            name = hashlib.sha256(take.tobytes()).digest()
            if name not in known:
                known[name] = judge.hear(take)
            answers.append(known[name])
        heard[style] = {tag: statistics.fmean(answer[tag] for answer in answers) for tag in answers[0]}
    return heard


def likelihood(heard: Mapping[str, float], tags: Sequence[str]) -> float:
    """That at least one of `tags` is meant, if each is judged on its own."""
    return 1 - float(np.prod([1 - heard[tag] for tag in tags]))


def place(style: str, heard: Mapping[str, Mapping[str, float]], tags: Sequence[str]) -> int:
    """1 where no other style has more of `tags`."""
    own = likelihood(heard[style], tags)
    return 1 + sum(likelihood(other, tags) > own for name, other in heard.items() if name != style)


def compare(
    expected: Mapping[str, Sequence[str]],
    before: Mapping[str, Mapping[str, float]],
    today: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, object]]:
    """One judge's row for each style that it has a tag for."""
    rows = {}
    for style, tags in expected.items():
        if not tags or style not in today:
            continue
        loudest = sorted(today[style], key=lambda tag: -today[style][tag])[:5]
        rows[style] = {
            "tags": list(tags),
            "before": round(likelihood(before[style], tags), 3),
            "today": round(likelihood(today[style], tags), 3),
            "place_before": place(style, before, tags),
            "place_today": place(style, today, tags),
            "heard_today": {tag: round(today[style][tag], 2) for tag in loudest},
        }
    return rows


def check(judge: Judge, clip: Mono) -> None:
    """A judge answers the same twice, and hears noise as something else."""
    once, twice = judge.hear(clip), judge.hear(clip)
    noise = judge.hear((0.1 * np.random.default_rng(0).standard_normal(len(clip))).astype(np.float32))
    if once != twice or max(abs(once[tag] - noise[tag]) for tag in once) < 0.1:
        raise SystemExit("the tagger hears no difference between music and noise, or changes its mind")


def worse(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The styles that a judge hears less well than before."""
    return [style for style, row in rows.items() if row["today"] < row["before"] - NOISE]


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
    styles = options.only.split(",") if options.only else list(expected)
    takes, clip_s = (1, QUICK_CLIP_S) if options.quick else (TAKES, CLIP_S)
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
    with tempfile.TemporaryDirectory(prefix="styles-") as name, worktree(options.before) as code:
        before = rendered(code, Path(name) / "before", takes, clip_s, styles)
        today = rendered(ROOT, Path(name) / "today", takes, clip_s, styles)
    rows = {}
    for judge_name, judge in judges.items():
        check(judge, next(iter(today.values()))[0])
        family = judge_name.split()[-1]
        tags = {style: expected[style].get(family, []) for style in styles}
        known: dict[bytes, dict[str, float]] = {}
        rows[judge_name] = compare(tags, judgement(judge, before, known), judgement(judge, today, known))
    lost = {judge_name: worse(found) for judge_name, found in rows.items()}
    publish(document | {"before": options.before, "styles": rows, "worse": lost}, options.out)
    return 1 if any(lost.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
