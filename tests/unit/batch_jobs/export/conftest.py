import pytest

from tests.unit.batch_jobs.export.exported import RenderedCatalog


@pytest.fixture
def catalog(tmp_path, renderer):
    return RenderedCatalog(tmp_path, renderer)
