"""A request to a MusicGen from its words to its record: what was asked, what was heard, what was not followed."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrion.accounting.cost import Node
from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.model import MusicGen
from orchestrion.models.settings import ModelSettings
from orchestrion.rendering.renderer import Renderer
from orchestrion.rendering.suitability import told_intent
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import Uncounted
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_hugging_face

PROMPT = "dark techno without drums or vocals, crescendo, one bar loop at 120 bpm, then slower"


class StoppedClock:
    """Time stands still."""

    def monotonic_s(self) -> float:
        return 0.0

    def thread_cpu_s(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musicgen")
    checkpoint = str(write_hugging_face(folder / "tiny", TINY, TINY_CODEC))
    settings = ModelSettings(precision="int8", device="cpu", slots=1)
    model = MusicGen.load("tiny", checkpoint, settings, SystemClock())
    yield Renderer(
        models={"tiny": model},
        store=TrackStore.open(str(folder / "store")),
        signer=Signer.create(folder / "key.pem"),
        node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
        pool="test",
        recorder=Uncounted(),
        clock=StoppedClock(),
    )
    model.close()


def request(**fields):
    given = {"prompt": PROMPT, "model": "tiny", "purpose": "research", "format": "flac"}
    return TrackSpec.from_json(given | fields).resolve()


def test_a_record_has_the_prompt_and_what_was_heard_of_it(renderer):
    track = renderer.render(request(key="A minor", negative_prompt="noise"))

    assert isinstance(track, Track), track
    record = track.record
    assert record.prompt == PROMPT
    assert record.choices["caption"].startswith("dark techno, crescendo")
    assert record.choices["caption"].endswith("bpm: 120.0. key: a minor")
    assert record.choices["negative_caption"] == "noise, drums, vocals"
    assert (record.loop, record.bars, record.duration_s) == (True, 1, 2.0)
    assert not [one for one in json.loads(record.intent)["not_followed"] if one["kind"] == "model"]


@pytest.mark.parametrize("field, value", [("sections", [{"name": "intro"}]), ("tempo_end_bpm", 90), ("key_end", "E")])
def test_what_it_cannot_even_hear_is_refused(renderer, field, value):
    with pytest.raises(InvalidRequest, match=f"{field}: tiny cannot follow this"):
        renderer.open(request(prompt="dark techno", **{field: value}))


def test_a_genre_is_not_said_to_be_played_as_its_nearest_style_where_its_name_is_heard(renderer):
    wish, info = request(prompt="a sea shanty, 3/4"), renderer.models["tiny"].info
    two = request(prompt="a sea shanty, disco")

    assert told_intent(wish, info).not_followed == ()
    assert told_intent(wish, replace(info, hears=())).not_followed[0].why.startswith("there is no style sea shanty")
    # Of two styles one is missed by any model.
    assert [one.words.text for one in told_intent(two, info).not_followed] == ["sea shanty"]


def test_an_instrument_is_not_said_to_be_played_by_another_where_its_name_is_heard(renderer):
    info = renderer.models["tiny"].info
    told = [
        [one.why for one in told_intent(request(prompt=f"waltz with {name}"), of).not_followed if one.kind != "model"]
        for name in ("ukulele", "kazoo")
        for of in (info, replace(info, hears=()))
    ]

    # A kazoo has no name in a request: the harmonica in its place is what a model is told, too.
    assert told == [[], ["played by a nylon guitar"], ["played by a harmonica"], ["played by a harmonica"]]
