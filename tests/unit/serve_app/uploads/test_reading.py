"""What an upload is found to be. What no track can be made of is refused when it comes, in words for who sent it."""

import base64
import gzip
import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from orchestrion.audio.encode import encode
from orchestrion.audio.uploads import read_continuation
from orchestrion.errors import InvalidRequest
from orchestrion.tracks.request import AudioFormat
from serve_app.uploads.found import UploadReading, UploadUse
from serve_app.uploads.reading import read_upload
from tests.midi_files import SCALE, TEMPO_120, midi, notes, number, time_signature
from tests.recordings import RATE_HZ, recorded, tune, wav

THEME, CONTINUATION = UploadUse.THEME, UploadUse.CONTINUATION


def encoded(format: AudioFormat) -> bytes:
    return encode(tune()[:, None], RATE_HZ, format)


def written(format: str, subtype: str, rate_hz: int = RATE_HZ, *, level: float = 1.0, endian: str = "FILE") -> bytes:
    """The tune by libsndfile as it is: also what we do not write, and Ogg in larger pages than ours."""
    sink = io.BytesIO()
    soundfile.write(sink, level * tune(rate_hz), rate_hz, format=format, subtype=subtype, endian=endian)
    return sink.getvalue()


def variable_mp3(rate_hz: int = 44_100) -> tuple[bytes, bytes]:
    """A frame with the tag that says how many there are, and the frames, each as long as it needs to be."""
    sink = io.BytesIO()
    with soundfile.SoundFile(
        sink, "w", rate_hz, 1, "MPEG_LAYER_III", format="MP3", compression_level=0.0, bitrate_mode="VARIABLE"
    ) as file:
        file.write(tune(rate_hz))
    data = sink.getvalue()
    second = data.index(data[:2], 4)
    return data[:second], data[second:]


TAG, FRAMES = variable_mp3()
ID3 = b"ID3\x03\0\0\0\0\x02\0" + bytes(256)
#: Name → what it is said to be, and the file.
RECORDINGS = {
    "WAV": ("WAV", wav()),
    "FLAC": ("FLAC", encoded(AudioFormat.FLAC)),
    "MP3": ("MP3", encoded(AudioFormat.MP3)),
    "OGG": ("OGG", encoded(AudioFormat.OGG)),
    "WAV of a stream, 2000000000": ("WAV", wav(size=2_000_000_000, riff_size=2_000_000_036)),
    "WAV of a stream, 0": ("WAV", wav(size=0, riff_size=0)),
    "WAV of a stream, 7FFFFFFF": ("WAV", wav(size=0x7FFF_FFFF, riff_size=0x7FFF_FFFF)),
    "WAV of a stream, FFFFFFFF": ("WAV", wav(size=0xFFFF_FFFF, riff_size=0xFFFF_FFFF)),
    "WAV with an odd chunk unpadded": ("WAV", wav(before=b"LIST\x05\0\0\0INFOx")),
    "WAV with an odd chunk padded": ("WAV", wav(before=b"LIST\x05\0\0\0INFOx\0")),
    "BW64": ("WAV", wav(name=b"BW64")),
    "WAV after a byte order mark": ("WAV", b"\xef\xbb\xbf" + wav()),
    "WAV of 4 kHz": ("WAV", wav(tune(4000), 4000)),
    "MP3 of a stream, with zeros for its tag": ("MP3", bytes(626) + encoded(AudioFormat.MP3)[626:]),
    "MP3 from the middle of a frame": ("MP3", encoded(AudioFormat.MP3)[700:]),
    "MP3 after rubbish": ("MP3", bytes(range(100, 200)) * 30 + encoded(AudioFormat.MP3)),
    "MP3 of a variable bitrate": ("MP3", TAG + FRAMES),
    "MP3 of a variable bitrate without its tag": ("MP3", FRAMES),
    "MP3 of a variable bitrate with tags and no length": ("MP3", 2 * ID3 + FRAMES),
    "MP3 of a variable bitrate from the middle of a frame": ("MP3", FRAMES[300:]),
    "MP3 of a variable bitrate at 16 kHz without its tag": ("MP3", variable_mp3(16_000)[1]),
    "MP3 with a hole": ("MP3", FRAMES[:8000] + bytes(100) + FRAMES[8050:]),
    "ID3 before a WAV": ("WAV", ID3 + wav()),
    "OGG of two in a chain": ("OGG", written("OGG", "VORBIS", 44_100) * 2),
    "M4A of a phone": ("M4A", recorded("ipod", "aac")),
    "M4A without loss": ("M4A", recorded("ipod", "alac")),
    "MP4": ("MP4", recorded("mp4", "aac")),
    "AAC": ("AAC", recorded("adts", "aac")),
    "WebM of a browser": ("WebM", recorded("webm", "libopus")),
    "FLAC in OGG": ("OGG", recorded("ogg", "flac")),
}


