"""How long a catalog of 1,000,000 rows takes to be planned, and to be planned again when its job is resumed.

Both sides read the same catalog, each step in a process of its own, up to the moment at which the first shard could be
given to a worker: the bytes are hashed, rows are read and validated, shards are cut and named, what is committed is
listed and what is open is counted. "first" finds an empty folder; for "resumed" nine of ten shards lie there under
their names. The baseline is the release before plans were kept, in a worktree, with `--baseline-rows` of the same rows
(default: all); seconds are given for a million rows of either. Shards must have the same names on both sides, or the
program fails. The driver's peak memory is its own; that of its largest planning process stands beside it.

The catalog's prompts are numbered takes of some hundred, as a library orders them. "worded" is planned for the first
time with prompts of which each has other words, so that nothing that was read of one helps with the next.

The ceilings: reading and hashing the bytes alone, and parsing each line as JSON and doing nothing with it.

    .venv/bin/python -m benchmarks.catalog_plan [--quick] [--out benchmarks/results/catalog_plan.json]
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

#: The release before plans were kept.
BASELINE: Final = "e3d1ff0"
ROWS: Final = 1_000_000
QUICK_ROWS: Final = 20_000
#: Each with other words: no more are needed for a figure by the row, and there are not many more.
WORDED_ROWS: Final = 60_000
#: Of ten shards, as a run leaves them that was stopped near its end.
COMMITTED: Final = 9
ROOT: Final = Path(__file__).resolve().parents[1]
MIB: Final = 2**20
STYLES: Final = ("lofi", "piano", "house", "jazz", "folk", "synthwave", "celtic", "reggae", "ambient", "funk")
MOODS: Final = ("calm", "sad", "happy", "dark", "dreamy", "epic")
PLACES: Final = ("rainy nights", "a long drive", "the morning", "an empty hall", "late trains", "the sea")
PLAYERS: Final = ("flute", "cello", "violin", "organ", "harp", "banjo", "trumpet", "marimba", "oboe", "accordion")
ENDS: Final = ("slow", "fast", "quiet", "loud", "no drums", "no bass", "short", "warm", "a little odd", "for children")


def numbered_take(number: int) -> str:
    """One of a million takes of 360 prompts."""
    style, mood = STYLES[number % len(STYLES)], MOODS[number // 7 % len(MOODS)]
    return f"{mood} {style} for {PLACES[number // 3 % len(PLACES)]}, take {number // 100}"


def worded(number: int) -> str:
    """One of 60,000 prompts that differ in their words; neighbours differ in most of them."""
    number = number * 7919 % WORDED_ROWS
    chosen = []
    for words in (STYLES, MOODS, PLACES, PLAYERS, ENDS, ("", "please")):
        number, at = divmod(number, len(words))
        chosen.append(words[at])
    style, mood, place, player, end, please = chosen
    return f"{mood} {style} with {player} for {place}, {end} {please}".strip()


def write_catalog(path: Path, rows: int, prompt: Callable[[int], str] = numbered_take) -> None:
    """Rows as a library of music orders them: each another prompt, of three lengths; one of a hundred is wrong."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {
                "row_id": f"song-{number:07d}",
                "title": f"Song number {number}",
                "requester": f"label-{number % 40}",
                "prompt": prompt(number),
                "seed": number,
                "duration_s": "long" if number % 100 == 50 else (15.0, 30.0, 90.0)[number % 3],
                "format": "flac",
            }
            file.write(json.dumps(row) + "\n")


# In a process of one side


def probe(catalog: str, out: str) -> None:
    """Run in a side's own process: plan, and print as one JSON line what that took and what the shards are called."""
    from batch_jobs.options import RenderOptions
    from batch_jobs.planning.job import read_job
    from batch_jobs.planning.plan import Plan
    from batch_jobs.rendering.malloc_tuning import share_one_arena
    from orchestrion.clock import SystemClock
    from orchestrion.storage.object_store import Objects
    from orchestrion.trust.signing import Signer

    # As the command of either side does.
    share_one_arena()
    key = Path(out).with_name("key.pem")
    signer = Signer.load(key) if key.exists() else Signer.create(key)
    options = RenderOptions(catalog=catalog, out=out, signing_key_path=str(key))
    took_s: dict[str, float] = {}
    before = resource.getrusage(resource.RUSAGE_SELF)

    def timed(name: str, call: Callable[[], Any]) -> object:
        started_s = time.perf_counter()
        result = call()
        took_s[name] = round(time.perf_counter() - started_s, 3)
        return result

    with Plan() as plan:
        given: dict[str, Any] = {
            "options": options,
            "config": options.render_config(),
            "signer": signer,
            "objects": Objects(options.ledger_url),
            "plan": plan,
            "clock": SystemClock(),
        }
        # The baseline keeps nothing, and so needs no key.
        arguments = {name: given[name] for name in inspect.signature(read_job).parameters}
        job: Any = timed("read and planned", lambda: read_job(**arguments))
        # As often as the command asks: before it begins, and for the progress of what was done before.
        timed("open rows counted", lambda: (job.open_rows(), job.rows - job.open_rows()))
        timed("first shard", lambda: next(plan.open_shards(), None))
        own, planners = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        # Shards of refused rows are called by their lines since the baseline: they are not compared.
        of_tracks = [shard.name for shard in plan.open_shards()]
        names = [*of_tracks, *(shard.name for shard in plan.open_refused())]
        found = {
            "took_s": took_s,
            "seconds": round(sum(took_s.values()), 3),
            "own_cpu_s": round(own.ru_utime + own.ru_stime - before.ru_utime - before.ru_stime, 3),
            "planners_cpu_s": round(planners.ru_utime + planners.ru_stime, 3),
            "peak_mib": round(own.ru_maxrss * 1024 / MIB, 1),
            "planner_peak_mib": round(planners.ru_maxrss * 1024 / MIB, 1),
            "rows": job.rows,
            "job_id": job.folder.job_id,
            "open_shards": len(names),
            "names_sha256": hashlib.sha256("".join(of_tracks).encode()).hexdigest(),
        }
        Path(out).with_name("names.json").write_text(json.dumps(names), encoding="utf-8")
    print(json.dumps(found))


