"""A job's folder that others write, too: what is not ours is skipped and named once, and nothing of it decides."""

import hashlib
import io
import json
import logging
import math
import threading
from dataclasses import asdict, replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.job_store.job_folder import CLOCK_SKEW, LEASE_S, MAX_CLAIM_BYTES, MAX_JOURNAL_BYTES, JobFolder
from batch_jobs.job_store.partial_pieces import PartialPieces
from batch_jobs.ledger.tables import SHARD_SCHEMA
from batch_jobs.rendering.worker import COMMITTED
from batch_jobs.settlement.outcomes import shard_table
from batch_jobs.settlement.settlement import charged_usd
from orchestrion.errors import InvalidRequest
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing_keys import have_signing_key
from tests.unit.batch_jobs.committed_job import (
    START,
    CommittedJob,
    attempt,
    failure,
    node,
    noted,
    rendered,
    track,
    worker,
)
from tests.unit.batch_jobs.rendering.test_worker import HeldClock, Workplace

JUNK = {
    "empty": b"",
    "not JSON": b"x",
    "not UTF-8": b"\xff\xfe{}",
    "other fields": b"{}",
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"null",
    "NaN": b'{"reserved_devices": NaN}',
    "deep": b"[" * 100_000,
}
BAD_NAMES = [
    "notes.txt",
    ".hidden.json",
    "W1.json",
    "a/b.json",
    "w 1.json",
    "x" * 60 + ".json",
    "w1.json.bak",
    "..json",
]


@pytest.fixture
def job(tmp_path, clock):
    """A job; its clock stands long after its workers died."""
    clock.reading_s = 100_000.0
    return CommittedJob(tmp_path / "out", clock)


@pytest.fixture
def put(tmp_path):
    """Puts a file into the ledger's folder, as a user with a shell does."""

    def place(key, data=b"x"):
        path = tmp_path / "out" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return place


def said(caplog, name):
    return [message for message in caplog.messages if name in message]


# Journals


@pytest.mark.parametrize("kind", JUNK)
def test_a_junk_journal_stops_no_closing_and_is_named_once(job, put, caplog, kind):
    job.commit("01-a", (1, 20.0))
    job.folder.write_journal(worker("w1"))
    put("jobs/job-1/workers/junk.json", JUNK[kind])

    assert [each.worker_id for each in job.folder.journals()] == ["w1"]
    totals = job.close(rows=1)

    assert (totals.tracks, totals.node_usd) == (1, 100.0)
    assert len(said(caplog, "workers/junk.json")) == 1 and "is skipped" in caplog.text


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_file_with_another_name_is_no_journal(job, put, caplog, name):
    job.folder.write_journal(worker("w1"))
    put(f"jobs/job-1/workers/{name}", (job.objects.read("jobs/job-1/workers/w1.json")))

    for _ in range(3):
        assert [each.worker_id for each in job.folder.journals()] == ["w1"]
    assert job.close().node_usd == 100.0
    assert len(said(caplog, "is skipped")) <= 1


def test_a_huge_journal_is_not_read(job, put):
    put("jobs/job-1/workers/huge.json", b" " * (MAX_JOURNAL_BYTES + 1))
    put("jobs/job-1/claims/01-a/w1.json", b" " * (MAX_CLAIM_BYTES + 1))

    assert job.folder.journals() == [] and job.folder.claims("01-a") == {}


def changed(journal, **values):
    """A journal's bytes with other values, as JSON; "node.x" is a field of its machine, "try.x" of its first try."""
    text = json.loads(json.dumps(asdict(journal), default=lambda moment: moment.isoformat()))
    for name, value in values.items():
        inner, _, field = name.rpartition("__")
        place = {"": text, "node": text["node"], "try": (text["attempts"] or [{}])[0]}[inner]
        place[field] = value
    return json.dumps(text).encode()


