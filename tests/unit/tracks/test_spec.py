"""What text becomes a `TrackRequest`, what is refused and how, and what a track's id depends on."""

import dataclasses
import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.identity import track_id
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.request import (
    MAX_SEED,
    SAMPLE_RATES_HZ,
    AudioFormat,
    Composition,
    Delivery,
    Purpose,
    TrackRequest,
)
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import DYNAMICS, ENERGIES, METRES, MOODS, SECTION_NAMES, STYLES
from tests.malformed_requests import MALFORMED_REQUESTS, MALFORMED_ROWS, MALFORMED_VALUES

THEME = "sha256:" + "0123456789abcdef" * 4


def resolved(**fields) -> TrackRequest:
    return TrackSpec.from_json({"prompt": "something"} | fields).resolve()


def identity(request: TrackRequest) -> str:
    return track_id(request, model_revision="rev-1", recipe_version="1")


def problem_of(read, value) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(value).resolve()
    return caught.value


def assert_useful(error: InvalidRequest, named: str) -> None:
    message = str(error)
    assert named in "".join(problem.field for problem in error.problems), message
    assert all(problem.message for problem in error.problems)
    assert len(message) < 2000
    assert message.isprintable()
    message.encode("utf-8")
    json.dumps([dataclasses.asdict(problem) for problem in error.problems])


@pytest.mark.parametrize(
    "named, value",
    [pytest.param(named, value, id=name) for name, named, value in MALFORMED_REQUESTS + MALFORMED_VALUES],
)
def test_malformed_requests_are_refused_by_a_short_message_that_names_the_field(named, value):
    assert_useful(problem_of(TrackSpec.from_json, value), named)


@pytest.mark.parametrize("named, cells", [pytest.param(named, row, id=name) for name, named, row in MALFORMED_ROWS])
def test_malformed_rows_are_refused_by_a_short_message_that_names_the_field(named, cells):
    assert_useful(problem_of(TrackSpec.from_text, cells), named)


def test_the_corpus_is_as_large_as_promised():
    assert len({name for name, _, _ in MALFORMED_REQUESTS}) >= 100
    assert len({name for name, _, _ in MALFORMED_ROWS}) >= 30


