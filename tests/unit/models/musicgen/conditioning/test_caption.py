"""What a MusicGen is told in words, and what it is told to avoid."""

import pytest

from orchestrion.models.musicgen.conditioning.caption import Caption, caption
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.spec import TrackSpec


def heard(*, raw=False, **fields) -> Caption:
    request = TrackSpec.from_json(fields).resolve()
    return caption(Conditioning.of(request.composition, None, None), raw=raw)


@pytest.mark.parametrize(
    "prompt, text",
    [
        ("neon city at night.", "neon city at night."),
        (
            "slow sad piano in D minor, 70 bpm, 20 seconds",
            "slow sad piano. instrument: piano. bpm: 70.0. key: d minor",
        ),
        ("Zydeco two-step, accordion. A major", "Zydeco two-step, accordion. instrument: accordion. key: a major"),
        ("8 bars of funk with slap bass at 110", "funk with slap bass. instrument: slap bass. bpm: 110.0"),
        ("one line\nanother line", "one line. another line"),
        ("asdkfj qpwoe (zxmnv)", "asdkfj qpwoe, zxmnv"),
    ],
)
def test_what_words_ask_for_stands_behind_them_as_in_training(prompt, text):
    assert heard(prompt=prompt).text.rstrip(".") == text.rstrip(".")


@pytest.mark.parametrize(
    "prompt, text",
    [
        (
            "Corporate bed, optimistic, mp3, 44.1 kHz, -16 LUFS, mono, fade out over 5 seconds",
            "Corporate bed, optimistic",
        ),
        ("make me a 15 second loopable techno beat in stereo please", "techno beat"),
        ("ambient guitar, 25 seconds long. Airy.", "ambient guitar, Airy. instrument: guitar"),
        ("2 minutes of jazz", "jazz"),
        ("5/4 jazz, piano trio, ca. 160 bpm", "5/4 jazz, piano trio. instrument"),
        ("key: D minor. or no wait, Eb major. cinematic pads", "cinematic pads. instrument"),
        ("30 sec intro, then a 40 second outro – indie rock", "indie rock"),
        ("jazz in the style of Miles Davis with lyrics about rain, brushes", "jazz"),
    ],
)
def test_what_does_not_sound_is_not_said(prompt, text):
    assert heard(prompt=prompt).text.startswith(text)
    assert not {"seconds", "Davis", "lyrics", "kHz", "minutes", "fade"} & set(heard(prompt=prompt).text.split())


