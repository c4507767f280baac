"""Which form a track is answered in: what the query says, else the body, else what `Accept` likes best."""

from __future__ import annotations

from typing import Any, Final

from orchestrion.audio.encode import MEDIA_TYPES
from orchestrion.audio.stream_encode import StreamFormat
from orchestrion.errors import InvalidRequest, shown
from orchestrion.tracks.request import AudioFormat
from orchestrion.tracks.spec import TrackSpec
from serve_app.errors import HttpProblem
from serve_app.http.negotiation import choose_media_type

JSON_MEDIA_TYPE: Final = "application/json"
#: 16-bit little-endian samples, interleaved, without any header. RFC 2586's audio/L16 is big-endian, so not that.
PCM_MEDIA_TYPE: Final = "audio/pcm"
#: What `?format=` takes.
WIRE_FORMATS: Final[tuple[StreamFormat, ...]] = (*AudioFormat, "pcm")
#: The media types that clients ask for each format by. Ogg without a codec is Vorbis, as it is first.
NAMES: Final[dict[AudioFormat, tuple[str, ...]]] = {
    AudioFormat.WAV: ("audio/wav", "audio/x-wav", "audio/wave"),
    AudioFormat.FLAC: ("audio/flac", "audio/x-flac"),
    AudioFormat.MP3: ("audio/mpeg", "audio/mp3"),
    AudioFormat.OGG: ("audio/ogg; codecs=vorbis",),
    AudioFormat.OPUS: ("audio/ogg; codecs=opus", "audio/opus"),
}
_FORMAT_NAMED: Final = {name: format for format, names in NAMES.items() for name in names}


def media_type_of_stream(wire_format: StreamFormat) -> str:
    """As `Content-Type` says it."""
    return PCM_MEDIA_TYPE if wire_format == "pcm" else MEDIA_TYPES[wire_format]


def spec_and_answer(body: dict[str, Any], accept: str | None) -> tuple[TrackSpec, bool]:
    """The request, and whether the answer is its audio instead of JSON.

    Raises:
        InvalidRequest: the body is no request.
        HttpProblem: `Accept` takes neither JSON nor the audio (406).
    """
    spec = TrackSpec.from_json(body)
    offers = [JSON_MEDIA_TYPE, *_offers(spec)]
    chosen = choose_media_type(accept, offers)
    if chosen is None:
        raise _not_acceptable("track", offers)
    if chosen == JSON_MEDIA_TYPE:
        return spec, False
    return TrackSpec.from_json(body | {"format": _FORMAT_NAMED[chosen].value}), True


def spec_and_wire_format(
    body: dict[str, Any], query: StreamFormat | None, accept: str | None
) -> tuple[TrackSpec, StreamFormat]:
    """The request, and the form that its audio is streamed in.

    Raises:
        InvalidRequest: the body is no request, or the query's format is another than the body's.
        HttpProblem: `Accept` takes no form of the stream (406).
    """
    if query is not None:
        if query == "pcm":
            return TrackSpec.from_json(body), "pcm"
        if body.get("format", query) != query:
            raise InvalidRequest.of("format", query, f"the body says {shown(body['format'])}; say it once")
        return TrackSpec.from_json(body | {"format": query}), query
    spec = TrackSpec.from_json(body)
    offers = [*_offers(spec), PCM_MEDIA_TYPE]
    chosen = choose_media_type(accept, offers)
    if chosen is None:
        raise _not_acceptable("stream", offers)
    if chosen == PCM_MEDIA_TYPE:
        return spec, "pcm"
    wire_format = _FORMAT_NAMED[chosen]
    return TrackSpec.from_json(body | {"format": wire_format.value}), wire_format


def _offers(spec: TrackSpec) -> list[str]:
    """Names of the format that the body gives; when it gives none, of all, that of its words or the default first."""
    if spec.format is not None:
        return list(NAMES[spec.format])
    wanted = spec.resolve().delivery.format
    formats = sorted(AudioFormat, key=lambda format: format is not wanted)
    return [name for format in formats for name in NAMES[format]]


def _not_acceptable(what: str, offers: list[str]) -> HttpProblem:
    return HttpProblem("not-acceptable", f"this {what} can be had as {', '.join(offers)}; change Accept or format")