@pytest.mark.parametrize(
    "value, remedy",
    [
        ({"prompt": "x", "tempo": 90}, "tempo_bpm"),
        ({"prompt": "x", "style": "polka"}, "bossa-nova"),
        ({"prompt": "x", "mood": "hangry"}, "nostalgic"),
        ({"prompt": "x", "key": "H"}, "D minor"),
        ({"prompt": "x", "theme": "song.mid"}, "64 lower-case hex digits"),
        ({"prompt": "x", "continuation": "song.wav"}, "upload the audio"),
        ({"prompt": "x", "guidance": 0}, "greater than or equal to 1"),
        ({"prompt": "x", "format": "mp3", "sample_rate_hz": 96000}, "48000"),
        ({"prompt": "x", "tempo_bpm": 400}, "300"),
        ({"prompt": ""}, "describe the music"),
        ({"prompt": "x\u202e"}, r"U\+202E"),
        ({"prompt": "900 bpm"}, "give tempo_bpm between 30 and 300"),
        ({"prompt": "x", "exclude": ["trumpett"]}, "did you mean trumpet"),
        ({"prompt": "x", "instruments": ["qqqq"]}, "GET /v1/styles list them"),
        ({"prompt": "x", "instruments": "piano"}, r'write for example \["piano"'),
        ({"prompt": "x", "sections": "intro"}, r'write for example \[{"name": "intro", "bars": 4}'),
        ({"prompt": "x", "sections": [{"name": "hook"}]}, "use one of intro, verse"),
        ({"prompt": "x", "metre": "9/8"}, "use one of 2/4"),
        ({"prompt": "x", "exclude": ["drums"] * 40}, "give at most 32"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_refusal_says_what_to_do_instead(value, remedy):
    assert re.search(remedy, str(problem_of(TrackSpec.from_json, value)))


def test_every_wrong_field_is_named_at_once():
    error = problem_of(TrackSpec.from_json, {"prompt": "x", "seed": -1, "mood": "hangry", "tempo": 9})

    assert [problem.field for problem in error.problems] == ["mood", "seed", "tempo"]


def test_many_problems_are_counted_and_not_all_told():
    error = problem_of(TrackSpec.from_json, {"prompt": "x"} | {f"f{n}": n for n in range(50)})

    assert error.problems[-1].value == "50 problems"
    assert len(error.problems) < 10


def test_what_nobody_says_has_defaults_or_is_left_to_the_model():
    composition = Composition(
        prompt="something", negative_prompt="", style=None, mood=None, tempo_bpm=None, key=None, duration_s=30.0,
        seed=0, theme=None, continuation=None, guidance=None, temperature=None, top_k=None, top_p=None,
        exclude=None, instruments=None, ensemble=None, metre=None, sections=None, bars=None, loop=None,
        tempo_end_bpm=None, key_end=None, energy=None, dynamics=None, model="composer",
    )  # fmt: skip
    delivery = Delivery(
        AudioFormat.WAV, sample_rate_hz=44_100, loudness_lufs=-14.0, fade_in_s=0.0, fade_out_s=0.0, channels=None
    )
    asked = resolved()
    assert (asked.composition, asked.delivery) == (composition, delivery)
    assert (asked.requester, asked.purpose) == ("anonymous", Purpose.COMMERCIAL)


def test_the_prompt_fills_what_is_not_given():
    request = resolved(prompt="slow sad piano in D minor, 70 bpm, 20 seconds")

    said = (
        request.composition.style,
        request.composition.mood,
        request.composition.key,
        request.composition.tempo_bpm,
        request.composition.duration_s,
    )
    assert said == ("piano", "sad", Key(2, "minor"), 70.0, 20.0)


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("style", "rock", "rock"),
        ("mood", "happy", "happy"),
        ("tempo_bpm", 151, 151.0),
        ("key", "Eb major", Key(3, "major")),
        ("duration_s", 7, 7.0),
    ],
)
@given(words=st.text(string.ascii_letters + " ,#", max_size=40))
def test_a_field_always_wins_over_the_prompt(field, value, expected, words):
    prompt = f"slow sad piano in D minor, 70 bpm, 20 seconds {words}"

    assert getattr(resolved(prompt=prompt, **{field: value}).composition, field) == expected


@pytest.mark.parametrize("field, value", [("tempo_bpm", 120.0), ("duration_s", 30.0)])
def test_a_field_mends_what_the_prompt_asks_too_much_of(field, value):
    request = resolved(prompt="900 bpm, 1 hour", **{"tempo_bpm": 99, "duration_s": 9} | {field: value})

    assert getattr(request.composition, field) == value


@pytest.mark.parametrize("audio_format", AudioFormat)
def test_each_format_takes_its_own_rates_and_has_one_of_them_as_default(audio_format):
    rates = SAMPLE_RATES_HZ[audio_format]

    assert [resolved(format=audio_format.value, sample_rate_hz=rate).delivery.sample_rate_hz for rate in rates] == list(
        rates
    )
    assert resolved(format=audio_format.value).delivery.sample_rate_hz in rates


@pytest.mark.parametrize("style", [*STYLES, "Lo-Fi", "bossa nova", "Drum & Bass", "HIP HOP", "hip_hop"])
def test_a_style_may_be_named_as_people_write_it(style):
    assert resolved(style=style).composition.style in STYLES


@pytest.mark.parametrize("mood", [*MOODS, "Melancholic", " relaxing "])
def test_a_mood_may_be_named_as_people_write_it(mood):
    assert resolved(mood=mood).composition.mood in MOODS


@pytest.mark.parametrize(
    "prompt, kept",
    [
        ("  piano \n", "piano"),
        ("line one\r\nline two\rline three", "line one\nline two\nline three"),
        ("cafe\u0301 jazz", "café jazz"),
        ("спокойное пианино", "спокойное пианино"),
        ("静かなピアノ", "静かなピアノ"),
        ("موسيقى هادئة\u200f", "موسيقى هادئة\u200f"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("family 👨\u200d👩\u200d👧 song 🎹", "family 👨\u200d👩\u200d👧 song 🎹"),
        ("an emoji of next year \U0001faff\U0001fae9", "an emoji of next year \U0001faff\U0001fae9"),
        ("x" * 2000, "x" * 2000),
    ],
    ids=ascii,
)
def test_prompts_in_any_script_are_kept_in_one_form(prompt, kept):
    assert resolved(prompt=prompt).composition.prompt == kept


def test_fades_may_fill_the_track_exactly():
    assert resolved(duration_s=3.3, fade_in_s=1.1, fade_out_s=2.2).delivery.fade_out_s == 2.2


# Identity


FIELDS_THAT_SOUND = {
    "prompt": "something else",
    "negative_prompt": "drums",
    "style": "jazz",
    "mood": "sad",
    "tempo_bpm": 99,
    "key": "A minor",
    "duration_s": 31,
    "seed": 1,
    "theme": THEME,
    "continuation": THEME,
    "guidance": 4.5,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 0,
    "exclude": ["drums"],
    "instruments": ["cello"],
    "ensemble": "solo",
    "metre": "3/4",
    "sections": [{"name": "intro"}],
    "bars": 15,
    "loop": True,
    "tempo_end_bpm": 99,
    "key_end": "A minor",
    "energy": "low",
    "dynamics": "soft",
    "model": "other",
    "format": "flac",
    "sample_rate_hz": 48_000,
    "loudness_lufs": -16,
    "fade_in_s": 0.1,
    "fade_out_s": 0.1,
    "channels": 1,
}
FIELDS_THAT_DO_NOT = {"requester": "alice", "purpose": "research"}


def test_every_field_is_known_to_sound_or_not_to():
    assert (
        resolved().values().keys()
        == set(TrackSpec.model_fields)
        == FIELDS_THAT_SOUND.keys() | FIELDS_THAT_DO_NOT.keys()
    )


def test_each_field_that_sounds_gives_another_track():
    ids = [identity(resolved(**{field: value})) for field, value in FIELDS_THAT_SOUND.items()]

    assert len({identity(resolved()), *ids}) == 1 + len(FIELDS_THAT_SOUND)


@pytest.mark.parametrize("field", FIELDS_THAT_DO_NOT)
def test_who_asks_and_why_gives_the_same_track(field):
    assert identity(resolved(**{field: FIELDS_THAT_DO_NOT[field]})) == identity(resolved())


def test_another_revision_or_recipe_gives_another_track():
    request = resolved()

    ids = {track_id(request, model, recipe) for model in ("a", "b") for recipe in ("1", "2")}

    assert len(ids) == 4


def test_ids_stay_the_same_from_release_to_release():
    # A changed id renders every stored track anew. If this must change, say so in the changelog.
    assert (
        identity(resolved(prompt="slow sad piano in D minor, 70 bpm, 20 seconds", seed=7))
        == "trk_ngwqqqzkpliiepn3ravgkvk64nwv7tmy"
    )
    assert (
        identity(
            resolved(
                prompt="string quartet", negative_prompt="drums", key="Eb major", tempo_bpm=99, theme=THEME,
                model="other/model", format="mp3", fade_out_s=2,
            )
        )
        == "trk_x3i7rymxup3m2islg6qyzcjilvlaoy7i"
    )  # fmt: skip


@pytest.mark.parametrize(
    "one, other",
    [
        ({"key": "Eb minor"}, {"key": "d# min"}),
        ({"tempo_bpm": 120}, {"tempo_bpm": 120.0}),
        ({"style": "Lo-Fi"}, {"style": "lofi"}),
        ({"prompt": " cafe\u0301 "}, {"prompt": "café"}),
        ({"sample_rate_hz": 44_100}, {}),
        ({"duration_s": 30}, {}),
        ({"fade_in_s": -0.0}, {"fade_in_s": 0}),
        ({"tempo_bpm": None, "key": None, "style": None}, {}),
        ({"continuation": None, "guidance": None, "temperature": None, "top_k": None, "top_p": None}, {}),
        ({"guidance": 3, "temperature": 1, "top_p": 1}, {"guidance": 3.0, "temperature": 1.0, "top_p": 1.0}),
        ({"prompt": "a\r\nb"}, {"prompt": "a\nb"}),
        ({"exclude": ["Drums", "basses"]}, {"exclude": ["bass", "drums", "drums"]}),
        ({"exclude": [], "instruments": [], "sections": [], "loop": False, "channels": None}, {}),
        ({"instruments": ["Cellos", "cello"]}, {"instruments": ["cello"]}),
        ({"ensemble": "A-Cappella", "energy": "LOW"}, {"ensemble": "a cappella", "energy": "low"}),
        ({"sections": [{"name": "Build up"}]}, {"sections": [{"name": "build-up", "bars": None}]}),
        ({"sections": [{"name": "intro", "duration_s": 8}]}, {"sections": [{"name": "intro", "duration_s": 8.0}]}),
        ({"key": "A harmonic-minor", "key_end": "db blues"}, {"key": "a harmonic minor", "key_end": "C# blues"}),
    ],
    ids=str,
)
def test_two_ways_to_say_the_same_give_the_same_track(one, other):
    assert identity(resolved(**one)) == identity(resolved(**other))


def test_an_id_is_safe_in_a_path_a_url_and_a_file_name_without_case():
    assert re.fullmatch(r"trk_[a-z2-7]{32}", identity(resolved()))


# One request, three ways in

TENTHS = st.integers(0, 10).map(lambda n: n / 10)
REQUESTS = st.fixed_dictionaries(
    {
        "prompt": st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=60).filter(
            str.strip
        )
    },
    optional={
        "negative_prompt": st.sampled_from(["drums", "vocals, choir"]),
        "style": st.sampled_from(sorted(STYLES)),
        "mood": st.sampled_from(sorted(MOODS)),
        "tempo_bpm": st.floats(30, 300) | st.integers(30, 300),
        "key": st.sampled_from(["C", "F# minor", "Bb dorian", "c#m"]),
        "duration_s": st.floats(2, 600) | st.integers(2, 600),
        "seed": st.integers(0, MAX_SEED),
        "theme": st.just(THEME),
        "continuation": st.just(THEME),
        "guidance": st.floats(1, 10) | st.integers(1, 10),
        "temperature": st.floats(0, 2) | st.integers(0, 2),
        "top_k": st.integers(0, 2048),
        "top_p": st.floats(0, 1) | st.integers(0, 1),
        "exclude": st.lists(st.sampled_from(["vocals", "castanets", "pad", "timpani"]), max_size=3),
        "instruments": st.lists(st.sampled_from(["cello", "piano", "bouzouki"]), max_size=3),
        "ensemble": st.sampled_from(["trio", "quartet"]),
        "metre": st.sampled_from(sorted(METRES)),
        "sections": st.lists(st.sampled_from(SECTION_NAMES).map(lambda name: {"name": name}), max_size=2),
        "tempo_end_bpm": st.floats(30, 300) | st.integers(30, 300),
        "key_end": st.sampled_from(["C blues", "F# locrian", "Bb pentatonic"]),
        "energy": st.sampled_from(ENERGIES),
        "dynamics": st.sampled_from(DYNAMICS),
        "channels": st.sampled_from([1, 2]),
        "format": st.sampled_from(list(AudioFormat)).map(str),
        "loudness_lufs": st.floats(-30, -9),
        "fade_in_s": TENTHS,
        "fade_out_s": TENTHS,
        "requester": st.sampled_from(["alice", "team:a@b.c"]),
        "purpose": st.sampled_from(list(Purpose)).map(str),
    },
)


def cell(value) -> str:
    """As people write it in a table."""
    if not isinstance(value, list):
        return str(value)
    return ", ".join(item["name"] if isinstance(item, dict) else item for item in value)


@given(fields=REQUESTS)
def test_json_csv_and_the_resolved_form_are_one_request(fields):
    prompt = {"prompt": fields["prompt"], "tempo_bpm": 90, "duration_s": 30} | fields  # Odd prompts may ask for 0 bpm.

    from_json = TrackSpec.from_json(json.loads(json.dumps(prompt))).resolve()
    from_csv = TrackSpec.from_text({name: cell(value) for name, value in prompt.items()} | {"unset": ""}).resolve()

    assert from_csv == from_json
    assert identity(from_csv) == identity(from_json)


@given(fields=REQUESTS)
def test_a_resolved_request_sent_again_is_the_same_request(fields):
    request = TrackSpec.from_json({"tempo_bpm": 90, "duration_s": 30} | fields).resolve()

    again = TrackSpec.from_json(request.values()).resolve()

    # What only words asked for is given by fields then.
    assert again == dataclasses.replace(request, intent=again.intent, said=frozenset())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(value=JSON_VALUES | st.dictionaries(st.sampled_from(sorted(TrackSpec.model_fields)), JSON_VALUES, max_size=6))
def test_anything_else_is_a_request_or_an_invalid_request_and_never_another_error(value):
    try:
        request = TrackSpec.from_json(value).resolve()
    except InvalidRequest as error:
        assert len(str(error)) < 2000
    else:
        assert identity(request).startswith("trk_")
