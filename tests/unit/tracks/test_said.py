"""What prompts say, and above all what they do not say: English is full of words that look like keys and lengths."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.tracks.intent import lexicon
from orchestrion.tracks.said import said_in
from orchestrion.tracks.vocabulary import MOODS, STYLES


def read(prompt: str, field: str) -> object:
    return said_in(prompt).fields.get(field)


def key_of(prompt: str) -> str | None:
    key = read(prompt, "key")
    return str(key) if key else None


def test_a_whole_prompt():
    said = said_in("slow sad piano in D minor, 70 bpm, 20 seconds").fields

    assert (said["style"], said["mood"], said["tempo_bpm"], said["duration_s"]) == ("piano", "sad", 70.0, 20.0)
    assert str(said["key"]) == "D minor"


def test_a_prompt_that_says_nothing():
    assert said_in("something nice for my aunt").fields == {}


@pytest.mark.parametrize(
    "prompt, bpm",
    [
        ("90bpm", 90), ("120 BPM", 120), ("120-bpm loop", 120), ("99.5 bpm", 99.5), ("99,5 bpm", 99.5),
        ("128 beats per minute", 128), ("tempo 96", 96), ("tempo: 96", 96), ("Tempo of 96", 96), ("BPM=174", 174),
        ("♩ = 60", 60), ("100-120 bpm", 110), ("100 to 120 bpm", 110), ("100 – 120 bpm", 110), ("１２０ bpm", 120),
        ("rock,120 bpm", 120), ("allegro", 132), ("Andante, gentle", 88), ("allegro, 100 bpm", 100),
        ("12345 bpm", 12345), ("3,120 bpm", 3120), ("0 bpm", 0), ("fast tempo, 30 seconds", 144),
        # Not a tempo.
        ("at 128", None), ("tempo 30 seconds", None), ("bpm", None), ("4/4", None),
        ("my bpmachine 120", None), ("prestoration", None), ("steady tempo 2:30", None),
    ],
)  # fmt: skip
def test_tempo(prompt, bpm):
    assert read(prompt, "tempo_bpm") == bpm


@pytest.mark.parametrize(
    "prompt, seconds",
    [
        ("20 seconds", 20), ("a 30-second jingle", 30), ("30sec", 30), ("45s", 45), ("90 s", 90),
        ("12.5 seconds", 12.5),
        ("2 minutes", 120), ("2-minute song", 120), ("2 min", 120), ("1.5 minutes", 90), ("1,5 minutes", 90),
        ("1:30", 90), ("length 0:45", 45), ("1 min 30 s", 90), ("2m30s", 150), ("2m 30s", 150),
        ("1 minute and 30 seconds", 90), ("one minute", 60), ("half a minute", 30), ("a half-minute loop", 30),
        ("two and a half minutes", 150), ("thirty seconds of rain", 30), ("Forty-five seconds", 45),
        ("ten minutes", 600),
        ("80s pop, 45s", 45), ("1980s pop, 45 secs", 45), ("5 minutes, with a 10 second intro", 300), ("1 hour", 3600),
        ("0:00", 0), ("1/2 minute", 30), ("20  \n seconds", 20), ("20\u00a0seconds", 20), ("20‑second loop", 20),
        # Not a length.
        ("80s synth", None), ("1990s rave", None), ("90s eurodance", None), ("the 20s", None), ("roaring 30s", None),
        ("'40s swing", None), ("808s", None), ("16:9", None), ("at 10:30 pm", None),
        ("4s3", None),
        ("someone minutely", None), ("happy hour", None), ("3/4", None), ("12:34:56", None), ("seconds", None),
    ],
)  # fmt: skip
def test_duration(prompt, seconds):
    assert read(prompt, "duration_s") == seconds


@pytest.mark.parametrize(
    "prompt, key",
    [
        ("in D minor", "D minor"), ("d minor", "D minor"), ("D-minor", "D minor"), ("Dmin", "D minor"),
        ("b minor", "B minor"),
        ("F sharp minor waltz", "F# minor"), ("F-sharp minor", "F# minor"), ("f# min", "F# minor"),
        ("F♯ minor", "F# minor"),
        ("E♭ major", "Eb major"), ("e flat major", "Eb major"), ("Db major", "C# major"), ("a flat minor", "Ab minor"),
        ("in a b minor mood", "B minor"), ("G mixolydian jazz", "G mixolydian"), ("D DORIAN", "D dorian"),
        ("a 90bpm beat in Am", "A minor"), ("lofi Am 90bpm", "A minor"), ("F#m", "F# minor"),
        ("B♭m ballad", "Bb minor"),
        ("in C, 90 bpm", "C major"), ("in E", "E major"), ("in B flat", "Bb major"), ("in Bb", "Bb major"),
        ("in F#", "F# major"), ("Played in A, slow", "A major"), ("key of a", "A major"), ("Key of Eb", "Eb major"),
        ("key: D minor", "D minor"), ("key of F# minor", "F# minor"), ("piano, a minor", "A minor"),
        ("in a minor, slow", "A minor"), ("the A major sonata", "A major"), ("not in C major but D minor", "D minor"),
        # Not a key.
        ("a minor detail", None), ("a major anthem", None), ("in a minor key", None), ("a major key", None),
        ("be minor", None), ("Dmaj7", None), ("Am I sad", None), ("who I Am", None), ("5 Cm", None),
        ("in A hall", None),
        ("in Dublin", None), ("in D&B style", None), ("in C-pop style", None), ("B-side", None), ("vitamin C", None),
        ("major", None), ("minor", None), ("A minority", None), ("I'm in", None), ("fab minor", None),
    ],
)  # fmt: skip
def test_key(prompt, key):
    assert key_of(prompt) == key


@pytest.mark.parametrize(
    "prompt, style",
    [
        ("jazz piano", "jazz"), ("piano with a hint of jazz", "jazz"), ("Lo-Fi study beats", "lofi"),
        ("lo‑fi", "lofi"),
        ("80s synth", "synthwave"), ("indie rock", "rock"), ("drum’n’bass", "drum-and-bass"),
        ("d&b 174", "drum-and-bass"),
        ("acid jazz", "funk"), ("HIP HOP", "hip-hop"), ("r&b", "soul"),
        ("8-bit arcade", "chiptune"),
        ("no drums jazz", "jazz"), ("rock, not jazz", "rock"), ("folk without any rock or metal", "folk"),
        ("chill out with no piano", "lofi"), ("not too epic, warm folk", "folk"), ("no jazz, just jazz", "jazz"),
        # No style.
        ("popular rockets", None), ("subtrap", None), ("no jazz", None), ("without rock", None),
        ("not rock or pop", None), ("3/4 time", None), ("for the club", None),
    ],
)  # fmt: skip
def test_style(prompt, style):
    assert read(prompt, "style") == style


def test_a_style_that_is_not_wanted_gives_way_to_another():
    said = said_in("펑크(funk) 말고 펑크(punk)")

    assert (said.fields["style"], said.fields["exclude"]) == ("rock", ("funk",))


def test_a_word_that_excludes_an_instrument_does_not_ask_for_it():
    said = said_in("schlagzeugloser Hip-Hop-Beat")

    assert said.fields["exclude"] == ("drums",)
    assert "instruments" not in said.fields
    assert said.intent.of("instruments") == []


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("какая-нибудь музыка, только не евродиско", ("disco",)), ("диско, только не евродиско", None),
        ("something without rap", ("hip-hop",)),
    ],
)  # fmt: skip
def test_of_a_genre_that_is_not_wanted_the_nearest_style_is_excluded(prompt, excluded):
    assert read(prompt, "exclude") == excluded


def test_a_key_is_stronger_than_the_mode_of_one_that_is_not_wanted():
    said = said_in("h-moll, nie b-moll. Skrzypce solo")

    assert str(said.fields["key"]) == "B minor"
    assert [one.why for one in said.intent.not_followed if one.words.text == "nie b-moll"] == [
        "the key is kept to, here B minor"
    ]


@pytest.mark.parametrize(
    "prompt, mood",
    [
        ("sad song", "sad"), ("melancholic strings", "sad"), ("UPBEAT", "happy"), ("not sad but happy", "happy"),
        ("calm before the storm", "calm"), ("never aggressive, always tender", "romantic"), ("dark and dark", "dark"),
        ("crusade", None), ("not angry", None),
    ],
)  # fmt: skip
def test_mood(prompt, mood):
    assert read(prompt, "mood") == mood


#: Words that the field `style` knows and that a prompt uses for something else, or for nothing to do with music.
OTHERWISE_IN_PROMPTS = {
    "meditation", "sleep", "trailer", "battle", "commercial", "dance", "club", "campfire", "parade", "retro game",
    "ethereal", "feel-good", "feelgood", "groove", "elegant", "piano", "808", "slap bass", "banjo", "sitar and tabla",
    "3/4", "twelve bar", "12-bar", "space", "adventure", "fantasy", "warehouse", "80s", "eighties", "neon", "smoky",
    "noir", "70s", "seventies", "roller", "island", "jamaica", "arcade", "pixel", "shuffle", "mozart", "bach",
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_a_word_of_the_field_style_means_that_style_in_a_prompt_or_none(style):
    readings = {word: read(f"some {word} please", "style") for word in (style, *STYLES[style])}

    assert {word for word, meant in readings.items() if meant is None} <= OTHERWISE_IN_PROMPTS
    assert {meant for meant in readings.values() if meant is not None} <= {style}


@pytest.mark.parametrize("mood", MOODS)
def test_each_mood_is_meant_by_each_of_its_own_words(mood):
    # A workout is a use, which has moods of its own; "fast-paced" is a tempo.
    words = {mood, *MOODS[mood].words} - {"workout", "fast-paced"}
    readings = {word: read(f"some {word} please", "mood") for word in words}

    assert readings == dict.fromkeys(readings, mood)


@pytest.mark.parametrize(
    "prompt, style", [("a bit like Bach", "classical"), ("Miles Davis, late at night", "jazz"), ("ABBA, rock", "rock")]
)
def test_an_artist_is_not_imitated_and_still_tells_the_style(prompt, style):
    assert read(prompt, "style") == style
    assert "artist" in {said.kind for said in said_in(prompt).intent.not_followed}


PIECES = st.sampled_from(
    ["a", "in", "key of", "C", "b", "#", "♭", "m", " minor", "major", "no ", "not", "bpm", "tempo", "90", "1:30",
    "½", "٣",
     "minute", "s", "half a", "and a half", "jazz", "sad", ",", ".", "-", "/", " ", "\n", "\ud800", "\x00", "9" * 30]
)  # fmt: skip


@given(text=st.text(max_size=200) | st.lists(PIECES, max_size=30).map("".join))
def test_no_text_at_all_is_an_error(text):
    said = said_in(text).fields

    assert said.get("tempo_bpm", 0.0) >= 0
    assert said.get("duration_s", 0.0) >= 0


@given(text=st.text(string.ascii_letters + string.digits + " ,.:#", max_size=80))
def test_spaces_around_and_between_words_change_nothing(text):
    assert said_in("  " + text.replace(" ", "  \t ") + "\n").fields == said_in(text).fields


@pytest.mark.parametrize(
    "piece", ["9", "1 ", "1 minute ", "a ", "a flat ", "no ", "no x or ", "in ", "1:3", "1,", " ", "-", "♩ ", "tempo "]
)
def test_reading_takes_time_in_proportion_to_the_length(piece):
    # A pattern that backtracks would make this run for hours: it is ten times the longest prompt allowed.
    said_in(piece * (20_000 // len(piece)))


@pytest.mark.parametrize(
    "prompt, players, told",
    [
        ("a slow song with kazoo", ("harmonica",), {"kazoo": "played by a harmonica"}),
        ("solo didgeridoo", ("bagpipe",), {"didgeridoo": "played by a bagpipe"}),
        ("kazoos and a harmonica", ("harmonica",), {"kazoos": "played by a harmonica"}),
        ("ukulele waltz", ("ukulele",), {"ukulele": "played by a nylon guitar"}),
        ("flûte et bansuri", ("flute",), {"bansuri": "played by a flute"}),
        ("piano and cello", ("piano", "cello"), {}),
        ("piano, no kazoo", ("piano",), {}),
    ],
)
def test_what_has_no_sound_of_its_own_is_played_by_what_is_near_and_that_is_told(prompt, players, told):
    said = said_in(prompt)
    notes = {one.words.text: one.why for one in said.intent.not_followed if one.kind == "instrument"}

    assert (said.fields.get("instruments"), notes) == (players, told)


def test_no_instrument_that_is_read_is_lost():
    for name in lexicon.instruments():
        said = said_in(f"slow song with {name}")
        if any(reading.value == name for reading in said.intent.of("instruments")):
            assert said.fields["instruments"], name
            is_told = any(one.kind == "instrument" for one in said.intent.not_followed)
            assert is_told is (name in lexicon.stand_ins()), name