@pytest.mark.parametrize(
    "values",
    [
        {"worker_id": "w2"},
        {"run_id": "../../x"},
        {"reserved_devices": -1.0},
        {"reserved_devices": math.nan},
        {"reserved_devices": math.inf},
        {"reserved_devices": "2"},
        {"seen_at": "yesterday"},
        {"seen_at": 1e300},
        {"seen_at": "2026-01-01T00:00:00"},
        {"seen_at": "9999-12-31T23:59:59.999999-23:59"},
        {"left": "no"},
        {"more": 1},
        {"node": None},
        {"node__node_id": ""},
        {"node__node_id": "x" * 1000},
        {"attempts": {}},
        {"try__shard": "../../manifests/00000001"},
        {"try__line": -1},
        {"try__line": 2**70},
        {"try__device_seconds": math.nan},
        {"try__device_seconds": -5.0},
        {"try__ended": "well"},
        {"try__cost_usd": 0.0},
    ],
    ids=lambda values: json.dumps(values)[:40],
)
def test_a_journal_with_a_value_that_no_worker_writes_is_skipped(job, put, values):
    mine = worker("w1", attempts=[noted("w1-1", "01-a", 1, 5.0)])
    put("jobs/job-1/workers/w1.json", changed(mine))
    assert job.folder.journals() == [mine]

    put("jobs/job-1/workers/w1.json", changed(mine, **values))

    assert job.folder.journals() == [] and job.close().node_usd == 0.0


def test_a_journal_does_not_say_what_its_machine_costs(job, put, caplog):
    claims = {"node__usd_per_node_hour": 1e-6, "node__devices": 10_000, "node__price_source": "me"}
    put("jobs/job-1/workers/w1.json", changed(worker("w1"), **claims))

    assert job.close().node_usd == 100.0
    assert job.rows("nodes", "devices", "usd_per_node_hour", "price_source") == [
        (2, 3600.0, "a test (as of 2026-01-01)")
    ]
    [message] = said(caplog, "workers/w1.json")
    assert "usd_per_node_hour" in message


@pytest.mark.parametrize("node_type, market", [("quantum-9000", "spot"), ("box-2-3600.0", "free"), ("x", "y")])
def test_a_machine_that_the_table_does_not_know_is_billed_by_the_drivers_row(job, put, caplog, node_type, market):
    put("jobs/job-1/workers/w1.json", changed(worker("w1"), node__node_type=node_type, node__market=market))

    assert job.close().node_usd == 100.0
    assert job.rows("nodes", "node_type", "market") == [("box-2-3600.0", "spot")]
    assert len(said(caplog, "is billed as box-2-3600.0 (spot)")) == 1


@pytest.mark.parametrize(
    "from_s, to_s, billed_s",
    [
        # The job began at 0 and it is 100,000 s later; clocks may be ten minutes apart.
        (-1e9, 100.0, 700.0),
        (0.0, 1e9, 100_600.0),
        (-1e9, 1e9, 101_200.0),
        (5e8, 1e9, 0.0),
        (500.0, 100.0, 0.0),
        (-1e9, -5e8, 0.0),
    ],
)
def test_times_are_bounded_by_the_job_and_the_clock(job, caplog, from_s, to_s, billed_s):
    forged = replace(noted("w1-1", "01-a", 1, 1e9), started_at=START - timedelta(days=4000))
    job.folder.write_journal(worker("w1", from_s=from_s, to_s=to_s, devices=2.0, attempts=[forged]))

    assert job.close().node_usd == pytest.approx(billed_s)
    [(started, ended, device_seconds)] = job.rows("attempts", "started_at", "ended_at", "device_seconds")
    assert START - CLOCK_SKEW <= started <= ended <= job.clock.now() + CLOCK_SKEW
    assert device_seconds <= 2 * billed_s
    assert len(said(caplog, "than the job's time allows")) == 1


def test_honest_times_are_as_they_are(job, caplog):
    honest = worker("w1", from_s=-60.0, attempts=[noted("w1-1", "01-a", 1, 90.0)])

    assert honest.within(START, job.clock.now()) == honest and caplog.messages == []


