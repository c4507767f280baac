"""One loaded composer for all tests of its sound."""

import pytest

from orchestrion.models.composer import Composer


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()
