"""A renderer whose store is a folder."""

from tests.unit.rendering.test_renderer import registry, renderer  # noqa: F401 (fixtures)
