"""MIDI files as players read them: what is broken is mended, and what no theme can be is refused in words.

The kinds: chunks of vendors, track counts, RMID, key signatures, short meta events, track lengths, empty tracks,
running status, values above 127, endings.
"""

import struct
import tracemalloc

import pytest

from orchestrion.audio.midi import MAX_MIDI_BYTES, MAX_MIDI_EVENTS, MAX_MIDI_NOTES, is_midi, read_midi
from orchestrion.errors import InvalidRequest
from tests.midi_files import END, SCALE, TEMPO_120, chunk, header, midi, notes, number, time_signature, track

TUNE = notes()


def rmid(smf: bytes, before: bytes = b"") -> bytes:
    body = b"RMID" + before + b"data" + struct.pack("<I", len(smf)) + smf
    return b"RIFF" + struct.pack("<I", len(body)) + body


def meta(kind: int, body: bytes) -> bytes:
    return b"\0\xff" + bytes([kind]) + number(len(body)) + body


#: Kind of fault → a file with it, which players play as the scale.
READABLE = {
    "vendor chunk between": header(1, 2) + track(TEMPO_120) + chunk(b"XFIH", b"abcd") + track(TUNE),
    "vendor chunk first": header(0, 1) + chunk(b"SEM1", b"\xff" * 9) + track(TUNE),
    "vendor chunk last": header(1, 1) + track(TUNE) + chunk(b"XFKM", bytes(range(64))),
    "vendor chunk of no bytes": header(1, 2) + chunk(b"SEM1", b"") + track(TUNE),
    "vendor chunk with a track's name in it": header(0, 1) + chunk(b"XFIH", b"MTrk") + track(TUNE),
    "vendor chunk with a wrong length": header(1, 1) + chunk(b"XFIH", b"abcd", longer=5) + track(TUNE),
    "more tracks promised": header(1, 5) + track(TEMPO_120) + track(TUNE),
    "fewer tracks promised": header(1, 1) + track(TEMPO_120) + track(TUNE),
    "no tracks promised": header(1, 0) + track(TUNE),
    "65535 tracks promised": header(1, 0xFFFF) + track(TEMPO_120) + track(TUNE),
    "two tracks in a file of type 0": header(0, 1) + track(TEMPO_120) + track(TUNE),
    "RMID": rmid(midi()),
    "RMID with a title": rmid(midi(), b"LIST" + struct.pack("<I", 12) + b"INFOINAM\0\0\0\0"),
    "RMID with a byte that pads it": rmid(midi()) + b"\0",
    "RMID with sizes of 0": b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + midi(),
    "RMID with its instruments after it": rmid(midi()) + b"RIFF" + struct.pack("<I", 12) + b"DLS " + bytes(8),
    "RMID with its instruments first": rmid(midi(), b"DLS " + struct.pack("<I", 4000) + bytes(4000)),
    "byte order mark": b"\xef\xbb\xbf" + midi(),
    "MacBinary": bytes(128) + midi(),
    "longer header": b"MThd" + struct.pack(">IHHH", 10, 0, 1, 480) + b"\0\0\0\0" + track(TUNE),
    "header's length wrong": b"MThd" + struct.pack(">IHHH", 99, 0, 1, 480) + track(TUNE),
    "type 2 of one track": header(2, 1) + track(TUNE),
    "type 3": header(3, 1) + track(TUNE),
    "key of eight sharps": midi(meta(0x59, b"\x08\0") + TUNE),
    "key of mode 255": midi(meta(0x59, b"\0\xff") + TUNE),
    "key of eight flats": midi(meta(0x59, b"\xf8\x01") + TUNE),
    "key signature of none": midi(meta(0x59, b"") + TUNE),
    "key signature of one byte": midi(meta(0x59, b"\0") + TUNE),
    "time signature of two bytes": midi(meta(0x58, b"\x04\x02") + TUNE),
    "time signature of none": midi(meta(0x58, b"") + TUNE),
    "tempo of two bytes": midi(meta(0x51, b"\x07\xa1") + TUNE),
    "tempo of 0": midi(meta(0x51, b"\0\0\0") + TUNE),
    "SMPTE offset cut short": midi(meta(0x54, b"\xe1") + TUNE),
    "SMPTE offset of no frame rate": midi(meta(0x54, b"\xe0\0\0\0\0") + TUNE),
    "sequence number of one byte": midi(meta(0x00, b"\x01") + TUNE),
    "channel prefix of none": midi(meta(0x20, b"") + TUNE),
    "port of none": midi(meta(0x21, b"") + TUNE),
    "text in Shift JIS": midi(meta(0x01, "曲".encode("shift-jis")) + TUNE),
    "meta event above 127": midi(meta(0x90, b"ab") + TUNE),
    "track length too long": header() + track(TUNE, longer=4),
    "track length much too long": header() + track(TUNE, longer=1 << 20),
    "track length too long before another": header(1, 2) + track(TEMPO_120, longer=3) + track(TUNE),
    "track length over both": header(1, 2) + chunk(b"MTrk", TEMPO_120 + END + track(TUNE)),
    "track length too short": header() + track(TUNE, longer=-20),
    "track length of 0 with events": header() + b"MTrk\0\0\0\0" + TUNE + END,
    "no end of track": header() + chunk(b"MTrk", TUNE),
    "events after the end": header() + track(TUNE + END + notes((80, 81))),
    "rubbish after it": midi() + bytes(range(200)),
    "empty track first": header(1, 2) + b"MTrk\0\0\0\0" + track(TUNE),
    "empty track last": header(1, 2) + track(TUNE) + b"MTrk\0\0\0\0",
    "empty tracks between": header(1, 4) + track(TEMPO_120) + b"MTrk\0\0\0\0" * 2 + track(TUNE),
    "track of nothing but its end": header(1, 2) + track(b"") + track(TUNE),
    "controller of 255": midi(b"\0\xb0\x07\xff" + TUNE),
    "programme of 255": midi(b"\0\xc0\xff" + TUNE),
    "pressure of 255": midi(b"\0\xd0\xff\0\xa0\xff\xff" + TUNE),
    "bend of 255": midi(b"\0\xe0\xff\xff" + TUNE),
    "escape with a clock": midi(b"\0\xf7\x01\xf8" + TUNE),
    "undefined F4": midi(b"\0\xf4" + TUNE),
    "active sensing": midi(b"\0\xfe" + TUNE),
    "song position": midi(b"\0\xf2\x01\x02" + TUNE),
    "system exclusive without an end": midi(b"\0\xf0\x02\x7e\x7f" + TUNE),
    "meta event beyond the track": header() + chunk(b"MTrk", TUNE + b"\0\xff\x01\x40abc"),
}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE.keys())
def test_what_players_play_is_read(data):
    found = read_midi(data, "theme")

    assert is_midi(data[:300])
    assert tuple(note.pitch for note in found.notes) == SCALE
    assert [note.end - note.start for note in found.notes] == [480] * 8
    assert found.duration_s == 4.0


