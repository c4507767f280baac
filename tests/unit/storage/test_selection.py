"""Which tracks of a store came from what, held against a plain search of their records."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.storage.selection import Selection, prompt_sha256, select
from orchestrion.storage.track_index import IndexedTrack, revision_of, spelt
from orchestrion.tracks.identity import piece_id_of
from tests.unit.storage.test_piece_takedown import forget_the_index
from tests.unit.storage.test_takedown import made

#: As composers, MusicGen and plug-ins have them.
REVISIONS = ("sha256:" + "4f" * 32, "9c" * 32 + "+int8+cpu", "ein Modell/ü 1.0", "x" * 300)


@pytest.fixture
def records(renderer):
    theme = renderer.store.put_theme(b"MThd a theme")
    made_records = []
    for revision in REVISIONS:
        model = renderer.models["tone"]
        model.info = replace(model.info, revision=revision)
        asked = (
            {"requester": "Ann"}, {"format": "mp3"}, {"seed": 1, "theme": theme}, {"seed": 2, "continuation": theme},
        )  # fmt: skip
        made_records += [made(renderer, **fields).record for fields in asked]
        made_records.append(made(renderer, "für Ann", requester="Ben").record)
    return made_records


def found(renderer, **conditions):
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        selected = select(renderer.tracks, Selection(**conditions), pool, said.append)
    return sorted(selected), said


def plain(records, matches):
    expected = sorted((record.track_id, piece_id_of(record)) for record in records if matches(record))
    assert 0 < len(expected) < len(records), "the sample cannot tell right from wrong"
    return expected


@pytest.mark.parametrize("indexed", [True, False])
def test_exactly_the_tracks_that_meet_every_condition_are_found(renderer, records, indexed):
    if not indexed:
        forget_the_index(renderer)
    theme = next(record.theme for record in records if record.theme)
    for revision in REVISIONS:
        expected = plain(records, lambda record, revision=revision: record.model_revision == revision)
        bare = revision.removeprefix("sha256:")
        assert found(renderer, model_revision=revision)[0] == expected
        assert (
            found(renderer, model_revision=bare)[0] == found(renderer, model_revision=f"sha256:{bare}")[0] == expected
        )
    prompt = {"prompt_sha256": prompt_sha256("fu\u0308r Ann ")}
    assert found(renderer, **prompt)[0] == plain(records, lambda record: record.prompt == "für Ann")
    of_theme = plain(records, lambda record: theme in (record.theme, record.continuation))
    assert found(renderer, reference=theme)[0] == of_theme
    selected, said = found(renderer, requester="Ann")
    assert selected == plain(records, lambda record: record.requester == "Ann")
    assert said[-1] == f"who asked is in no index: {len(records)} records are read"
    both = found(renderer, model_revision=REVISIONS[1], requester="Ben")
    assert both[0] == plain(records, lambda record: (record.model_revision, record.requester) == (REVISIONS[1], "Ben"))


def test_a_revision_that_no_track_has_is_an_error_with_the_nearest(renderer, records):
    for text in ("4f4f", "4f" * 31 + "4e", "sha256:" + "4f" * 31):
        with pytest.raises(InvalidRequest, match=f"is the revision of no track; the nearest are {REVISIONS[0]}"):
            found(renderer, model_revision=text)


def test_a_condition_that_is_none_or_cannot_be_met_is_refused():
    with pytest.raises(InvalidRequest, match="name what the tracks came from"):
        Selection()
    with pytest.raises(InvalidRequest, match="64 lower-case hex"):
        Selection(prompt_sha256="abc")
    with pytest.raises(InvalidRequest, match="sha256: and 64"):
        Selection(reference="theme.mid")
    with pytest.raises(InvalidRequest, match="prompt"):
        prompt_sha256("\x00")


def test_what_a_name_was_planted_for_is_not_selected(renderer, records):
    innocent = next(record for record in records if record.model_revision == REVISIONS[0])
    [listed] = [one for one in renderer.store.index.all() if one.track_id == innocent.track_id]
    renderer.store._objects.create(replace(listed, revision=spelt(REVISIONS[1])).key, b"")

    selected, _ = found(renderer, model_revision=REVISIONS[1])

    assert innocent.track_id not in {track_id for track_id, _ in selected}


@pytest.mark.parametrize("revision", [*REVISIONS, "", "a=b~c", "日本語" * 40])
def test_every_revision_is_a_name_and_can_be_read_in_it(revision):
    spelling = spelt(revision)

    whole, name = (
        revision_of(spelling),
        IndexedTrack("trk_" + "a" * 32, "pce_" + "b" * 32, "c" * 32, None, None, spelling),
    )
    assert whole == revision or (whole.endswith("…") and len(revision) > 30)
    assert len(name.key.rpartition("/")[2]) <= 255 and name.key.isascii()
