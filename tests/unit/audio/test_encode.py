"""Every format: same input, same bytes; what comes out decodes to what went in; streams decode from early on."""

import io
import struct

import numpy as np
import pytest
import soundfile

from orchestrion.audio.encode import FILE_SUFFIXES, MEDIA_TYPES, BlockDecoder, decode, encode
from orchestrion.audio.stream_encode import StreamEncoder
from orchestrion.tracks.request import SAMPLE_RATES_HZ, AudioFormat

LOSSLESS = (AudioFormat.WAV, AudioFormat.FLAC)


def music(duration_s=1.0, rate_hz=48_000, channels=2):
    n = np.arange(round(duration_s * rate_hz))
    tone = 0.4 * np.sin(2 * np.pi * 440 * n / rate_hz) + 0.05 * np.random.default_rng(0).standard_normal(len(n))
    return np.repeat(tone[:, None], channels, axis=1).astype(np.float32)


def streamed(format, audio, rate_hz=48_000, chunk=4800, total=True):
    encoder = StreamEncoder(format, rate_hz, audio.shape[1], len(audio) if total else None)
    return [*(encoder.push(audio[s : s + chunk]) for s in range(0, len(audio), chunk)), encoder.flush()]


@pytest.mark.parametrize("format", AudioFormat)
def test_the_same_audio_is_the_same_bytes(format):
    audio = music()
    assert encode(audio, 48_000, format) == encode(audio.copy(), 48_000, format)
    assert b"".join(streamed(format, audio)) == b"".join(streamed(format, audio))


@pytest.mark.parametrize(("format", "rate_hz"), [(f, r) for f in AudioFormat for r in SAMPLE_RATES_HZ[f]])
def test_every_rate_of_every_format_keeps_the_length(format, rate_hz):
    audio = music(0.5, rate_hz)
    decoded, decoded_rate_hz = decode(encode(audio, rate_hz, format))
    assert decoded_rate_hz == rate_hz
    assert decoded.shape == audio.shape


@pytest.mark.parametrize("format", AudioFormat)
def test_what_is_decoded_sounds_like_what_was_encoded(format):
    audio = music()
    decoded, _ = decode(encode(audio, 48_000, format))
    middle = slice(4800, -4800)
    assert np.corrcoef(decoded[middle, 0], audio[middle, 0])[0, 1] > 0.98


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_hold_the_audio_rounded_to_16_bits(format):
    audio = music()
    for data in (encode(audio, 48_000, format), b"".join(streamed(format, audio))):
        levels, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
        assert np.array_equal(levels, np.rint(audio * 32767))


def test_levels_beyond_full_scale_are_clipped_not_wrapped():
    levels, _ = soundfile.read(
        io.BytesIO(encode(np.full((9, 1), 1.5, np.float32), 8000, AudioFormat.WAV)), dtype="int16"
    )
    assert (levels == 32767).all()


@pytest.mark.parametrize("format", AudioFormat)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_decodes_to_its_length(format, channels):
    audio = music(1.3, channels=channels)
    decoded, rate_hz = decode(b"".join(streamed(format, audio)))
    assert rate_hz == 48_000
    assert decoded.shape == audio.shape


@pytest.mark.parametrize("format", AudioFormat)
def test_half_a_second_of_a_stream_can_already_be_heard(format):
    parts = streamed(format, music(3.0))
    begun = b"".join(parts[:5])
    with soundfile.SoundFile(io.BytesIO(begun)) as file:
        assert len(file.read(9600)) >= 4800 or format is AudioFormat.OGG
    assert len(begun) > 2000


def test_pcm_is_bare_16_bit_little_endian():
    assert b"".join(streamed("pcm", np.array([[0.5, -0.5]], np.float32))) == struct.pack("<hh", 16384, -16384)


def test_wav_stream_says_its_length_first_and_equals_the_file():
    audio = music()
    parts = streamed(AudioFormat.WAV, audio)
    assert struct.unpack("<I", parts[0][40:44])[0] == 4 * len(audio)
    assert b"".join(parts) == encode(audio, 48_000, AudioFormat.WAV)
    assert streamed(AudioFormat.WAV, audio, total=False)[0][40:44] == b"\xff\xff\xff\xff"


def test_flac_stream_says_its_length_first():
    audio = music()
    first = next(part for part in streamed(AudioFormat.FLAC, audio) if part)
    assert int.from_bytes(first[21:26], "big") & (2**36 - 1) == len(audio)


