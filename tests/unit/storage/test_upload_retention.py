"""Uploads share a size and go after some days; what comes again stays."""

from datetime import timedelta

import pytest

from orchestrion.errors import NotFound, Overloaded
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.upload_retention import SWEEP_EVERY_S, KeptUploads
from tests.ingress_app import HeldClock


class Place:
    def __init__(self, folder):
        self.folder = str(folder)
        self.store = TrackStore.open(self.folder)
        self.clock = HeldClock()
        self.kept = self.process()

    def process(self, **limits):
        limits = {"max_bytes": 100, "keep_days": 30} | limits
        return KeptUploads(self.store, Objects(self.folder), self.clock, **limits)

    def after(self, days):
        self.clock.reading += timedelta(days=days)
        self.clock.reading_s += days * 86_400


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "store")


def has(place, ref):
    try:
        place.store.theme(ref)
    except NotFound:
        return False
    return True


def test_what_is_kept_is_found_by_its_reference(place):
    ref = place.kept.put(b"melody")

    assert place.store.theme(ref) == b"melody"
    assert place.kept.put(b"melody") == ref


def test_all_uploads_together_have_a_size(place):
    place.kept.put(bytes(90))

    with pytest.raises(Overloaded, match="no room for more uploads; the oldest go after 30 days") as refused:
        place.kept.put(bytes(11))

    assert refused.value.retry_after_s == SWEEP_EVERY_S
    place.kept.put(bytes(90))
    place.kept.put(bytes(10))


def test_another_process_sees_what_this_one_kept(place):
    place.kept.put(bytes(90))

    with pytest.raises(Overloaded):
        place.process().put(bytes(11))


def test_what_is_too_old_goes_and_makes_room(place):
    old = place.kept.put(bytes(90))
    place.after(days=31)

    new = place.kept.put(bytes(11))

    assert (has(place, old), has(place, new)) == (False, True)
    assert len(Objects(place.folder).keys("uploads")) == 1


def test_what_comes_again_stays(place):
    old = place.kept.put(b"melody")
    place.after(days=20)
    assert place.kept.put(b"melody") == old
    place.after(days=20)

    place.kept.put(b"another")

    assert has(place, old)
    # The mark of the first time is gone, the one of the second counts.
    assert len(Objects(place.folder).keys("uploads")) == 2


def test_uploads_are_kept_for_ever_where_that_is_wanted(place):
    kept = place.process(keep_days=None)
    old = kept.put(b"melody")
    place.after(days=4000)

    kept.put(b"another")

    assert has(place, old)


def test_what_nobody_uploaded_over_http_never_goes(place):
    ref = place.store.put_theme(b"from a catalog")
    place.after(days=4000)

    place.kept.put(b"melody")

    assert has(place, ref)
