"""Catalogs on a real S3 server: one file, and folders and patterns of Parquet files with what their rows name."""

import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.catalog.rows import catalog_sha256, how_read, read_catalog
from orchestrion.errors import NotFound


def parquet(*prompts, **columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"prompt": list(prompts)} | columns), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def songs(s3_server):
    """A folder in a bucket, as Spark leaves one."""
    url = s3_server.new_url()
    files = {
        "c.parquet/part-10.parquet": parquet("c"),
        "c.parquet/part-0.parquet": parquet("a", "b", theme=[None, "themes/tune.mid"]),
        "c.parquet/style=jazz/part-1.parquet": parquet("d"),
        "c.parquet/_SUCCESS": b"",
        "c.parquet/themes/tune.mid": b"MThd",
        "c.csv": "Prompt ;seed\ncalm;7,0\n".encode("utf-16"),
        "one.parquet": parquet("alone"),
        "one.parquet.old/part-0.parquet": parquet("another"),
    }
    s3_server.client().pipe({f"{url.removeprefix('s3://')}/{name}": data for name, data in files.items()})
    return url


def read(url, server):
    put = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()  # noqa: E731
    return list(read_catalog(url, server.storage_options, put, "composer", lambda _, line: line))


@pytest.mark.parametrize(
    "name, prompts",
    [
        ("c.parquet", ["a", "b", "c", "d"]),
        ("c.parquet/", ["a", "b", "c", "d"]),
        ("c.parquet/part-*.parquet", ["a", "b", "c"]),
        ("c.parquet/**/part-?.parquet", ["a", "b", "d"]),
        ("one.parquet", ["alone"]),
        ("c.csv", ["calm"]),
    ],
)
def test_a_catalog_in_a_bucket_is_read_as_one_in_a_folder(songs, s3_server, name, prompts):
    rows = read(f"{songs}/{name}", s3_server)

    assert [row.spec.prompt for row in rows] == prompts
    assert [row.line for row in rows] == ([2] if name == "c.csv" else list(range(1, len(prompts) + 1)))


def test_folders_in_a_bucket_are_columns_and_hold_what_rows_name(songs, s3_server):
    rows = read(f"{songs}/c.parquet", s3_server)

    assert [row.spec.style for row in rows] == [None, None, None, "jazz"]
    assert rows[1].spec.theme == "sha256:" + hashlib.sha256(b"MThd").hexdigest()


def test_a_folder_in_a_bucket_is_said_and_hashed(songs, s3_server):
    options = s3_server.storage_options

    said = how_read(f"{songs}/c.parquet", options)

    assert said == "Parquet, 3 files in the order of their names, 'part-0.parquet' to 'style=jazz/part-1.parquet'"
    assert catalog_sha256(f"{songs}/c.parquet", options) == catalog_sha256(f"{songs}/c.parquet/", options)
    assert catalog_sha256(f"{songs}/one.parquet", options) == hashlib.sha256(parquet("alone")).hexdigest()


@pytest.mark.parametrize("name", ["nothing/", "nothing.parquet", "nothing/*.parquet", "nothing.csv"])
def test_what_is_not_in_the_bucket_is_not_found(songs, s3_server, name):
    with pytest.raises(NotFound, match="nothing"):
        read(f"{songs}/{name}", s3_server)