@pytest.mark.parametrize(
    "fields, text, negative",
    [
        ({"prompt": "rock (no drums), 30 seconds"}, "rock", "drums"),
        ({"prompt": "techno, without any vocals or guitars, relentless"}, "techno, relentless", "guitar, vocals"),
        ({"prompt": "a quiet evening", "exclude": ["drums", "bass"]}, "a quiet evening", "bass, drums"),
        ({"prompt": "a quiet evening", "negative_prompt": "noise, drums."}, "a quiet evening", "noise, drums"),
        ({"prompt": "techno, no vocals", "negative_prompt": "drums"}, "techno", "drums, vocals"),
        ({"prompt": "un soir", "negative_prompt": "pas de batterie, sans guitare"}, "un soir", "drums, guitar"),
        ({"prompt": "a quiet evening", "exclude": ["drum-and-bass"]}, "a quiet evening", "drum and bass"),
        ({"prompt": "warm guitars at night", "exclude": ["guitar"]}, "warm at night", "guitar"),
    ],
    ids=str,
)
def test_what_is_unwanted_is_said_in_the_other_caption_alone(fields, text, negative):
    told = heard(**fields)

    assert (told.text.partition(". ")[0], told.negative) == (text, negative)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"style": "drum-and-bass"}, "genre: drum and bass"),
        ({"mood": "nostalgic"}, "moods: nostalgic"),
        ({"tempo_bpm": 120}, "bpm: 120.0"),
        ({"tempo_bpm": 92.54}, "bpm: 92.5"),
        ({"key": "F# dorian"}, "key: f# dorian"),
        ({"instruments": ["cello", "piano"]}, "instrument: cello, piano"),
        ({"metre": "7/8", "energy": "low", "dynamics": "crescendo"}, "keywords: 7/8 time, sparse, crescendo"),
        ({"ensemble": "solo", "instruments": ["cello"]}, "keywords: solo. instrument: cello"),
        (
            {"style": "jazz", "mood": "calm", "tempo_bpm": 88, "key": "Eb"},
            "genre: jazz. moods: calm. bpm: 88.0. key: eb major",
        ),
        ({"bars": 8, "tempo_bpm": 100}, "bpm: 100.0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("raw", [False, True])
def test_fields_are_said_as_in_training(fields, expected, raw):
    assert heard(prompt="a walk in the rain.", raw=raw, **fields).text == f"a walk in the rain. {expected}"


def test_length_and_seed_are_no_music():
    assert heard(prompt="a walk in the rain", duration_s=12, seed=7).text == "a walk in the rain"


@pytest.mark.parametrize(
    "prompt, fields, text",
    [
        ("fast rock in A minor", {"style": "jazz"}, "fast. genre: jazz. bpm: 144.0. key: a minor"),
        ("fast rock in A minor", {"tempo_bpm": 60}, "rock. bpm: 60.0. key: a minor"),
        (
            "soft piano, 70 bpm",
            {"tempo_bpm": 140, "key": "A minor"},
            "soft piano. instrument: piano. bpm: 140.0. key: a minor",
        ),
        ("happy song in 3/4", {"mood": "sad", "metre": "5/4"}, "song. moods: sad. keywords: 5/4 time"),
    ],
)
def test_words_that_gave_way_to_a_field_are_not_said(prompt, fields, text):
    assert heard(prompt=prompt, **fields).text == text


@pytest.mark.parametrize(
    "prompt, text, negative",
    [
        (
            "piano triste y lento sin batería, 30 segundos",
            "Slow sad music with piano. instrument: piano. bpm: 70.0",
            "drums",
        ),
        (
            "Fröhliche Blasmusik für eine Hochzeit, 120 bpm in B-Dur, ohne Gesang",
            "Happy brass band music with brass for wedding. instrument: brass. bpm: 120.0. key: bb major",
            "vocals",
        ),
        ("静かなピアノ、ドラムなし、30秒", "Soft calm music with piano. instrument: piano", "drums"),
        ("одиннадцать восьмых, 11/8, гусли, былина", "Bylina music with gusli. instrument: gusli", ""),
        ("Ländler, zwei Klarinetten und Zither, 3/4", "Ländler music with clarinet and zither in 3/4", ""),
    ],
)
def test_a_prompt_in_another_language_becomes_an_english_caption(prompt, text, negative):
    told = heard(prompt=prompt)

    assert told.text.startswith(text)
    assert told.negative == negative


def test_of_a_prompt_that_is_not_understood_its_own_words_are_said():
    assert heard(prompt="die vögel über dem see und das haus").text == "die vögel über dem see und das haus"


def test_of_words_that_say_only_what_must_not_be_nothing_is_said():
    assert heard(prompt="no drums, 30 seconds") == Caption("", "drums")


@pytest.mark.parametrize(
    "prompt",
    ["slow sad piano in D minor, 70 bpm, 20 seconds", "80s pop, no drums", "line one\nline two.", "静かなピアノ"],
)
def test_a_raw_prompt_is_heard_as_it_was_written(prompt):
    assert heard(prompt=prompt, raw=True) == Caption(prompt, "")


def test_a_raw_prompt_is_joined_by_what_fields_say_beyond_it():
    told = heard(
        prompt="slow piano, 70 bpm, no drums.",
        raw=True,
        mood="sad",
        tempo_bpm=70,
        exclude=["drums", "choir"],
        negative_prompt="noise",
    )

    assert told == Caption("slow piano, 70 bpm, no drums. moods: sad", "noise, choir")


@pytest.mark.parametrize(
    "fields, bpm",
    [
        # 8 bars of 4/4 in 15 s, 11 of 3/4 (a waltz) in 17 s, and none in one second.
        ({"duration_s": 15, "tempo_bpm": 120}, "bpm: 128.0"),
        ({"duration_s": 17, "tempo_bpm": 120, "style": "waltz"}, "bpm: 116.5"),
        ({"duration_s": 1, "tempo_bpm": 60}, "bpm: 60.0"),
    ],
)
def test_a_loop_has_the_nearest_tempo_of_whole_bars(fields, bpm):
    assert heard(prompt="clouds", loop=True, **fields).text.endswith(bpm)
