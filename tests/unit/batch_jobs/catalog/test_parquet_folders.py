"""A catalog of many Parquet files: which are read, in which order, under which numbers, and as which job."""

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.catalog.rows import catalog_sha256, how_read, read_catalog
from batch_jobs.options import RenderOptions
from orchestrion.errors import InvalidRequest, NotFound
from tests.unit.batch_jobs.catalog.catalogs import kinds, prompts, put_theme, rows_of, write


def part(path, *names, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"prompt": list(names)} | columns), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Files in an order that is not the one of their making, among what other tools leave beside them."""
    folder = tmp_path / "songs.parquet"
    part(folder / "part-10.parquet", "c")
    part(folder / "part-0.parquet", "a", "b")
    part(folder / "sub" / "part-1.PARQUET", "d", "e")
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_metadata.parquet", "_old/part-9.parquet", "themes/tune.mid"):
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / name, b"MThd")
    return folder


def test_a_folder_is_read_in_the_order_of_its_names_and_rows_are_numbered_through(folder):
    for url in (folder, f"{folder}/", f"file://{folder}"):
        rows = rows_of(url)

        assert prompts(rows) == ["a", "b", "c", "d", "e"] and [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert how_read(str(folder), {}) == (
        "Parquet, 3 files in the order of their names, 'part-0.parquet' to 'sub/part-1.PARQUET'"
    )


def test_the_order_is_that_of_the_names_whatever_a_store_lists_first(folder, monkeypatch):
    listed = LocalFileSystem.find
    monkeypatch.setattr(LocalFileSystem, "find", lambda self, path: listed(self, path)[::-1])

    assert prompts(rows_of(folder)) == ["a", "b", "c", "d", "e"]


def test_a_pattern_takes_the_files_that_match(folder):
    assert prompts(rows_of(f"{folder}/part-*.parquet")) == ["a", "b", "c"]
    assert prompts(rows_of(f"{folder}/**/part-?.*")) == ["a", "b", "d", "e"]
    assert prompts(rows_of(f"file://{folder}/part-1*.parquet")) == ["c"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    write(tmp_path / "take[1].csv", "prompt\na\n")
    part(tmp_path / "take[1].parquet", "b")

    assert prompts(rows_of(tmp_path / "take[1].csv")) == ["a"]
    assert prompts(rows_of(tmp_path / "take[1].parquet")) == ["b"]


def test_the_folders_of_hive_are_columns(tmp_path):
    part(tmp_path / "c" / "style=jazz" / "Duration_S=4.5" / "0.parquet", "a", seed=[1])
    part(tmp_path / "c" / "style=__HIVE_DEFAULT_PARTITION__" / "Duration_S=30" / "0.parquet", "b", seed=[2])
    part(tmp_path / "c" / "title=a%2Fb" / "requester=0042" / "row_id=7.0" / "0.parquet", "c")

    rows = rows_of(tmp_path / "c")

    assert [(row.spec.style, row.spec.duration_s, row.spec.seed) for row in rows[:2]] == [
        (None, 30.0, 2),
        ("jazz", 4.5, 1),
    ]
    assert (rows[2].title, rows[2].spec.requester, rows[2].row_id) == ("a/b", "0042", "7.0")


def test_what_arrow_writes_as_a_partitioned_dataset_is_read(tmp_path):
    table = pa.table({"prompt": ["a", "b", "c"], "style": ["jazz", "funk", "jazz"], "seed": [1, 2, 3]})
    ds.write_dataset(table, tmp_path / "c", format="parquet", partitioning=["style"], partitioning_flavor="hive")

    rows = rows_of(tmp_path / "c")

    assert sorted((row.spec.prompt, row.spec.style, row.spec.seed) for row in rows) == [
        ("a", "jazz", 1), ("b", "funk", 2), ("c", "jazz", 3),
    ]  # fmt: skip
    assert prompts(rows) == ["b", "a", "c"]


def test_folders_above_the_catalog_say_nothing(tmp_path):
    part(tmp_path / "day=2026-01-01" / "c" / "0.parquet", "a")

    assert prompts(rows_of(tmp_path / "day=2026-01-01" / "c")) == ["a"]
    assert prompts(rows_of(tmp_path / "day=2026-01-01" / "c" / "*.parquet")) == ["a"]
    with pytest.raises(InvalidRequest, match=r"catalog 'day=2026-01-01/c/0\.parquet': has unknown columns.*day"):
        rows_of(tmp_path)


@pytest.mark.parametrize(
    "folders, said", [("style=jazz", "names a column twice"), ("seed=1.000", "may mean"), ("mood=a/mood=b", "twice")]
)
def test_a_folder_that_contradicts_its_file_or_itself_is_refused(tmp_path, folders, said):
    part(tmp_path / "c" / folders / "0.parquet", "a", style=["jazz"])

    with pytest.raises(InvalidRequest, match=said):
        rows_of(tmp_path / "c")


def test_a_later_file_that_cannot_be_used_refuses_the_catalog_by_its_name(folder):
    part(folder / "part-2.parquet", "x", artist=["nobody"])

    with pytest.raises(InvalidRequest, match=r"catalog 'part-2\.parquet': has unknown columns"):
        rows_of(folder)
    write(folder / "part-2.parquet", b"PAR1 is not enough")
    with pytest.raises(InvalidRequest, match=r"catalog 'part-2\.parquet': is not a readable Parquet file"):
        rows_of(folder)


def test_a_refused_row_has_its_number_in_the_whole_catalog(folder):
    part(folder / "part-2.parquet", "x", "y", seed=[1, -1])

    rows = rows_of(folder)

    assert kinds(rows) == "....R.." and rows[4].line == 5
    assert rows[4].message.endswith("it is row 2 of 'part-2.parquet'")


@pytest.mark.parametrize("name", ["nothing", "nothing.parquet", "*.parquet", "*.csv", "empty", "empty/"])
def test_a_folder_or_pattern_without_files_is_not_found(tmp_path, name):
    (tmp_path / "empty").mkdir()

    with pytest.raises((NotFound, InvalidRequest), match=r"catalog"):
        rows_of(f"{tmp_path}/{name}")


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    part(tmp_path / "secret.parquet", "x")
    (folder / "link.parquet").symlink_to(tmp_path / "secret.parquet")

    for url in (folder, f"{folder}/*.parquet"):
        with pytest.raises(InvalidRequest, match="link out of"):
            rows_of(url)


def test_a_link_in_a_circle_is_not_followed(folder):
    (folder / "sub" / "again").symlink_to(folder)

    assert prompts(rows_of(folder)) == ["a", "b", "c", "d", "e"]


def test_who_may_read_a_file_need_not_be_allowed_to_list_its_folder(folder, monkeypatch):
    def refuse(self, path, **_):
        raise PermissionError(13, "Access Denied", path)

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    monkeypatch.setattr(LocalFileSystem, "isdir", refuse)

    assert prompts(rows_of(folder / "part-0.parquet")) == ["a", "b"]
    with pytest.raises(NotFound, match="cannot list the catalog"):
        rows_of(folder)


def test_a_web_server_has_no_folders():
    with pytest.raises(InvalidRequest, match="its name must end in"):
        list(read_catalog("http://localhost/songs/", {}, put_theme, "composer", lambda _, line: line))


def test_rows_name_files_below_the_folder(folder):
    part(folder / "part-2.parquet", "x", "y", theme=["themes/tune.mid", "../secret.mid"])

    rows = rows_of(folder)

    assert kinds(rows) == "....R.."
    assert [row.spec.theme for row in rows[:4]] == [None, None, None, put_theme(b"MThd")]


# The job


def test_the_hash_of_a_folder_is_that_of_its_names_and_contents(folder, tmp_path):
    whole = catalog_sha256(str(folder), {})

    assert catalog_sha256(f"{folder}/", {}) == whole != catalog_sha256(f"{folder}/part-*.parquet", {})
    write(folder / "themes" / "tune.mid", b"other")
    assert catalog_sha256(str(folder), {}) == whole
    folder.rename(tmp_path / "moved.parquet")
    folder = tmp_path / "moved.parquet"
    assert catalog_sha256(str(folder), {}) == whole
    (folder / "part-10.parquet").rename(folder / "part-1.parquet")
    assert catalog_sha256(str(folder), {}) != whole


@pytest.mark.parametrize(
    "catalog", ["/songs", "/songs/", "/songs/*.parquet", "/songs/*/x.parquet", "/songs/a.parquet/"]
)
def test_a_key_is_not_kept_where_a_row_of_a_folder_could_name_it(catalog):
    def options(key):
        return RenderOptions(catalog=catalog, out="/out", signing_key_path=key)

    with pytest.raises(InvalidRequest, match=r"could name it|others may read"):
        options("/songs/a.parquet/keys/key.pem").render_config()
    assert options("/keys/key.pem").render_config().signing_key_path == "/keys/key.pem"