def test_nobody_is_alive_in_the_future(job):
    now = job.clock.now()
    ahead = worker("w1", to_s=100_000.0 + LEASE_S + 1)

    assert not ahead.is_alive(now) and not worker("w2", to_s=1e9).is_alive(now)
    assert worker("w3", to_s=100_000.0 + LEASE_S).is_alive(now)


def test_a_machine_seen_in_the_future_by_another_run_is_billed_all_the_same(job):
    job.folder.write_journal(worker("w1", run_id="run-0", on=node("n1"), to_s=1e9))
    job.folder.write_journal(worker("w2", run_id="run-0", on=node("n1"), to_s=100.0))

    assert job.close(run_id="run-2").node_usd > 0


# Claims


def test_junk_claims_hold_no_shard_and_name_no_worker(job, put, caplog):
    job.folder.claim("01-a", "w1", START)
    for number, data in enumerate(JUNK.values()):
        put(f"jobs/job-1/claims/01-a/junk{number}.json", data)
    put("jobs/job-1/claims/01-a/notes.txt")

    for _ in range(2):
        assert job.folder.claims("01-a") == {"w1": START}
    assert len(said(caplog, "is skipped")) == len(JUNK) + 1


def test_other_names_are_no_death(job, put):
    put("jobs/job-1/alone/01-a/1/README.txt")
    job.folder.begin_alone("01-a", 1, "w-dead")

    assert job.folder.deaths_alone("01-a", 1) == 1


# What the job is


@pytest.mark.parametrize("kind", JUNK)
def test_a_junk_description_is_replaced_by_whoever_begins_the_job(job, put, caplog, kind):
    put("jobs/job-1/job.json", JUNK[kind])
    what = {
        "job_id": "job-1", "catalog": "c.csv", "catalog_sha256": "", "store": "s", "settings": {},
        "requests_per_shard": 4, "requests_in_the_last": 1, "begun_at": "2026-01-01T00:00:00.000000+00:00",
    }  # fmt: skip

    assert job.folder.description() is None
    assert job.folder.begin(what) == what == job.folder.description()
    assert len(said(caplog, "job.json")) == 1


def test_rounds_have_no_gaps_and_junk_is_none(job, put):
    put("jobs/job-1/rounds/02.json", b"[1, 2]")
    put("jobs/job-1/rounds/9999.json", b"[1]")
    put("jobs/job-1/rounds/latest.json", b"[1]")
    put("jobs/job-1/rounds/03.json", b'["1"]')

    assert job.folder.newest_round() == 2
    assert job.folder.begin_round(3, [5]) == [5] and job.folder.newest_round() == 3
    assert job.folder.begin_round(3, [6]) == [5]


# Shards


@pytest.mark.parametrize(
    "name", ["notes.txt", "01-a.parquet.tmp", "01-A.parquet", "1-a.parquet", "x/01-a.parquet", "01-.parquet"]
)
def test_a_file_with_another_name_is_no_shard(job, put, caplog, name):
    job.commit("01-a", (1, 20.0))
    put(f"jobs/job-1/shards/{name}", job.objects.read("jobs/job-1/shards/01-a.parquet"))

    for _ in range(3):
        assert job.folder.committed() == ["01-a"]
    assert job.close(rows=1).tracks == 1
    assert len(said(caplog, "is skipped")) == 1


def parquet(table):
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def shard_bytes(tracks_and_failures, attempts=()):
    return parquet(shard_table(tracks_and_failures, list(attempts)))


