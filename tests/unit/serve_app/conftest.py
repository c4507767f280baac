"""A service for the tests of a module, and a track that it has stored."""

import pytest

from tests.ingress_app import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return Service(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def track(service):
    return service.make()
