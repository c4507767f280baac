"""A plan in parts: made by several processes, kept under a seal, and never anything else than what the catalog says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batch_jobs.catalog.rows import catalog_reads, catalog_sha256
from batch_jobs.job_store.plan_parts import PlanParts
from batch_jobs.options import RenderOptions
from batch_jobs.planning import parts
from batch_jobs.planning.job import Job, catalog_into, job_id_of, plan_sha256, read_job
from batch_jobs.planning.parts import planned_parts
from batch_jobs.planning.plan import Plan
from batch_jobs.planning.planned_rows import RowSettings, unpacked
from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer

ROWS = 400
SETTINGS = RowSettings("composer", 1.0)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """A part is 64 rows, so that a catalog of some hundred has several."""
    monkeypatch.setattr(parts, "PART_ROWS", 64)


@pytest.fixture
def _one_process(monkeypatch):
    monkeypatch.setattr(parts, "_PARTS_ALONE", 1000)


@pytest.fixture
def signer(tmp_path):
    return Signer.create(tmp_path / "key.pem")


@pytest.fixture
def options(tmp_path):
    """A catalog with wrong rows, ids that come again in a later part, and a few different lengths."""
    path = tmp_path / "songs" / "songs.jsonl"
    path.parent.mkdir()
    rows = [
        {"prompt": "calm piano", "seed": n % 90, "duration_s": 1.0 + n % 70, "row_id": f"r{n}"} for n in range(ROWS)
    ]
    rows[7]["tempo_bpm"] = "fast"
    rows[300]["row_id"] = "r7"
    rows[301]["row_id"] = "r2"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return RenderOptions(catalog=str(path), out=str(tmp_path / "out"))


def told(plan: Plan) -> tuple[list[object], list[object]]:
    return list(plan.open_shards()), list(plan.open_refused())


def read(options, signer, clock) -> tuple[Job, list[object], list[object]]:
    with Plan() as plan:
        job = read_job(options, options.render_config(), signer, Objects(options.out), plan, clock)
        return job, *told(plan)


def at_once(options):
    """The plan of a catalog that is read as one part, with nothing kept."""
    with pytest.MonkeyPatch.context() as patched, Plan() as plan:
        patched.setattr(parts, "PART_ROWS", 10**6)
        catalog_into(plan, options, lambda data: pytest.fail("no themes here"))
        return told(plan)


def kept_files(options) -> list[Path]:
    return sorted(path for path in Path(options.out).glob("jobs/*/plan/*/*"))


def unread(monkeypatch):
    """From here on whoever reads a row of the catalog fails."""
    monkeypatch.setattr("batch_jobs.planning.job.catalog_reads", lambda *_: pytest.fail("the catalog was read again"))


def counted_plans(monkeypatch):
    """How many rows are validated, part by part."""
    counts, real = [], parts.plan_blocks

    def plan(blocks, settings):
        rows = real(blocks, settings)
        counts.append(len(list(unpacked(rows))))
        return rows

    monkeypatch.setattr(parts, "plan_blocks", plan)
    return counts


def test_several_processes_plan_what_one_does(options, signer, clock):
    job, shards, refused = read(options, signer, clock)

    assert (shards, refused) == at_once(options)
    assert job.rows == ROWS and [row.line for one in refused for row in one.rows] == [8, 301, 302]
    assert len(kept_files(options)) == 7


def test_a_process_that_dies_costs_no_row(options, signer, clock, monkeypatch):
    class Dying(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__([sys.executable, "-c", "import sys; sys.stdin.buffer.read(100)"], **options)

    monkeypatch.setattr(subprocess, "Popen", Dying)

    _, *found = read(options, signer, clock)

    assert tuple(found) == at_once(options)


@pytest.mark.usefixtures("_one_process")
def test_a_resumed_job_is_planned_without_its_catalog_being_read(options, signer, clock, monkeypatch):
    first = read(options, signer, clock)
    unread(monkeypatch)

    again = read(options, signer, clock)

    assert again[1:] == first[1:] and again[0].rows == ROWS


@pytest.mark.usefixtures("_one_process")
def test_a_run_that_ends_while_it_plans_is_gone_on_with(options, signer, clock, monkeypatch):
    def breaks_off(*arguments):
        for number, row in enumerate(catalog_reads(*arguments)):
            if number == 200:
                raise StoreUnavailable("the catalog is away")
            yield row

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr("batch_jobs.planning.job.catalog_reads", breaks_off)
        patched.setattr(parts, "_PARTS_ALONE", 0)
        patched.setattr("batch_jobs.planning.planners.MAX_PLANNERS", 1)
        read(options, signer, clock)
    done = len(kept_files(options))
    counts = counted_plans(monkeypatch)
    _, *found = read(options, signer, clock)

    assert 0 < done <= 3
    assert sum(counts) == ROWS - 64 * done
    assert tuple(found) == at_once(options)


def forged(data: bytes, others: list[bytes]) -> dict[str, bytes]:
    """What somebody may leave in the place of a part."""
    head = b"plan part 1\n"
    return {
        "other bytes": data[:-1] + bytes([data[-1] ^ 1]),
        "no seal": head + bytes(32) + data[len(head) + 32 :],
        "another part": others[2],
        "half of it": data[: len(data) // 2],
        "nothing": b"",
        "junk": b"junk",
    }


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("how", ["other bytes", "no seal", "another part", "half of it", "nothing", "junk"])
def test_a_part_that_somebody_else_wrote_is_read_from_the_catalog(options, signer, clock, caplog, how):
    read(options, signer, clock)
    files = kept_files(options)
    everything = [file.read_bytes() for file in files]
    files[1].write_bytes(forged(everything[1], everything)[how])

    _, *found = read(options, signer, clock)

    assert tuple(found) == at_once(options)
    assert "the seal of this job's signing key" in caplog.text
    assert [file.read_bytes() for file in files] == everything, "and made again"


@pytest.mark.usefixtures("_one_process")
def test_parts_of_another_signer_of_another_catalog_and_of_another_reader_do_not_count(
    options, signer, clock, tmp_path, monkeypatch
):
    other = tmp_path / "songs" / "other.jsonl"
    other.write_text(Path(options.catalog).read_text("utf-8").replace("calm piano", "evil organ"), encoding="utf-8")
    evil = replace(options, catalog=str(other), out=str(tmp_path / "evil"))
    read(evil, signer, clock)
    read(options, Signer.create(tmp_path / "another-key.pem"), clock)
    files = kept_files(options)
    counts = counted_plans(monkeypatch)

    # The parts of the other catalog, sealed by us, under the names of ours.
    for ours, theirs in zip(files, kept_files(evil), strict=True):
        ours.write_bytes(theirs.read_bytes())
    _, *found = read(options, signer, clock)
    with monkeypatch.context() as patched:
        patched.setattr("batch_jobs.planning.job.reader_version", lambda: "of the next release")
        _, *later = read(options, signer, clock)

    assert tuple(found) == tuple(later) == at_once(options)
    assert sum(counts[:14]) == 2 * ROWS
    assert len(kept_files(options)) == 14


@pytest.mark.usefixtures("_one_process")
def test_a_small_catalog_keeps_nothing(options, signer, clock):
    Path(options.catalog).write_text('{"prompt": "calm piano"}\n' * 64, encoding="utf-8")

    job, *_ = read(options, signer, clock)

    assert job.rows == 64 and kept_files(options) == []


@pytest.mark.usefixtures("_one_process")
def test_uploads_are_stored_once_for_rows_that_are_rendered_and_again_when_the_job_is_resumed(
    options, signer, clock, monkeypatch
):
    folder = Path(options.catalog).parent
    (folder / "theme.mid").write_bytes(b"MThd")
    (folder / "unused.mid").write_bytes(b"MThd, of a row that is none")
    rows = [{"prompt": "calm piano", "seed": n, "row_id": f"r{n}"} for n in range(200)]
    rows[150] |= {"theme": "theme.mid"}
    rows[151] |= {"theme": "unused.mid", "row_id": "r3"}
    rows[152] |= {"theme": "missing.mid"}
    Path(options.catalog).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    store = Path(options.out) / "store"

    first = read(options, signer, clock)
    blobs = list(store.rglob("*.theme"))
    unread(monkeypatch)
    for blob in blobs:
        blob.unlink()
    again = read(options, signer, clock)

    assert [blob.read_bytes() for blob in blobs if blob.exists()] == [b"MThd"] and len(blobs) == 1
    assert first[1:] == again[1:]
    [refused] = again[2]
    assert [(row.line, row.row_id) for row in refused.rows] == [(152, "r3"), (153, "r152")]
    [spec] = [row["spec"] for shard in again[1] for row in shard.rows if row["line"] == 151]
    assert json.loads(spec)["theme"].startswith("sha256:")


def test_a_part_is_also_cut_by_its_bytes(options, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 10**6)
    monkeypatch.setattr(parts, "PART_BYTES", 2_000)
    monkeypatch.setattr(parts, "_PARTS_ALONE", 1000)

    sizes = [len(list(part)) for part in planned_parts(lambda: catalog_reads(options.catalog, {}), SETTINGS, None)]

    assert sum(sizes) == ROWS and max(sizes) == 64


def test_a_plan_is_of_one_catalog_one_way_to_read_it_and_one_share_of_it(options):
    sha256 = catalog_sha256(options.catalog, {})
    others = [
        replace(options, sample=0.5),
        replace(options, limit=10),
        replace(options, models=("lab/large",)),
        replace(options, column_map={"prompt": "title"}),
    ]

    plans = {plan_sha256(one, sha256) for one in (options, *others)} | {plan_sha256(options, "0" * 64)}

    assert len(plans) == len(others) + 2


def test_parts_are_sealed_for_their_job_and_their_plan(options, signer, clock):
    job, *_ = read(options, signer, clock)
    sha256 = catalog_sha256(options.catalog, {})
    objects = Objects(options.out)
    [first, *_] = kept_files(options)
    of_another_job = Path(str(first).replace(job.folder.job_id, "another-job"))
    of_another_plan = first.parents[1] / ("f" * 16) / first.name
    for elsewhere in (of_another_job, of_another_plan):
        elsewhere.parent.mkdir(parents=True)
        elsewhere.write_bytes(first.read_bytes())

    assert job.folder.job_id == job_id_of(options, sha256)
    assert PlanParts(objects, job.folder.job_id, plan_sha256(options, sha256), signer).part(0) is not None
    assert PlanParts(objects, "another-job", plan_sha256(options, sha256), signer).part(0) is None
    assert PlanParts(objects, job.folder.job_id, "f" * 64, signer).part(0) is None