BAD_SHARDS = {
    **JUNK,
    "half": shard_bytes([track(2, 1.0)])[:-100],
    "another table": parquet(pa.table({"a": [1]})),
    "a column of another type": parquet(pa.table({"track": [1], "failure": ["x"], "attempt": [None]})),
    "a field of another type": parquet(
        pa.table({**{name: pa.nulls(1, SHARD_SCHEMA.field(name).type) for name in ("failure", "attempt")},
                  "track": [{"line": "one"}]}).select(["track", "failure", "attempt"])
    ),
    "NaN": shard_bytes([track(2, math.nan)]),
    "less than nothing": shard_bytes([track(2, -100.0)]),
    "endless": shard_bytes([track(2, 1.0, cost_usd=math.inf)]),
    "another job's": shard_bytes([track(2, 1.0, job_id="job-2")]),
    "without a line": shard_bytes([track(1, 1.0) | {"line": None}]),
    "a failure without a reason": shard_bytes([failure(2, reason=None)]),
    "an attempt that cost NaN": shard_bytes([track(2, 1.0)], [attempt("w1-1", "01-b", 2, math.nan)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_SHARDS)
def test_what_only_has_a_shards_name_stops_no_closing_and_its_rows_are_open_again(job, put, caplog, kind):
    job.commit("01-a", (1, 20.0))
    put("jobs/job-1/shards/01-b.parquet", BAD_SHARDS[kind])
    job.commit("01-c", (3, 10.0))
    job.folder.write_journal(worker("w1"))

    entry = job.entry(rows=3)

    assert (entry.totals.tracks, entry.totals.charged_usd, entry.state) == (2, 30.0, "interrupted")
    job.assert_reconciled()
    assert job.folder.committed() == ["01-a", "01-c"] and "01-b" in caplog.text

    job.commit("01-b", (2, 5.0))
    again = job.entry(run_id="run-2", rows=3)
    assert (again.totals.tracks, again.state, job.rows("tracks", "line")) == (3, "complete", [(1,), (2,), (3,)])


def test_a_worker_takes_the_place_of_what_is_no_shard(plan_of, tmp_path, renderer):
    [shard] = plan_of({"seed": 1}).open_shards()
    here = Workplace(tmp_path, renderer, HeldClock(), "w-1")
    place = tmp_path / "ledger" / "jobs" / "job-1" / "shards" / f"{shard.name}.parquet"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"junk")
    try:
        assert here.take(shard)["state"] == COMMITTED
        assert len(here.rows(shard, "track")) == 1

        # And of what came there while it rendered.
        place.unlink()
        commit = here.folder.commit

        def squatted(name, rows):
            here.folder.commit = commit
            place.write_bytes(b"junk")
            return commit(name, rows)

        here.folder.commit = squatted
        assert here.take(shard)["state"] == COMMITTED
        assert len(here.rows(shard, "track")) == 1
    finally:
        here.executor.close()


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_reading_them_raises_nothing(tmp_path_factory, data):
    objects = Objects(str(tmp_path_factory.mktemp("out")))
    folder = JobFolder(objects, "job-1")
    for key in ("job.json", "rounds/02.json", "shards/01-a.parquet", "claims/01-a/w1.json", "workers/w1.json"):
        objects.replace(f"jobs/job-1/{key}", data)

    assert (folder.description(), folder.newest_round(), folder.shard("01-a")) == (None, 1, None)
    assert (folder.claims("01-a"), folder.journals()) == ({}, [])


# Closings


def test_a_closing_that_was_tampered_with_is_not_gone_on_without(job):
    job.commit("01-a", (1, 20.0))
    job.close(state="interrupted", rows=2)
    [key] = job.ledger.snapshot().jobs["job-1"].closings
    emptied = json.loads(job.objects.read(key)) | {"shards": []}
    job.objects.replace(key, json.dumps(emptied).encode())
    job.commit("01-b", (2, 10.0))

    with pytest.raises(InvalidRequest, match="is not what was written when the run was settled"):
        job.close(run_id="run-2", rows=2)
    assert job.rows("tracks", "line") == [(1,)]


def test_junk_beside_the_closings_is_never_read(job, put):
    put("jobs/job-1/closings/junk.json")
    put(f"jobs/job-1/closings/{'0' * 32}.json")
    job.commit("01-a", (1, 20.0))

    assert job.close(rows=1).tracks == 1
    assert job.folder.shard("01-a").num_rows == rendered("01-a", (1, 20.0)).num_rows


# Partial pieces


@pytest.fixture
def signer(tmp_path):
    return have_signing_key(tmp_path / "key.pem", print)


@pytest.fixture
def partials(job, signer):
    return PartialPieces(job.objects, "job-1", signer)


TRACK = "trk_" + "a" * 32
CODES = b"codes 1\n" + bytes(range(200))


def test_a_partial_piece_is_read_by_every_process_that_has_the_key(job, partials, tmp_path):
    partials.keep_partial(TRACK, CODES)

    other = PartialPieces(Objects(job.objects.url), "job-1", have_signing_key(tmp_path / "key.pem", print))
    assert other.partial(TRACK) == CODES
    other.drop_partial(TRACK)
    assert partials.partial(TRACK) is None


def test_the_key_of_the_seal_lies_nowhere_in_the_folder(tmp_path, partials, signer):
    partials.keep_partial(TRACK, CODES)

    secrets = (signer.derived_key("orchestrion partial pieces of job job-1"), signer._private_key.private_bytes_raw())
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret in data or secret.hex().encode() in data for secret in secrets)