@pytest.mark.parametrize("kind, data", RECORDINGS.values(), ids=RECORDINGS.keys())
def test_what_people_record_is_taken(kind, data):
    found = read_upload(data, THEME)

    assert found.kind == kind
    assert found.duration_s == pytest.approx(3.2, abs=0.15)
    # Cut into a frame, its first note may be another.
    assert found.notes == pytest.approx(len(SCALE), abs=1)
    assert read_upload(data, CONTINUATION) == UploadReading(kind, found.duration_s)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORM, DATA = wav()[12:36], wav()[36:]
MP3_FORM = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE_HZ, 8000, 1, 0, 12, 1, 2, 288, 1, 1393)

EDITED = {
    "WAV of 8 bits": ("WAV", written("WAV", "PCM_U8")),
    "WAV of 24 bits": ("WAV", written("WAV", "PCM_24")),
    "WAV of 24 bits, extensible": ("WAV", written("WAVEX", "PCM_24")),
    "WAV of floats": ("WAV", written("WAV", "FLOAT")),
    "WAV of doubles": ("WAV", written("WAV", "DOUBLE")),
    "WAV of floats over full scale": ("WAV", written("WAV", "FLOAT", level=8.0)),
    "WAV of μ-law": ("WAV", written("WAV", "ULAW", 8000)),
    "WAV of A-law": ("WAV", written("WAV", "ALAW", 8000)),
    "WAV of IMA ADPCM": ("WAV", written("WAV", "IMA_ADPCM")),
    "WAV of Microsoft ADPCM": ("WAV", written("WAV", "MS_ADPCM")),
    "WAV of GSM 6.10": ("WAV", written("WAV", "GSM610", 8000)),
    "WAV of MP3": ("WAV", riff(chunk(b"fmt ", MP3_FORM), chunk(b"data", encoded(AudioFormat.MP3)))),
    "WAV with broadcast fields first": ("WAV", riff(chunk(b"bext", bytes(602)), chunk(b"JUNK", bytes(28)), FORM, DATA)),
    "WAV with cues after it": ("WAV", riff(FORM, DATA, chunk(b"cue ", struct.pack("<I", 1) + bytes(24)))),
    "WAV with ID3 in it": ("WAV", riff(FORM, chunk(b"id3 ", ID3), DATA)),
    "RF64": ("WAV", written("RF64", "PCM_16")),
    "W64": ("WAV", written("W64", "PCM_16")),
    "AIFF": ("AIFF", written("AIFF", "PCM_16")),
    "AIFF-C of a Mac": ("AIFF", written("AIFF", "PCM_16", endian="LITTLE")),
    "CAF": ("CAF", written("CAF", "PCM_16")),
    "AU": ("AU", written("AU", "PCM_16")),
    "VOC": ("VOC", written("VOC", "PCM_16", 8000)),
    "FLAC of 24 bits at 96 kHz": ("FLAC", written("FLAC", "PCM_24", 96_000)),
    "ID3 before a FLAC": ("FLAC", ID3 + encoded(AudioFormat.FLAC)),
    "MP3 with a picture of 2 MB": ("MP3", b"ID3\x03\0\0\x01\0\0\0" + bytes(1 << 21) + encoded(AudioFormat.MP3)),
    "MP3 with ID3v1 at its end": ("MP3", encoded(AudioFormat.MP3) + b"TAG" + bytes(125)),
    "MP3 at 8 kHz": ("MP3", written("MP3", "MPEG_LAYER_III", 8000)),
}


@pytest.mark.parametrize("kind, data", EDITED.values(), ids=EDITED.keys())
def test_what_editors_and_converters_write_is_taken(kind, data):
    found = read_upload(data, THEME)

    assert (found.kind, found.notes) == (kind, len(SCALE))
    assert found.duration_s == pytest.approx(3.2, abs=0.1)


@pytest.mark.parametrize("kind, data", [RECORDINGS[name] for name in ("M4A of a phone", "WebM of a browser", "AAC")])
def test_without_what_reads_phones_formats_they_are_refused_by_name(monkeypatch, kind, data):
    monkeypatch.setattr("orchestrion.audio.ffmpeg.decoding.can_decode", lambda: False)

    with pytest.raises(InvalidRequest, match=rf"this file is an? {kind} file; give MIDI, WAV, FLAC, MP3 or OGG \("):
        read_upload(data, THEME)


