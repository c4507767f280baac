"""What cannot be kept is not begun: while a store refuses what is made, the queue waits and no device works."""

from orchestrion.resilience.store_retry import Away
from tests.unit.rendering.test_executor import Bench

REFUSED = Away(5.0, "no space left on device", patience_s=600.0)
GIVEN_UP = Away(600.0, "no space left on device", patience_s=600.0)


def test_while_nothing_is_taken_nothing_new_is_begun_and_what_is_open_goes_on():
    bench = Bench(slots=1, queue_limit=9)
    bench.join("open")
    bench.executor.step()
    waiting, _ = bench.join("waiting")

    bench.refused = REFUSED
    bench.run()
    assert bench.opened.keys() == {"open"} and bench.log == ["open"] * 4
    assert waiting.task.outcome is None

    bench.refused = None
    bench.run()
    assert bench.log == ["open"] * 4 + ["waiting"] * 4


def test_what_waits_for_a_place_that_is_given_up_fails_unmade():
    bench = Bench(slots=1, queue_limit=9)
    waiting = [bench.join(name)[0] for name in "abc"]

    bench.refused = GIVEN_UP
    bench.run()

    assert [listener.task.outcome.code for listener in waiting] == ["store-unavailable"] * 3
    assert {listener.task.outcome.message for listener in waiting} == {GIVEN_UP.error}
    assert bench.opened == {} and all(listener.task.began_at is None for listener in waiting)


def test_whoever_waits_looks_again_without_being_told():
    bench = Bench()
    assert bench.executor._left_s() is None

    bench.refused = REFUSED
    assert bench.executor._left_s() is not None
