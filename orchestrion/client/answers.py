"""What the service answers with, as far as a client uses it. Fields that a newer service adds are passed over."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrion.errors import Internal, shown


class _Answer(BaseModel):
    """Any JSON answer; made here only from what the service sent."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TrackSummary(_Answer):
    """What the service tells of a track. It is not signed: `Client.provenance` is."""

    track_id: str = Field(alias="id")
    cache: Literal["hit", "miss"]
    #: Which of the track's records this is told from, from 1.
    version: int
    #: Addresses on the service, by name: self, audio, provenance, and midi where there is a score.
    links: dict[str, str]
    #: The fields of the record, docs/records.md, without its places inside the store.
    record: dict[str, Any]

    @property
    def cache_hit(self) -> bool:
        """Whether the track was there before it was asked for."""
        return self.cache == "hit"


class ServedModel(_Answer):
    """A model that requests may name."""

    name: str
    #: Hash of everything that decides the output: code, weights, sound font.
    revision: str
    weights_licence: str
    commercial_use: bool
    sample_rate_hz: int
    channels: int
    max_duration_s: float
    #: The fields of a request that only some models follow, and this one does.
    controls: tuple[str, ...]
    #: Others of them that it is told in words, and follows as it follows words.
    hears: tuple[str, ...]


class ModelList(_Answer):
    """The answer of `/v1/models`."""

    models: tuple[ServedModel, ...]


class Vocabulary(_Answer):
    """The styles, moods and instruments that requests may name."""

    styles: tuple[str, ...]
    moods: tuple[str, ...]
    instruments: tuple[str, ...]


class Upload(_Answer):
    """The answer to an upload: what a spec names it by, and what was read of it."""

    #: The value of a spec's `theme` or `continuation`.
    reference: str = Field(alias="theme")
    #: What the file is: "MIDI", "WAV", "M4A".
    kind: str
    duration_s: float
    #: Of a theme: how many notes of its melody are used.
    notes: int | None = None
    #: As "A minor".
    key: str | None = None
    tempo_bpm: float | None = None
    #: As "3/4"; None: neither the file nor its notes say it plainly.
    metre: str | None = None


AnyAnswer = TypeVar("AnyAnswer", bound=_Answer)


def read_answer(kind: type[AnyAnswer], body: bytes) -> AnyAnswer:
    """The answer in `body`.

    Raises:
        Internal: it is something else.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise Internal(
            f"the answer is not in the form that this release knows ({where}: {first['msg']}, got {shown(body)}); "
            "is this the address of an Orchestrion service, and of the same release?"
        ) from None