@pytest.mark.parametrize("rate_hz", [1, 100, 1000, 4000, 11_025, 44_056, 384_000])
def test_a_recording_at_any_rate_can_be_gone_on_from(rate_hz):
    data = wav(tune(rate_hz) if rate_hz >= 1000 else np.sin(np.arange(4 * rate_hz)).astype(np.float32), rate_hz)

    found = read_upload(data, CONTINUATION)
    audio = read_continuation(data, 32_000, 1)

    assert found.duration_s == pytest.approx(3.2 if rate_hz >= 1000 else 4.0, abs=0.01)
    assert len(audio) == pytest.approx(found.duration_s * 32_000, abs=32) and np.isfinite(audio).all()


@pytest.mark.parametrize("rate_hz", [1, 1000])
def test_rates_that_nobody_records_are_read_or_refused_in_words(rate_hz):
    data = wav(tune(1000)[: 30 * min(rate_hz, 100)], rate_hz)

    try:
        assert read_upload(data, THEME).kind == "WAV"
    except InvalidRequest as error:
        assert "no melody was found" in str(error)


@pytest.mark.parametrize("cut", [0.5, 0.8])
@pytest.mark.parametrize("format", [AudioFormat.WAV, AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OGG])
def test_of_a_recording_that_is_cut_off_what_is_there_is_taken(format, cut):
    whole = encode(np.tile(tune(), 3)[:, None], RATE_HZ, format)

    found = read_upload(whole[: round(len(whole) * cut)], THEME)

    assert 0.4 * cut * 9.6 < found.duration_s < 1.2 * cut * 9.6


