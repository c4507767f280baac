"""The S3 server that the tests of this folder share; one that kills its server starts its own."""

import pytest

from tests.servers.seaweedfs import SeaweedFS


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running server: `endpoint`, `key`, `secret`, `storage_options`, `new_url()`."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.kill()