def test_a_key_for_one_purpose_is_no_key_for_another(signer, tmp_path):
    keys = {signer.derived_key(purpose) for purpose in ("a", "b", "")}
    keys.add(have_signing_key(tmp_path / "other.pem", print).derived_key("a"))

    assert len(keys) == 4 and {len(key) for key in keys} == {32}


def planted(partials, job, tmp_path):
    """Codes that were put there without the key, in every way that there is."""
    partials.keep_partial(TRACK, CODES)
    real = job.objects.read(f"jobs/job-1/partials/{TRACK}")
    other_track, other_key = "trk_" + "b" * 32, have_signing_key(tmp_path / "other.pem", print)
    partials.keep_partial(other_track, CODES)
    yield "of another track", job.objects.read(f"jobs/job-1/partials/{other_track}")
    PartialPieces(job.objects, "job-2", have_signing_key(tmp_path / "key.pem", print)).keep_partial(TRACK, CODES)
    yield "of another job", job.objects.read(f"jobs/job-2/partials/{TRACK}")
    PartialPieces(job.objects, "job-1", other_key).keep_partial(TRACK, CODES)
    yield "under another key", job.objects.read(f"jobs/job-1/partials/{TRACK}")
    yield "without a seal", CODES
    yield "with a hash for a seal", b"partial 1\n" + hashlib.sha256(CODES).digest() + CODES
    yield "with other codes", real[:-1] + bytes([real[-1] ^ 1])
    yield "with more codes", real + b"\0"
    yield "with fewer codes", real[:-1]
    yield "of another version", real.replace(b"partial 1", b"partial 2", 1)
    yield "huge", real + bytes(9 * 2**20)
    yield from JUNK.items()


def test_a_partial_piece_without_our_seal_is_begun_anew(job, partials, signer, tmp_path, caplog):
    kinds = dict(planted(partials, job, tmp_path))
    for kind, data in kinds.items():
        caplog.clear()
        job.objects.replace(f"jobs/job-1/partials/{TRACK}", data)
        fresh = PartialPieces(job.objects, "job-1", signer)

        assert [fresh.partial(TRACK) for _ in range(2)] == [None, None], kind
        [record] = caplog.records
        assert record.levelno == logging.WARNING and TRACK in record.getMessage()

    partials.keep_partial(TRACK, CODES)
    assert partials.partial(TRACK) == CODES


def test_journals_and_what_shards_were_charged_are_read_side_by_side(job, monkeypatch):
    for number in range(8):
        job.folder.write_journal(worker(f"w{number}"))
        job.commit(f"01-{number}", (number + 1, 2.0))
    # Nobody comes past it before four are there.
    together, real = threading.Barrier(4), Objects.read

    def read(self, key, *arguments):
        if "/workers/" in key or "/shards/" in key:
            together.wait(timeout=20)
        return real(self, key, *arguments)

    monkeypatch.setattr(Objects, "read", read)

    assert [each.worker_id for each in job.folder.journals()] == [f"w{number}" for number in range(8)]
    assert charged_usd(job.folder) == 16.0