def mp3_frames(data):
    """Where each frame of an MP3 begins, read header by header, and the samples in one."""
    starts, at = [], 0
    while at < len(data):
        header = int.from_bytes(data[at : at + 4], "big")
        version, bitrate, rate, longer = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
        assert header >> 21 == 0x7FF and header >> 17 & 3 == 1
        rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        kbps = (
            [*range(32, 64, 8), *range(64, 128, 16), *range(128, 256, 32), 256, 320],
            [*range(8, 64, 8), *range(64, 161, 16)],
        )
        samples = 1152 if version == 3 else 576
        starts.append(at)
        at += samples * 125 * kbps[version != 3][bitrate - 1] // rate_hz + longer
    assert at == len(data)
    return starts, samples


def remainder_of(data):
    """The CRC of the LAME tag, by long division of the whole message as one number over GF(2)."""
    message = int("".join(f"{byte:08b}"[::-1] for byte in data), 2) << 16
    for bit in range(message.bit_length() - 1, 15, -1):
        if message >> bit & 1:
            message ^= 0x18005 << (bit - 16)
    return int(f"{message:016b}"[::-1], 2)


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ[AudioFormat.MP3])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("duration_s", [0.01, 0.789])
def test_mp3_stream_begins_with_the_info_frame_of_the_stored_file(rate_hz, channels, duration_s):
    audio = music(duration_s, rate_hz, channels)
    parts = streamed(AudioFormat.MP3, audio, rate_hz)
    data, stored = b"".join(parts), encode(audio, rate_hz, AudioFormat.MP3)
    (_, second, *_), samples = starts, _ = mp3_frames(data)
    tag = data.index(b"Info", 0, second)

    assert parts[0].startswith(data[:second])
    flags, frames, file_bytes = struct.unpack_from(">III", data, tag + 4)
    delay_and_padding = int.from_bytes(data[tag + 141 : tag + 144], "big")
    assert (flags, frames, file_bytes) == (15, len(starts) - 1, len(data))
    assert frames * samples - (delay_and_padding >> 12) - (delay_and_padding & 0xFFF) == len(audio)
    assert struct.unpack_from(">I", data, tag + 148) == (len(data),)
    for file in (stored, data):
        assert struct.unpack_from(">H", file, tag + 154) == (remainder_of(file[: tag + 154]),)
    seek_points = np.frombuffer(data[tag + 16 : tag + 116], np.uint8) / 256
    assert np.abs(seek_points - np.arange(100) / 100).max() < 1 / 256
    # Of the stored file it differs by the seek points, the CRC of the audio that is still to come, the CRC over both,
    # and byte 3, where LAME leaves the stereo coding of the last frame that it made.
    differing = {at - tag for at, (one, other) in enumerate(zip(data, stored, strict=True)) if one != other}
    assert differing <= {*range(16, 116), 152, 153, 154, 155, 3 - tag}


def test_mp3_stream_of_unknown_length_has_no_empty_frame():
    audio = music()
    data, with_info = (b"".join(streamed(AudioFormat.MP3, audio, total=total)) for total in (False, True))
    assert data == with_info[mp3_frames(with_info)[0][1] :]
    assert len(audio) <= len(decode(data)[0]) <= len(audio) + 3 * 1152


@pytest.mark.parametrize("format", [AudioFormat.OGG, AudioFormat.OPUS])
def test_ogg_pages_carry_one_constant_serial(format):
    data = encode(music(), 48_000, format)
    serials = {data[at + 14 : at + 18] for at in range(len(data)) if data.startswith(b"OggS\x00", at)}
    assert serials == {b"hcro"}


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not audio at all" * 100])
def test_bytes_that_are_no_audio_say_so(data):
    with pytest.raises(ValueError, match="not audio that can be read"):
        decode(data)


def test_every_format_has_a_media_type_and_a_suffix():
    assert set(MEDIA_TYPES) == set(FILE_SUFFIXES) == set(AudioFormat)


@pytest.mark.parametrize("format", list(AudioFormat))
@pytest.mark.parametrize("frames", [1000, 4096])
def test_a_file_decoded_in_blocks_is_what_it_is_as_a_whole(format, frames):
    rate_hz = 48_000
    audio = np.random.default_rng(0).normal(0, 0.1, (rate_hz, 2)).astype(np.float32)
    data = encode(audio, rate_hz, format)
    whole, _ = decode(data)

    decoder = BlockDecoder(io.BytesIO(data))
    blocks = []
    while len(block := decoder.read(frames)):
        blocks.append(block)
    decoder.close()

    assert (decoder.sample_rate_hz, decoder.channels) == (rate_hz, 2)
    assert max(map(len, blocks)) <= frames
    assert np.allclose(np.concatenate(blocks), whole, atol=1e-6)