@pytest.mark.parametrize("cut", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("codec, rate_hz", [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_of_an_ogg_file_that_breaks_off_within_a_page_what_is_whole_is_taken(codec, rate_hz, cut):
    whole = written("OGG", codec, rate_hz)
    # Two pages of headers come first.
    begins = [at for at in range(len(whole)) if whole.startswith(b"OggS", at)][2]
    sent = begins + round((len(whole) - begins) * cut)

    found = read_upload(whole[:sent], THEME)

    assert found.duration_s == pytest.approx(3.2 * cut, abs=0.3)
    assert found.notes == pytest.approx(len(SCALE) * cut, abs=1)


@pytest.mark.parametrize(
    "channels",
    [(1, -1), (0, 1), (0, 0, 1, 0, 0, 0), (1, -1, 1, -1)],
    ids=["opposite", "right", "centre of 5.1", "four"],
)
def test_a_tune_in_some_of_the_channels_is_found(channels):
    audio = np.stack([tune() * one for one in channels], axis=1)

    assert read_upload(wav(audio), THEME).notes == len(SCALE)


def test_midi_says_how_it_is_counted():
    waltz = (60, 64, 67, 72, 67, 64, 60, 64, 67, 72, 67, 60)
    data = midi(TEMPO_120 + time_signature(3, 2) + notes(waltz))

    found = read_upload(data, THEME)

    assert found == UploadReading("MIDI", 6.0, 12, "C major", 120.0, "3/4")


SILENCE = np.zeros(2 * RATE_HZ, np.float32)
NOISE = (0.3 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)).clip(-1, 1).astype(np.float32)
MULTIPART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + wav() + b"\r\n--x--\r\n"


def float_wav(value: float) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, np.full(RATE_HZ, value, np.float32), RATE_HZ, format="WAV", subtype="FLOAT")
    return sink.getvalue()


NO_THEMES = {
    "empty": (b"", "the file is empty; give MIDI, WAV"),
    "text": (
        b"no music",
        "neither MIDI nor a sound file that can be read; give MIDI, WAV, FLAC, MP3, OGG, M4A or WebM",
    ),
    "a form": (MULTIPART, "this is a form, not a file; send the file itself as the body"),
    "base64 of a WAV": (base64.b64encode(wav()), "this is base64; send the bytes themselves"),
    "base64 of MIDI": (base64.b64encode(midi()), "this is base64; send the bytes themselves"),
    "base64 of a FLAC": (base64.b64encode(encoded(AudioFormat.FLAC)), "this is base64; send the bytes themselves"),
    "a data URL": (b"data:audio/wav;base64," + base64.b64encode(wav()), "this is base64; send the bytes themselves"),
    "JSON": (b'{"theme": "a.mid"}', "this is JSON; send the file itself"),
    "gzip": (gzip.compress(wav()), "this file is packed with gzip; send it unpacked"),
    "ZIP": (b"PK\x03\x04" + bytes(40), "this file is a ZIP; send the recording that is in it"),
    "PDF": (b"%PDF-1.7 ...", "a score cannot be read; export it as MIDI"),
    "page": (b"<!doctype html>", "this is a page or XML"),
    "WMA": (b"0&\xb2u\x8e\x66\xcf\x11" + bytes(100), "this file is a WMA; give MIDI, WAV"),
    "M4A cut off": (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom", "this file is an M4A file, but it is damaged"),
    "half an M4A": (recorded("ipod", "aac")[:9000], "this file is an M4A file, but it is damaged"),
    "AMR of nothing": (b"#!AMR\n", "this file is an AMR file, but there is no sound in it"),
    "OGG cut in its head": (written("OGG", "OPUS", 48_000)[:400], "this file is an OGG file, but it is damaged"),
    "AC-3 in Matroska": (
        recorded("matroska", "ac3"),
        "this file is a WebM file, but there is no sound in it of a kind that is read here",
    ),
    "WebM of nothing": (b"\x1aE\xdf\xa3" + bytes(200), "this file is a WebM file, but it is damaged"),
    "RIFF of nothing": (b"RIFF but not really", "the file is damaged: its beginning makes no sense"),
    "FLAC cut in its head": (encoded(AudioFormat.FLAC)[:40], "the file is damaged"),
    "WAV of 0 Hz": (wav(rate_hz=0), "the file is damaged"),
    "NaN": (float_wav(np.nan), "holds NaN or infinity; export it again"),
    "infinity": (float_wav(np.inf), "holds NaN or infinity; export it again"),
    "no samples": (wav(np.zeros(0, np.float32)), "is shorter than 0.3 s"),
    "a fifth of a second": (wav(tune()[: RATE_HZ // 5]), "is shorter than 0.3 s"),
    "silence": (wav(SILENCE), "the audio is silent"),
    "direct current": (wav(SILENCE + 0.5), "no melody was found"),
    "noise": (wav(NOISE), "no melody was found"),
    "one note": (wav(tune(pitches=(60,), note_s=3.0)), "no melody was found"),
    "121 s": (wav(np.zeros(121 * 1000, np.float32), 1000), "longer than 120 s; cut it"),
    "MIDI of 121 s": (midi(number(4 * 60 * 480) + notes()[1:]), "longer than 120 s; cut it"),
    "MIDI without a note": (midi(TEMPO_120), "the MIDI file has no notes; give one with a melody"),
    "MIDI of drums": (midi(notes(channel=9)), "the MIDI file has only drums; give one with a melody"),
    "MIDI of nonsense": (b"MThd" + b"\xff" * 100, "the MIDI file has no notes"),
}


@pytest.mark.parametrize("data, complaint", NO_THEMES.values(), ids=NO_THEMES.keys())
def test_what_is_no_theme_is_refused_for_what_is_wrong_with_it(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as refused:
        read_upload(data, THEME)

    assert [problem.field for problem in refused.value.problems] == ["theme"]
    for insides in (
        "object at 0x",
        "_io.",
        "index out of range",
        "Traceback",
        "None",
        "()",
        "Error",
        "libsndfile",
        "/",
    ):
        assert insides not in refused.value.problems[0].message.replace("audio/", ""), insides


@pytest.mark.parametrize(
    "data, complaint",
    [
        (midi(), "a MIDI file has no sound to go on from; give a recording"),
        (wav(np.zeros(0, np.float32)), "no samples"),
        (wav(np.zeros(121 * 1000, np.float32), 1000), "longer than 120 s; cut it"),
        (b"no music", "neither MIDI nor a sound file that can be read; give WAV, FLAC"),
        (recorded("ipod", "aac")[:9000], "this file is an M4A file, but it is damaged"),
    ],
    ids=["MIDI", "no samples", "121 s", "text", "half an M4A"],
)
def test_what_cannot_be_gone_on_from_is_refused(data, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as refused:
        read_upload(data, CONTINUATION)

    assert refused.value.problems[0].field == "continuation"


def test_what_has_no_melody_can_be_gone_on_from():
    assert read_upload(wav(NOISE), CONTINUATION) == UploadReading("WAV", 2.0)


def test_of_a_file_that_unpacks_to_more_two_minutes_are_read():
    # Eight channels at 48 kHz for four minutes: 370 MB as float32, a few kB as FLAC.
    sink = io.BytesIO()
    with soundfile.SoundFile(sink, "w", 48_000, 8, "PCM_16", format="FLAC") as file:
        for _ in range(240):
            file.write(np.zeros((48_000, 8), "int16"))

    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="longer than 120 s"):
            read_upload(sink.getvalue(), THEME)
        assert tracemalloc.get_traced_memory()[1] < 250e6
    finally:
        tracemalloc.stop()
