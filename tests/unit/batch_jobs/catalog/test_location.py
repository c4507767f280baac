"""One path rule for every kind of address that a catalog may have: nothing outside the catalog's folder is read."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.catalog import location
from batch_jobs.catalog.location import SCHEMES, names_at, open_beside, open_catalog
from batch_jobs.catalog.rows import CatalogRow, catalog_sha256, read_catalog
from orchestrion.errors import InvalidRequest

SECRET = b"outside"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A catalog with a file beside it, and every way out of its folder that a file system knows."""
    root = tmp_path_factory.mktemp("root")
    (root / "secret.mid").write_bytes(SECRET)
    folder = root / "catalogs"
    (folder / "deeper").mkdir(parents=True)
    (folder / "c.csv").write_text("prompt,theme\nx,tune.mid\n")
    (folder / "deeper" / "inside.mid").write_bytes(b"inside")
    (folder / "link.mid").symlink_to(root / "secret.mid")
    (folder / "up").symlink_to(root)
    (folder / "deeper" / "link.mid").symlink_to("../../secret.mid")
    (folder / "within.mid").symlink_to(folder / "deeper" / "inside.mid")
    return folder


def spellings(folder, monkeypatch):
    """The addresses of one local catalog."""
    monkeypatch.chdir(folder)
    return [f"{folder}/c.csv", f"file://{folder}/c.csv", "c.csv", "./c.csv", "deeper/../c.csv"]


def test_a_link_out_of_the_folder_is_refused_however_the_catalog_is_addressed(folder, monkeypatch):
    for url in spellings(folder, monkeypatch):
        for name in ("link.mid", "up/secret.mid", "deeper/link.mid", "up"):
            with pytest.raises(InvalidRequest, match="link out of"):
                open_beside("theme", name, url, {})
        for name in ("deeper/inside.mid", "within.mid"):
            with open_beside("theme", name, url, {}) as file:
                assert file.read() == b"inside"


NAMES = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "", "up", "deeper", "link.mid", "within.mid", "secret.mid", "catalogs", "~", "/"]),
        st.text(max_size=8),
    ),
    max_size=6,
).map("/".join)
WRAPPERS = st.sampled_from(
    ["", "file://", "local://", "simplecache::", "filecache::file://", "blockcache::", "dir::file://", "FILE://",
     "reference::", "zip://x::", "data:,", "simplecache::simplecache::file://", "memory://", "cached::"]
)  # fmt: skip


@given(WRAPPERS, NAMES, st.sampled_from(["theme", "continuation"]))
def test_no_name_and_no_address_reads_what_is_outside(folder, wrapper, name, column):
    try:
        with open_beside(column, name, f"{wrapper}{folder}/c.csv", {}) as file:
            assert file.read() == b"inside"
    except (InvalidRequest, OSError):
        pass


@pytest.mark.parametrize("protocol", sorted({*fsspec.available_protocols(), "FILE", "c", "nobody"} - set(SCHEMES)))
def test_an_address_of_another_kind_is_refused_before_it_is_opened(protocol):
    with pytest.raises(InvalidRequest, match="give a path or one of file://, s3://"):
        open_catalog(f"{protocol}://somewhere/c.csv", {})


@given(st.sampled_from(sorted(set(SCHEMES) - {""})), st.text(alphabet="abc:/", max_size=12))
def test_a_chain_of_addresses_is_refused_whatever_it_ends_in(scheme, rest):
    for url in (f"{rest}::{scheme}://b/c.csv", f"{scheme}://b/{rest}::file:///c.csv"):
        with pytest.raises(InvalidRequest, match="is no address of a catalog"):
            names_at(url)


@pytest.mark.parametrize("url", ["simplecache::file:///x/c.csv", "sftp://host/c.csv"])
def test_the_commands_refuse_such_an_address(url):
    with pytest.raises(InvalidRequest, match="catalog"):
        catalog_sha256(url, {})
    with pytest.raises(InvalidRequest, match="catalog"):
        next(read_catalog(url, {}, lambda _: pytest.fail("stored"), "composer", lambda _, line: line))


def test_a_key_of_an_object_store_is_nothing_but_itself(monkeypatch):
    store = MemoryFileSystem()
    store.pipe({"/songs/tune.mid": b"inside", "/secret.mid": SECRET})
    opened = lambda url, **_: (store, "/" + url.partition("://")[2])  # noqa: E731
    monkeypatch.setattr(location.fsspec, "url_to_fs", opened)

    for scheme in (name for name, names in SCHEMES.items() if names == "keys"):
        with open_beside("theme", "tune.mid", f"{scheme}://songs/c.csv", {}) as file:
            assert file.read() == b"inside"
        for name in (
            "../secret.mid",
            "/secret.mid",
            "a/../../secret.mid",
            "s3://songs/tune.mid",
            ".orchestrion/k.pem",
            "a/.b",
        ):
            with pytest.raises(InvalidRequest, match="plain path below"):
                open_beside("theme", name, f"{scheme}://songs/c.csv", {})


@pytest.mark.parametrize("scheme", [name for name, names in SCHEMES.items() if names == "none"])
def test_a_catalog_on_a_web_server_has_no_files_beside_it(scheme):
    with pytest.raises(InvalidRequest, match="no files beside it"):
        open_beside("theme", "tune.mid", f"{scheme}://host/c.csv", {})


def test_an_address_that_is_opened_as_another_kind_than_it_says_is_refused(folder, monkeypatch):
    real = fsspec.url_to_fs
    monkeypatch.setattr(location.fsspec, "url_to_fs", lambda url, **_: real(f"{folder}/c.csv"))

    with pytest.raises(InvalidRequest, match="is opened as LocalFileSystem"):
        open_beside("theme", "tune.mid", "s3://songs/c.csv", {})


def test_a_catalog_by_its_file_url_is_read(folder):
    put = lambda data: "sha256:" + "0" * 64  # noqa: E731
    (folder / "tune.mid").write_bytes(b"inside")

    [row] = read_catalog(f"file://{folder}/c.csv", {}, put, "composer", lambda _, line: line)

    assert isinstance(row, CatalogRow) and row.spec.theme == "sha256:" + "0" * 64
