"""English as people write it: families of phrases, each in words that no list of prompts has."""

import pytest

from orchestrion.tracks.intent.lexicon import Spelling
from orchestrion.tracks.intent.reader import read_intent


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, unwanted",
    [
        ("leave the cymbals out of it, mellow vibraphone", {"cymbals"}),
        ("keep the guitars away please, just harpsichord and oboe", {"guitar"}),
        ("take drums, bass and piano out", {"drums", "bass", "piano"}),
        ("horns are off the table, upbeat ska-punk", {"brass"}),
        ("we can do without bass and drums here; string pads", {"bass", "drums"}),
        ("percussion-free lullaby for twins", {"percussion"}),
        ("steer clear of anything gloomy", {"sad"}),
        ("no strings or anything soppy", {"strings", "romantic"}),
        ("please skip the sax, anything but smooth jazz", {"saxophone", "jazz"}),
        ("everything you'd hear in a saloon save for the banjo", {"banjo"}),
        ("neither drums nor bass nor pads, solo kora", {"drums", "bass", "synth pad"}),
        ("a Celtic air, but drums must go", {"drums"}),
        ("guitar, drums, bass: all banned", {"guitar", "drums", "bass"}),
        ("give me a choir, but nobody singing words", {"vocals"}),
        ("no growled vocals, just riffs", {"vocals"}),
        ("bassless drumless ambient", {"bass", "drums"}),
        # What says no and excludes nothing.
        ("don't forget the tambourine", set()),
        ("no shortage of brass", set()),
        ("can't do without a fiddle", set()),
        ("double kick, no holding back", set()),
        ("keep the piano out front", set()),
        ("walking bass, ride cymbal, muted piano", set()),
    ],
)
def test_every_way_to_say_no(prompt, unwanted):
    assert set(values(prompt, "exclude")) == unwanted


@pytest.mark.parametrize(
    "prompt, begins, ends",
    [
        ("soft house, somewhere from 72 up to 80", [76], []),
        ("seventy to eighty, jazz", [75], []),
        ("Psytrance 145, relentless", [145], []),
        ("make that 96 bpm... no, 88", [88], []),
        ("tempo 72. Sorry, 74", [74], []),
        ("quarter note = 66, speeding up to double that", [66], [132]),
        ("start around 60 and creep up to twice that by the end", [60], [120]),
        ("70 bpm climbing to 140", [70], [140]),
        ("120 bpm, half that by the end", [120], [60]),
        ("climbing to the summit", [], []),
        ("twelve bar blues in E", [], []),
    ],
)
def test_tempos_and_how_they_change(prompt, begins, ends):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == (begins, ends)


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("an upright-piano rag, B flat, snappy", "key", "Bb major"),
        ("modulating up from C to D, gospel", "key_end", "D major"),
        ("cozy farming sim on a spring day", "use", "game"),
        ("true crime show cold open", "use", "intro"),
        ("warm-up for a rowing club", "use", "workout"),
        ("whodunnit, sneaky", "mood", "playful"),
        ("from pp to ff over three minutes", "dynamics", "crescendo"),
        ("gradually louder", "dynamics", "crescendo"),
        ("trails off", "dynamics", "diminuendo"),
        ("all guns blazing", "energy", "high"),
        ("pared back, with room to breathe", "energy", "low"),
        ("ends on a fade of 2 secs", "fade_out_s", 2),
        ("fade in over 4 seconds", "fade_in_s", 4),
        ("four to the floor", "metre", "4/4"),
    ],
)
def test_words_of_the_same_families(prompt, field, expected):
    assert expected in values(prompt, field)


@pytest.mark.parametrize(
    "prompt",
    [
        "the soul of Detroit, a walking tour", "trance-like staring contest", "metal detecting on the beach",
        "book club meeting", "the rock garden of Chandigarh",
    ],
)  # fmt: skip
def test_what_only_sounds_like_a_style(prompt):
    assert values(prompt, "style") == []


@pytest.mark.parametrize(
    "word, meant",
    [
        ("intsrumental", "instrumental"), ("ukelele", "ukulele"), ("glokenspiel", "glockenspiel"),
        ("accoustic", "acoustic"), ("guittar", "guitar"), ("guitar", None), ("guit", None), ("table", None),
    ],
)  # fmt: skip
def test_one_wrong_letter_is_overlooked(word, meant):
    spelling = Spelling(["instrumental", "ukulele", "glockenspiel", "acoustic", "guitar", "tabla"])

    assert spelling.meant(word) == meant


