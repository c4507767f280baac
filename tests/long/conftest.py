"""What a unit test may not touch, a long one may not either."""

from tests.unit.conftest import _nothing_outside_the_process  # noqa: F401
