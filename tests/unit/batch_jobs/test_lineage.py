"""Which tracks came from what, against a plain search of the same rows; and the command as another command reads it."""

import json
import os
import subprocess
import sys
from datetime import date

import pyarrow.dataset as ds
import pytest

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.lineage import Origin, deliveries, main
from orchestrion.errors import InvalidRequest
from orchestrion.storage.selection import prompt_sha256
from tests.unit.batch_jobs.sample_ledger import HOSTILE, REFERENCES, sample  # noqa: F401 (fixture)

THEME, CONTINUATION = REFERENCES


def day(row):
    return row["settled_at"].date()


@pytest.mark.parametrize(
    "origin, matches",
    [
        (Origin(model_revision="r1"), lambda row: row["model_revision"] == "r1"),
        (Origin(model_revision="sha256:r1"), lambda row: row["model_revision"] == "r1"),
        (Origin(prompt_sha256=prompt_sha256(HOSTILE)), lambda row: row["prompt"] == HOSTILE),
        (Origin(reference=THEME), lambda row: row["theme"] == THEME),
        (Origin(reference=CONTINUATION), lambda row: row["continuation"] == CONTINUATION),
        (Origin(requester="a"), lambda row: "a" in (row["requested_by"], row["requester"])),
        (Origin(job_id="job-2"), lambda row: row["job_id"] == "job-2"),
        (Origin(track_id="trk_job-11"), lambda row: row["track_id"] == "trk_job-11"),
        (Origin(since=date(2026, 1, 2)), lambda row: day(row) >= date(2026, 1, 2)),
        (Origin(until=date(2026, 1, 2)), lambda row: day(row) <= date(2026, 1, 2)),
        (
            Origin(model_revision="r2", requester="b", since=date(2026, 1, 2), until=date(2026, 1, 2)),
            lambda row: (
                row["model_revision"] == "r2"
                and "b" in (row["requested_by"], row["requester"])
                and day(row) == date(2026, 1, 2)
            ),
        ),
    ],
    ids=lambda value: "" if callable(value) else None,
)
def test_exactly_the_tracks_that_meet_every_condition_are_found(sample, origin, matches):  # noqa: F811
    expected = sorted((row["job_id"], row["line"]) for row in sample.tracks if matches(row))
    assert 0 < len(expected) < len(sample.tracks), "the sample cannot tell right from wrong"

    found = sorted((row["job_id"], row["line"]) for row in deliveries(sample.url, origin))

    assert found == expected


def test_a_range_of_days_opens_only_the_files_of_these_days(sample):  # noqa: F811
    tracks = ledger_dataset(sample.url, {}, "tracks")
    one_day = Origin(since=date(2026, 1, 2), until=date(2026, 1, 2))

    opened = [fragment.path for fragment in tracks.get_fragments(filter=one_day.filter())]

    assert opened and all("/tracks/2026-01-02/" in path for path in opened)
    assert len(opened) < len(list(tracks.get_fragments(filter=ds.scalar(True))))


def test_a_prompt_is_found_however_it_is_typed(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--prompt", "  ein Lied fu\u0308r Ægir\r\n", "--format", "ids"]) == 0

    expected = {row["track_id"] for row in sample.tracks if row["prompt"] == "ein Lied für Ægir"}
    assert set(capsys.readouterr().out.split()) == expected


def test_ids_are_what_a_takedown_reads_each_once_and_nothing_else(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--requester", "b", "--format", "ids"]) == 0

    lines = capsys.readouterr().out.splitlines()
    of_b = [row["track_id"] for row in sample.tracks if "b" in (row["requested_by"], row["requester"])]
    assert lines == sorted(set(of_b)) and len(of_b) > len(lines)


def test_jsonl_tells_each_delivery_with_what_it_came_from(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--job", "job-1", "--format", "jsonl"]) == 0

    told = {row["line"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    rows = [row for row in sample.tracks if row["job_id"] == "job-1"]
    assert len(told) == len(rows)
    for row in rows:
        same = told[row["line"]]
        assert all(same[name] == row[name] for name in ("track_id", "prompt", "theme", "requested_by", "model"))
        assert same["settled_at"].startswith(day(row).isoformat())


def test_the_table_never_cuts_a_track_id_and_obeys_no_text(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--job", "job-1"]) == 0

    out = capsys.readouterr().out
    assert all(row["track_id"] in out for row in sample.tracks if row["job_id"] == "job-1")
    assert "\x1b[2J" not in out and "[/red]" in out


def test_nothing_found_is_exit_code_1_and_prints_nothing(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--job", "job-9", "--format", "ids"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", ["ids", "jsonl", "table"])
def test_whoever_reads_only_the_head_ends_it_quietly(sample, form):  # noqa: F811
    command = [sys.executable, "-m", "batch_jobs.lineage", "--ledger", sample.url, "--since", "2000-01-01"]
    reader, writer = os.pipe()
    os.close(reader)  # As of `head`, which has ended.
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run([*command, "--format", form], stdout=out, stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "name what the tracks came from"),
        (["--prompt-sha256", "abc"], "64 lower-case hex digits"),
        (["--reference", "theme.mid"], "sha256:"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "is before --since"),
        (["--prompt", " "], "prompt"),
        (["--model-revision", "r3"], "is the revision of no track; the nearest are r2, r1"),
    ],
)
def test_what_no_track_can_have_come_from_is_exit_code_2(sample, capsys, arguments, said):  # noqa: F811
    assert main(["--ledger", sample.url, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_no_ledger_is_exit_code_2(tmp_path, capsys):
    assert main(["--ledger", str(tmp_path), "--job", "x"]) == 2
    assert "no ledger" in capsys.readouterr().err


def test_a_prompt_that_no_request_can_have_is_refused():
    with pytest.raises(InvalidRequest, match="prompt"):
        prompt_sha256("\x00")
