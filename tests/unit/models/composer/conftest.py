"""One loaded composer for all tests of its sound."""

import pytest

from orchestrion.models.composer.model import Composer


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()
