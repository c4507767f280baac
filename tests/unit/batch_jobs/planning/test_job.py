"""Which job a command means: jobs that are under way must be found again by every later release."""

from dataclasses import replace
from pathlib import Path

import pytest

from batch_jobs.catalog.rows import catalog_sha256
from batch_jobs.options import RenderOptions
from batch_jobs.planning.job import catalog_into, job_id_of
from batch_jobs.planning.plan import Plan
from batch_jobs.planning.planned_rows import texts_of

TEXT = (
    'row_id,prompt,duration_s,seed,title\n007,calm piano,3,7.0,T\n7.0,funk,3.500,8,\nx,"a, b",12,,"q ""r"""\ny,,3,1,\n'
)


@pytest.fixture
def options(tmp_path):
    path = tmp_path / "songs.csv"
    path.write_text(TEXT, encoding="utf-8")
    return RenderOptions(catalog=str(path), out="out")


#: The hash of nothing but the round and the lines of what cannot be rendered: 3 and 5.
REFUSED = "01-1ae3592f8248c3f879b56afe"


def id_of(options):
    return job_id_of(options, catalog_sha256(options.catalog, options.storage_options))


def test_a_job_and_its_shards_are_called_as_they_were_before_dialects_were_read(options):
    with Plan() as plan:
        catalog_into(plan, options, lambda data: pytest.fail("no themes here"))
        shards = [shard.name for shard in plan.open_shards()] + [shard.name for shard in plan.open_refused()]

    assert id_of(options) == "songs-c00ea9a6"
    assert shards == ["01-ca49b8e1942bddf110859540", REFUSED]


def test_a_map_of_columns_makes_another_job_in_whatever_order_it_is_given(options):
    one = replace(options, column_map={"prompt": "title", "title": "prompt"})
    other = replace(options, column_map={"title": "prompt", "prompt": "title"})

    assert id_of(one) == id_of(other) != id_of(options)
    assert id_of(replace(options, column_map={"prompt": "title"})) not in (id_of(one), id_of(options))


def test_kept_columns_make_another_job_whose_shards_are_called_the_same(options, tmp_path):
    kept = replace(options, catalog=str(tmp_path / "own.csv"), keep_columns=("own", "isrc"))
    lines = TEXT.splitlines()
    Path(kept.catalog).write_text(
        "\n".join([lines[0] + ",isrc,own", *(f"{line},i{n}," for n, line in enumerate(lines[1:]))]), encoding="utf-8"
    )
    with Plan() as plan:
        catalog_into(plan, kept, lambda data: pytest.fail("no themes here"))
        shards, refused = list(plan.open_shards()), list(plan.open_refused())

    assert [shard.name for shard in [*shards, *refused]] == [
        "01-ca49b8e1942bddf110859540", "01-1ae3592f8248c3f879b56afe",
    ]  # fmt: skip
    [block] = [shard.block().to_pylist() for shard in shards]
    assert {row["row_id"]: texts_of(row["kept"]) for row in block} == {
        "007": {"isrc": "i0"}, "7.0": {"isrc": "i1"}, "x": {"isrc": "i2"},
    }  # fmt: skip
    assert [row.kept for row in refused[0].rows] == [{"isrc": "i3"}]
    other = replace(kept, keep_columns=("isrc", "own"))
    assert (
        id_of(kept)
        == id_of(other)
        != id_of(replace(kept, keep_columns=()))
        != id_of(replace(kept, keep_columns=("all",)))
    )


def test_what_is_mapped_is_what_is_rendered(options):
    with Plan() as plan:
        mapped = replace(options, column_map={"prompt": "title", "title": "prompt"})
        catalog_into(plan, mapped, lambda data: pytest.fail("no themes here"))
        [shard] = plan.open_shards()
        [refused] = plan.open_refused()

    assert sorted((row["row_id"], row["title"]) for row in shard.rows) == [("007", "calm piano"), ("x", "a, b")]
    assert [(row.row_id, row.requester, row.model) for row in refused.rows] == [
        ("7.0", "anonymous", "composer"), ("y", "anonymous", "composer"),
    ]  # fmt: skip
