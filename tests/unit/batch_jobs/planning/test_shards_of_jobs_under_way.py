"""Jobs that were begun by an earlier release: their shards have the names, the rows and the order that they had there.

The hashes below are of the release in which words of prompts became fields. A job whose shards had other names would
render everything again. What is read of words grows from release to release, and with it what is rendered: prompts here
say nothing beyond a tempo and a length.
"""

import csv
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.options import RenderOptions
from batch_jobs.planning.job import catalog_into
from batch_jobs.planning.plan import Plan

PROMPTS = (
    "take one", "take two, 80 bpm", "take three, 20 seconds", "take four, 90 seconds", "take five",
    "take “six” é 🎵", "", "take seven, 120 seconds", "take eight", "x" * 2001, "take nine, 900 seconds", "take ten",
)  # fmt: skip
#: What else rows may say, each at its own interval of rows: so nearly every pair of them meets.
ALSO = (
    (2, "duration_s", (1, 2.5, 7, 29, 59, 119, 200, 600, 601, 0.5)), (3, "title", ("T", "Ünïcode", "a" * 501, "7")),
    (5, "model", ("composer", "lab/large", "bad model!")), (7, "format", ("wav", "flac", "opus", "doc")),
    (11, "requester", ("a@b", "label-1", "?")), (13, "style", ("jazz", "Lo-Fi", "nope")), (17, "guidance", (3.0,)),
    (19, "theme", ("themes/a.mid", "themes/none.mid", "sha256:" + "a" * 64, "../x")), (23, "temperature", (1.0, 3.0)),
    (29, "fade_out_s", (0.0, -0.0, 1.5, 30.0)), (31, "key", ("D minor", "H", "Eb")), (37, "purpose", ("research",)),
)  # fmt: skip


def row(number):
    found = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number * 7 % 60}
    if number % 4:
        found["row_id"] = f"r{number - 40 * (number % 50 == 43)}"
    for every, name, values in ALSO:
        if number % every == 1:
            found[name] = values[number // every % len(values)]
    return found


@pytest.fixture
def catalogs(tmp_path):
    """The same rows in three forms, and a folder with a theme beside them."""
    rows = [row(number) for number in range(2400)]
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "a.mid").write_bytes(b"MThd")
    lines = [json.dumps(each) for each in rows[:1500]]
    lines[700:700] = ["{broken", "", '{"prompt": "take one", "row_id": "r1"}']
    (tmp_path / "songs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = sorted({name for each in rows for name in each})
    with (tmp_path / "songs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(names)
        for each in rows[1500:2000]:
            cells = (each.get(name, "") for name in names)
            writer.writerow(str(cell).replace(".", ",") if isinstance(cell, float) else cell for cell in cells)
    (tmp_path / "parts").mkdir()
    for number in range(2):
        part = rows[2000 + 200 * number : 2200 + 200 * number]
        columns = {name: [each.get(name) for each in part] for name in names}
        pq.write_table(pa.table(columns), tmp_path / "parts" / f"{number}.parquet")
    same = (json.dumps({"prompt": "same", "row_id": f"x{number}"}) for number in range(1100))
    (tmp_path / "same.jsonl").write_text("\n".join(same), encoding="utf-8")
    return tmp_path


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def shards(plan):
    named = ("line", "row_id", "title", "spec")
    return [
        [
            each.name,
            each.model,
            each.requests,
            round(each.audio_s, 6),
            [{n: row[n] for n in named} for row in each.rows],
        ]
        for each in plan.open_shards()
    ]


def refused(plan):
    named = ("line", "row_id", "title", "message", "requester", "model", "style")
    return [[[getattr(row, name) for name in named] for row in each.rows] for each in plan.open_refused()]


def planned(options):
    """What there is of the plan, and hashes of its shards, of those that can only fail, and of a second round's."""
    with Plan() as plan:
        catalog_into(plan, options, lambda data: "sha256:" + hashlib.sha256(data).hexdigest())
        first = [plan.rows, plan.refused, plan.requests, len(shards(plan)), digest(shards(plan)), digest(refused(plan))]
        plan.begin_round(2, range(1, 800, 3))
        return [*first, digest(shards(plan))]


#: Rows, refused ones, different tracks, shards; the shards; those that can only fail; the shards of a second round.
GOLDEN = {
    "json": [1502, 827, 160, 43, "45973cbb84f500e8", "afe88f4a6bbcbe7f", "f2d4c0ae130d8989"],
    "other-models": [1502, 827, 160, 54, "21dc2b983f7372df", "af74619214f43251", "04d02146a02aa123"],
    "sample": [187, 0, 55, 16, "8eec4b377d75d47a", "4f53cda18c2baa0c", "07f07d803c589890"],
    "csv": [500, 273, 88, 24, "a0328458b111c560", "2418d8974d1357cc", "ef67148553b544b6"],
    "parquet": [400, 223, 81, 23, "d7937a97ff86bb5b", "513dcf34c4c20a93", "cb929154f505df2b"],
    "same": [1100, 0, 1, 2, "90fbb9ed8f72c0bd", "4f53cda18c2baa0c", "24d1579b73711043"],
}


@pytest.mark.parametrize(
    "name, options",
    [
        ("songs.jsonl", {}),
        ("songs.jsonl", {"models": ("lab/large", "composer"), "max_workers": 2, "batch_size": 2}),
        ("songs.jsonl", {"sample": 0.4, "limit": 1000}),
        ("songs.csv", {}),
        ("parts", {}),
        ("same.jsonl", {"max_workers": 1}),
    ],
    ids=("json", "other-models", "sample", "csv", "parquet", "same"),
)
def test_a_job_has_the_shards_that_it_had(request, catalogs, name, options):
    found = planned(RenderOptions(catalog=str(catalogs / name), out=str(catalogs / "out"), **options))

    assert found == GOLDEN[request.node.callspec.id]