@pytest.mark.parametrize(
    "between",
    [b"\xff\x01\x02hi", TEMPO_120[1:], b"\xf0\x03\x7e\x7f\xf7", b"\xf7\x01\xf8", b"\xfe", b"\xf2\x01\x02"],
    ids=["text", "tempo", "system exclusive", "escape", "active sensing", "song position"],
)
def test_running_status_goes_on_after_what_is_no_channel_message(between):
    events = b"\0\x90\x3c\x5a\x04" + between + number(300) + b"\x3c\0" + b"\0\x40\x5a" + number(480) + b"\x40\0"

    found = read_midi(midi(events), "theme")

    assert [(note.pitch, note.start, note.end) for note in found.notes] == [(60, 0, 304), (64, 304, 784)]


@pytest.mark.parametrize("velocity", [128, 200, 255])
def test_a_velocity_above_127_is_the_loudest_and_a_pitch_above_it_is_no_note(velocity):
    loud = b"\0\x90\x3c" + bytes([velocity]) + number(480) + b"\x80\x3c\xff"
    too_high = b"\0\x90\xc8\x40" + number(480) + b"\x80\xc8\x40"

    found = read_midi(midi(loud + too_high + TUNE), "theme")

    assert [(note.pitch, note.velocity) for note in found.notes[:2]] == [(60, 127), (60, 90)]
    assert found.notes[1].start == 960