def test_a_word_that_could_be_two_is_left_alone():
    assert Spelling(["mandolines", "mandolins"]).meant("mandolnes") == "mandolines"
    assert Spelling(["violinist", "violanist"]).meant("violnist") is None


@pytest.mark.parametrize(
    "prompt, unwanted",
    [
        ("rockabilly, no need to add a tuba", {"tuba"}),
        ("polka is what we're not, we play swing", {"polka"}),
        ("We're a swing band, and polka is what we're not", {"polka"}),
        ("tubas, flutes, and harps are banned", {"tuba", "flute", "harp"}),
        ("nil on trombones, swing", {"trombone"}),
        ("keep the oboes away from this, swing", {"oboe"}),
        ("swing. Tuba? Thanks but no thanks.", {"tuba"}),
        ("oboe is a dealbreaker, swing", {"oboe"}),
        ("march, hold on, no, waltz", set()),
    ],
)
def test_a_no_reaches_its_own_clause(prompt, unwanted):
    assert set(values(prompt, "exclude")) == unwanted


@pytest.mark.parametrize(
    "prompt, low, high",
    [
        ("swing, above 150 and below 170 bpm", 150, 170),
        ("swing, more than 150 bpm but less than 170", 150, 170),
        ("swing, no slower than 150, no faster than 160", 150, 160),
        ("swing 150±6 bpm", 144, 156),
        ("swing 150 +/- 6 bpm", 144, 156),
        ("swing at one sixty-two", 162, 162),
        ("swing, bpm = one-forty-four", 144, 144),
        ("swing between one fifty and one seventy", 150, 170),
        ("swing @ 166", 166, 166),
    ],
)
def test_tempos_with_two_bounds_and_in_words(prompt, low, high):
    assert values(prompt, "tempo_bpm") == [(low + high) / 2]


@pytest.mark.parametrize(
    "prompt, begins, ends",
    [
        ("swing, launches at 150, lands at 110", [150], [110]),
        ("swing 150 bpm -> 110 bpm", [150], [110]),
        ("swing 110 bpm, then 150 bpm", [110], [150]),
        ("swing, starting tempo 110, final tempo 150", [110], [150]),
        ("swing, 110 to begin with, 150 to finish", [110], [150]),
        ("swing, ramps from 110 to 150", [110], [150]),
        ("swing from 110 to 150 bpm", [130], []),
        ("starts slow, ends very fast, horns", [70], [172]),
        ("slow, then speeding up to 170", [70], [170]),
    ],
)
def test_where_a_tempo_begins_and_ends(prompt, begins, ends):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == (begins, ends)


@pytest.mark.parametrize(
    "prompt, fade_in, fade_out, length",
    [
        ("swing, very long final fade (14 sec)", [], [14], []),
        ("swing, fade in and out of 4 seconds", [4], [4], []),
        ("swing, 3s in-fade, 9s out-fade", [3], [9], []),
        ("swing (14 sec), fade out", [], [2], [14]),
        ("swing, not five minutes: 40 seconds", [], [], [40]),
        ("swing, 3 min and 20", [], [], [200]),
        ("swing, 3 min and 20 horns", [], [], [180]),
    ],
)
def test_fades_and_lengths(prompt, fade_in, fade_out, length):
    fields = ("fade_in_s", "fade_out_s", "duration_s")
    assert [values(prompt, field) for field in fields] == [fade_in, fade_out, length]


def test_a_sample_rate_needs_no_unit_where_nothing_else_has_its_figure():
    assert (values("swing, flac, 44.1", "sample_rate_hz"), values("swing, 44 bars", "sample_rate_hz")) == ([44100], [])


def test_opus_is_a_format_and_no_number_of_a_work():
    assert (values("swing, mono, opus", "format"), values("like Opus 27, swing", "format")) == (["opus"], [])


@pytest.mark.parametrize(
    "prompt, key, end",
    [
        ("anthem in F, last chorus up a whole step to G", "F major", "G major"),
        ("anthem in F, then bump it up to G", "F major", "G major"),
        ("anthem in F then G for the outro", "F major", "G major"),
        ("anthem, verse D minor, chorus F major", "D minor", "F major"),
        ("anthem, first half in F, second half in G", "F major", "G major"),
        ("anthem in Dm resolving to Bb", "D minor", "Bb major"),
    ],
)
def test_where_a_key_changes_to(prompt, key, end):
    assert (values(prompt, "key"), values(prompt, "key_end")) == ([key], [end])