def ceilings(catalog: str) -> dict[str, float]:
    """What no program that reads the catalog can be faster than, in seconds."""
    started_s = time.perf_counter()
    digest = hashlib.sha256()
    with Path(catalog).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    hashed_s = time.perf_counter()
    with Path(catalog).open("rb") as file:
        for line in file:
            json.loads(line)
    return {
        "bytes hashed": round(hashed_s - started_s, 3),
        "lines parsed as JSON": round(time.perf_counter() - hashed_s, 3),
    }


# Outside of it


def measured(code: Path, catalog: Path, folder: Path) -> dict[str, Any]:
    """One side: planned, then resumed with most shards committed."""
    folder.mkdir()
    first = _probed(code, catalog, folder / "out")
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    shards = folder / "out" / "jobs" / first["job_id"] / "shards"
    shards.mkdir(parents=True)
    for number, name in enumerate(names):
        # A listing does not look into them.
        if number % 10 < COMMITTED:
            (shards / f"{name}.parquet").touch()
    resumed = _probed(code, catalog, folder / "out")
    kept = sum(file.stat().st_size for file in (shards.parent / "plan").rglob("*") if file.is_file())
    return {"first": first, "resumed": resumed, "kept_bytes_per_row": round(kept / first["rows"], 1)}


def _probed(code: Path, catalog: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--probe", str(catalog), str(out)]
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=code, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Each step of both sides: seconds on the clock and of the CPU for a million rows, and how many times as fast."""
    return {step: step_of({"before": before[step], "after": after[step]}) for step in ("first", "resumed")}


def step_of(sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One step of both sides."""
    seconds = {name: side["seconds"] / side["rows"] * 1e6 for name, side in sides.items()}
    # On a busy machine the clock runs for others, too.
    cpu_s = {name: (side["own_cpu_s"] + side["planners_cpu_s"]) / side["rows"] * 1e6 for name, side in sides.items()}
    return {
        "s_per_million_rows": {name: round(value, 2) for name, value in seconds.items()},
        "cpu_s_per_million_rows": {name: round(value, 2) for name, value in cpu_s.items()},
        "times_as_fast": round(seconds["before"] / seconds["after"], 1),
        "of_the_cpu": round(cpu_s["before"] / cpu_s["after"], 1),
    }


def same_shards(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether both sides call the same shards of tracks the same, in the same order, at both steps."""
    return all(before[step]["names_sha256"] == after[step]["names_sha256"] for step in ("first", "resumed"))


def main() -> int:
    """Measure both sides and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows: shows that it works")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the catalog")
    parser.add_argument("--baseline-rows", type=int, help="of the baseline's catalog, where it would take too long")
    parser.add_argument("--before", default=BASELINE, help="the baseline's revision")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--probe", nargs=2, metavar=("CATALOG", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        probe(*arguments.probe)
        return 0
    # Here, because the other revision, in which probes run too, need not have it.
    from benchmarks.before_after import worktree
    from benchmarks.document import machine_now, publish

    rows = QUICK_ROWS if arguments.quick else arguments.rows
    baseline_rows = min(arguments.baseline_rows or rows, rows)
    with tempfile.TemporaryDirectory(prefix="catalog-plan-") as name, worktree(arguments.before) as code:
        # In a folder of its own, which the signing key must not be in.
        folder, catalog = Path(name), Path(name) / "songs" / "songs.jsonl"
        catalog.parent.mkdir()
        write_catalog(catalog, baseline_rows)
        before = measured(code, catalog, folder / "before")
        # Of the same rows first: what is called the same must be compared.
        after = measured(ROOT, catalog, folder / "after")
        if not same_shards(before, after):
            raise SystemExit("the two sides do not cut the same shards")
        if baseline_rows < rows:
            write_catalog(catalog, rows)
            after = measured(ROOT, catalog, folder / "after-all")
        ceiling_s = ceilings(str(catalog))
        size = catalog.stat().st_size
        write_catalog(catalog, min(rows, WORDED_ROWS), worded)
        in_words = {}
        for name, side in (("before", code), ("after", ROOT)):
            (folder / f"worded-{name}").mkdir()
            in_words[name] = _probed(side, catalog, folder / f"worded-{name}" / "out")
    document = {
        "benchmark": "catalog_plan",
        "question": (__doc__ or "").splitlines()[0],
        "quick": arguments.quick,
        "machine": machine_now(),
        "baseline": arguments.before,
        "rows": rows,
        "baseline_rows": baseline_rows,
        "catalog_bytes": size,
        "before": before,
        "after": after,
        "ceiling_s": ceiling_s,
        **compared(before, after),
        "worded": in_words | step_of(in_words),
    }
    publish(document, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