def test_notes_that_are_never_ended_sound_until_struck_again_or_the_track_ends():
    struck = b"\0\x90\x3c\x40" + number(480) + b"\x90\x3c\x40" + number(240) + b"\x90\x40\x40"

    found = read_midi(midi(struck + number(960) + b"\xff\x01\0"), "theme")

    assert [(note.pitch, note.start, note.end) for note in found.notes] == [
        (60, 0, 480),
        (60, 480, 1680),
        (64, 720, 1680),
    ]


def test_a_note_without_length_is_heard():
    (note,) = read_midi(midi(b"\0\x90\x3c\x40\0\x80\x3c\x40"), "theme").notes

    assert note.end == note.start + 1


@pytest.mark.parametrize("cut", range(1, len(midi()) - len(header()) - 12))
def test_a_file_that_is_cut_off_gives_what_comes_before(cut):
    found = read_midi(midi()[:-cut], "theme")

    pitches = tuple(note.pitch for note in found.notes)
    assert pitches == SCALE[: len(pitches)]
    assert len(pitches) >= 8 - (cut + 4) // 9 - 1


def test_tempos_and_time_signatures_of_all_tracks_count_at_their_place():
    slower = b"\xff\x51\x03\x0f\x42\x40"  # 60 a minute.
    conductor = TEMPO_120 + time_signature(3, 2) + number(4 * 480) + slower + b"\0\xff\x58\x04\x06\x03\x18\x08"

    found = read_midi(header(1, 2) + track(TUNE) + track(conductor), "theme")

    assert found.duration_s == 2.0 + 4.0
    assert (found.tempo_bpm(0), found.tempo_bpm(1919), found.tempo_bpm(1920)) == (120.0, 120.0, 60.0)
    signatures = [found.signature(tick) for tick in (0, 1919, 1920)]
    assert [(one.count, one.unit) for one in signatures] == [(3, 4), (3, 4), (6, 8)]


def test_a_file_that_counts_frames_is_read_in_seconds():
    found = read_midi(header(0, 1, 0xE728) + track(TUNE), "theme")  # 25 frames of 40 ticks: a tick is a millisecond.

    assert not found.has_beats and not found.signatures
    assert found.duration_s == pytest.approx(8 * 0.48)


NOTE = b"\x01\x90\x3c\x40\x01\x80\x3c\x40"

REFUSED = {
    "nothing after the name": (b"MThd", "ends before its first track"),
    "half a header": (header()[:10], "ends before its first track"),
    "no length of a beat": (header(division=0) + track(TUNE), "does not say how long a beat is"),
    "no length of a frame": (header(division=0xE700) + track(TUNE), "does not say how long a beat is"),
    "several pieces": (header(2, 2) + track(TUNE) + track(TUNE), r"several pieces \(type 2\); export it as type 0"),
    "bytes": (midi(NOTE * (MAX_MIDI_BYTES // 8)), "has at most 524288 bytes"),
    "notes": (midi(NOTE * (MAX_MIDI_NOTES + 1)), "more than 10000 notes"),
    "events": (midi(b"\0\xb0\x07\x40" + b"\0\x07\x41" * MAX_MIDI_EVENTS), "more than 50000 events"),
}


@pytest.mark.parametrize("data, complaint", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_theme_is_refused_by_the_name_of_its_field(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read_midi(data, "theme")

    assert caught.value.problems[0].field == "theme"


HOSTILE = {
    "a number without an end": midi(b"\xff" * 400_000),
    "a pause of five bytes": midi(b"\xff\xff\xff\xff\x7f" + NOTE),
    "names of tracks and nothing else": header() + b"MTrk" * 130_000,
    "empty tracks": header() + b"MTrk\0\0\0\0" * 65_000,
    "tracks that promise all there is": header() + b"MTrk\x7f\xff\xff\xff" * 65_000,
    "vendor chunks of wrong lengths": header() + b"XFIH\0\0\0\x05" * 65_000,
    "numbers only": header() + bytes(500_000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_takes_no_more_memory_than_a_few_times_itself(data):
    tracemalloc.start()
    try:
        found = read_midi(data, "theme")
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_MIDI_BYTES
    finally:
        tracemalloc.stop()

    assert found.notes == ()


def test_what_is_no_midi_is_known_for_it():
    assert not is_midi(b"RIFF\0\0\0\0WAVEfmt ")
    assert not is_midi(b"")
    assert not is_midi(bytes(1000) + midi())