def test_who_plays_may_stand_before_a_comma():
    assert values("tuba and harp, duo", "ensemble") == [{"kind": "duo", "instruments": ["tuba", "harp"]}]


@pytest.mark.parametrize(
    "prompt, styles",
    [
        ("Our band Salsa Kings plays waltzes", ["waltz"]),
        ('"Disco" is the name of the shop, it wants a waltz', ["waltz"]),
        ("waltz for the funeral of Techno, my dog", ["waltz"]),
        ("our band Disco & Co, waltz", ["waltz"]),
        ("a dance called Polka", ["polka"]),
        ("Waltz, my dog likes it", ["waltz"]),
    ],
)
def test_what_is_only_a_name_is_no_style(prompt, styles):
    found = [value["genre"] if isinstance(value, dict) else value for value in values(prompt, "style")]
    assert [style for style in found if style in ("waltz", "polka", "disco", "salsa", "techno")] == styles


@pytest.mark.parametrize(
    "prompt, instruments",
    [
        ("oboe, vibes and tuba", ["oboe", "vibraphone", "tuba"]),
        ("tuba, keys, drums", ["tuba", "keyboards", "drums"]),
        ("summer vibes, oboe", ["oboe"]),
        ("a jug of wine, oboe", ["oboe"]),
    ],
)
def test_everyday_words_are_instruments_in_a_list_of_them(prompt, instruments):
    assert values(prompt, "instruments") == instruments


@pytest.mark.parametrize(
    "prompt, key",
    [
        ("a 4 min polka in F", "F major"),
        ("a slow blues, harp, in E flat", "Eb major"),
        ("tuba, 2 min, in D", "D major"),
    ],
)
def test_a_length_is_no_mode(prompt, key):
    assert values(prompt, "key") == [key]


def test_a_list_of_what_is_unwanted_ends_where_another_kind_begins():
    prompt = "no harp, and keep it soft"
    assert (values(prompt, "exclude"), values(prompt, "dynamics")) == (["harp"], ["soft"])


@pytest.mark.parametrize("prompt", ["bloopers reel, tuba", "our agency's sizzle reel, tuba", "instagram reel, tuba"])
def test_a_reel_of_film_is_no_dance(prompt):
    assert values(prompt, "style") == []


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("polka, tuba, 96 → 132", "tempo_bpm", [96]),
        ("polka, tuba, 96 → 132", "tempo_end_bpm", [132]),
        ("polka, 40ish seconds", "duration_s", [40]),
        ("march for the under-12s", "duration_s", []),
        ("cancan, tuba", "style", [{"genre": "cancan", "nearest": ["classical", "march", "folk"]}]),
    ],
)
def test_figures_as_people_type_them(prompt, field, expected):
    assert values(prompt, field) == expected


@pytest.mark.parametrize(
    "prompt, use",
    [
        ("hen do, tuba", "party"),
        ("verbena de barrio, tuba", "party"),
        ("chá de panela, tuba", "party"),
        ("pendaison de crémaillère, tuba", "party"),
        ("addio al celibato, tuba", "party"),
        ("buzón de voz, arpa", "hold music"),
        ("segreteria telefonica, arpa", "hold music"),
        ("fire drills, safety induction, harp", "lesson"),
    ],
)
def test_everyday_occasions(prompt, use):
    assert use in values(prompt, "use")


@pytest.mark.parametrize(
    "prompt, kinds",
    [
        ("reggae with a tuba solo", []),
        ("a slow reggae track featuring a wild tuba solo", []),
        ("reggae, tuba solo at the end", []),
        ("harp with a tuba solo in the middle", []),
        ("tuba solo", ["solo"]),
        ("a calm piece with solo tuba", ["solo"]),
        ("solo tuba, calm", ["solo"]),
    ],
)
def test_a_solo_in_what_a_band_plays_is_no_ensemble(prompt, kinds):
    assert [value["kind"] for value in values(prompt, "ensemble")] == kinds
    assert "tuba" in values(prompt, "instruments")
