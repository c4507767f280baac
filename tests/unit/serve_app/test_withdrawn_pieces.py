"""Nothing of withdrawn pieces can be had from a folder. tests/servers holds S3 servers to the same."""

import pytest

from tests.withdrawn_pieces import WithdrawnPieces


class TestFolder(WithdrawnPieces):
    @pytest.fixture(scope="class")
    def place(self):
        return {}

    def all_bytes(self, made):
        root = made.service.config.store_url
        files = [path for path in made.catalog.root.joinpath("store").rglob("*") if path.is_file()]
        assert files and root == str(made.catalog.root / "store")
        return [path.read_bytes() for path in files]
