"""Models that come and go: which one makes room, and which one never does."""

import threading

import pytest

from orchestrion.errors import InvalidRequest, Overloaded
from orchestrion.models.cache import ModelCache
from orchestrion.models.protocol import Conditioning, ModelInfo, Performance

WISH = Conditioning("a", "", None, None, None, None, 1.0, 0, None)


class Model:
    def __init__(self, info, log):
        self.info, self.log, self.active, self.closed = info, log, 0, False

    def prepare(self, conditioning):
        assert not self.closed
        return f"{conditioning.prompt} by {self.info.name}"

    def perform(self, conditioning, *, interactive=True, resume=None, prepared=None):
        assert not self.closed
        self.active += 1

        def chunks():
            yield from ()
            self.active -= 1

        return Performance(chunks(), choices={"by": self.info.name}, checkpoint=lambda: resume)

    def close(self):
        self.closed = True
        self.log.append(f"-{self.info.name}")


class Library:
    def __init__(self, resident):
        self.log, self.loaded = [], {}
        self.cache = ModelCache(resident)

    def model(self, name):
        info = ModelInfo(name, "1", "MIT", True, 32_000, 1, 30.0, ())

        def load():
            self.log.append(f"+{name}")
            self.loaded[name] = Model(info, self.log)
            return self.loaded[name]

        return self.cache.put(info, load)


def make(model):
    """The maker of a piece that is taken to its end."""
    performance = model.perform(WISH)
    assert list(performance.chunks) == []
    return performance.choices["by"]


def test_nothing_is_loaded_before_it_is_needed_and_cards_are_there():
    library = Library(resident=1)
    model = library.model("a")

    assert model.info.name == "a"
    assert library.log == []
    assert make(model) == "a"
    assert library.log == ["+a"]


def test_the_least_recently_used_makes_room():
    library = Library(resident=2)
    a, b, c = (library.model(name) for name in "abc")
    for model in (a, b, a, c, a, b):
        make(model)

    assert library.log == ["+a", "+b", "-b", "+c", "-c", "+b"]


def test_a_model_at_work_is_never_put_away():
    library = Library(resident=2)
    a, b, c = (library.model(name) for name in "abc")
    a.perform(WISH)
    b.load()
    c.perform(WISH)

    assert library.log == ["+a", "+b", "-b", "+c"]
    with pytest.raises(Overloaded, match="a and c are at work") as told:
        b.perform(WISH)
    assert told.value.retry_after_s > 0
    library.loaded["a"].active = 0
    assert b.perform(WISH).choices == {"by": "b"}


def test_a_piece_that_was_cut_off_goes_on_with_a_model_that_had_to_be_loaded():
    library = Library(resident=1)
    a, b = library.model("a"), library.model("b")
    a.load()

    assert b.perform(WISH, resume=b"so far").checkpoint() == b"so far"


def test_while_one_is_loaded_the_others_go_on():
    library = Library(resident=2)
    a, b = library.model("a"), library.model("b")
    a.load()
    reading, go_on = threading.Event(), threading.Event()
    really_read = b.read

    def slow_read():
        reading.set()
        assert go_on.wait(timeout=5)
        return really_read()

    b.read = slow_read
    loading = threading.Thread(target=b.load)
    loading.start()
    assert reading.wait(timeout=5)
    # With one lock around a load this would wait for the other model.
    done = threading.Thread(target=lambda: a.perform(WISH))
    done.start()
    done.join(timeout=5)
    held_up = done.is_alive()
    go_on.set()
    loading.join(timeout=5)
    done.join(timeout=5)

    assert not held_up
    assert library.log == ["+a", "+b"]


def test_whoever_asks_for_a_model_that_is_being_loaded_waits_for_that_load():
    library = Library(resident=1)
    a = library.model("a")
    reading, go_on = threading.Event(), threading.Event()
    really_read = a.read

    def slow_read():
        reading.set()
        assert go_on.wait(timeout=5)
        return really_read()

    a.read = slow_read
    threads = [threading.Thread(target=a.load) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert reading.wait(timeout=5)
    go_on.set()
    for thread in threads:
        thread.join(timeout=5)

    assert library.log == ["+a"]


def test_a_load_that_fails_costs_those_who_asked_and_leaves_the_place_free():
    library = Library(resident=1)
    a, b = library.model("a"), library.model("b")

    def broken():
        raise InvalidRequest.of("model", "a", "is not all there")

    a.read, really_read = broken, a.read
    with pytest.raises(InvalidRequest):
        a.perform(WISH)

    assert b.perform(WISH).choices == {"by": "b"}
    library.loaded["b"].active = 0
    a.read = really_read
    assert a.perform(WISH).choices == {"by": "a"}


def test_what_was_prepared_keeps_its_model_until_the_piece_is_begun_or_given_up():
    library = Library(resident=1)
    a, b = library.model("a"), library.model("b")
    prepared = a.prepare(WISH)
    with pytest.raises(Overloaded):
        b.load()

    a.perform(WISH, prepared=prepared)
    with pytest.raises(Overloaded):
        b.load()
    library.loaded["a"].active = 0
    b.load()

    given_up = b.prepare(WISH)
    with pytest.raises(Overloaded):
        a.load()
    del given_up
    a.load()
    assert library.log == ["+a", "-a", "+b", "-b", "+a"]
