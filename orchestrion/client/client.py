"""The client itself: one method for each thing that the service does.

A call that the service refuses for the moment, or does not answer, is made again: the same request is the same track,
so asking twice makes nothing twice. With trusted keys everything that is downloaded is verified before it is given out.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.client.answers import ModelList, ServedModel, TrackSummary, Upload, Vocabulary, read_answer
from orchestrion.client.problems import Refusal, Unreachable, refusal_of
from orchestrion.client.retry import RetryPolicy
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import Internal, InvalidRequest, NotFound, Transient, VerificationFailed, shown
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signed_record import SignedRecord, verify_audio_hash, verify_record
from orchestrion.version import __version__

Priority = Literal["interactive", "batch"]
StreamFormat = Literal["wav", "flac", "mp3", "ogg", "opus", "pcm"]


@dataclass(frozen=True, slots=True)
class TrackStream:
    """A track that is being made, or was: iterate over it for its encoded bytes, once."""

    track_id: str
    #: Whether it comes from the store.
    cache_hit: bool
    sample_rate_hz: int
    channels: int
    #: How long it will be.
    duration_s: float
    media_type: str
    _blocks: Iterator[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks


class Client:
    """A connection to one service. Close it, or use it in a `with` block. Safe to share between threads.

    Every method raises the errors of `orchestrion.errors` that the service names, `Unreachable` when it does not
    answer or breaks off, and `Internal` when the answer is not that of a service of this release.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        trusted_keys: Mapping[str, Ed25519PublicKey] | None = None,
        retries: int = 2,
        deadline_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """A client; it asks nothing yet.

        Args:
            base_url: where the service is, with its prefix if it has one: "http://127.0.0.1:8000".
            headers: sent with every request, e.g. what a proxy in front of the service wants to see.
            trusted_keys: by key id, see `load_trusted_keys`; what is downloaded must be signed with one of them. None:
                nothing is verified.
            retries: attempts after the first one, of calls that may succeed later.
            deadline_s: seconds for a call until its answer begins, all attempts together; also the longest silence in
                the middle of an answer.
            connect_timeout_s: seconds to reach the service, for one attempt.
            transport: speaks HTTP; httpx's own if not given.
            clock: measures the deadline.
            sleep: waits between attempts.
            chance: draws from [0, 1), for the length of the pauses.

        Raises:
            InvalidRequest: `base_url` is not the address of a service.
        """
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise InvalidRequest.of("base_url", base_url, f"is not an address: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidRequest.of("base_url", base_url, "is not an http(s) address such as http://127.0.0.1:8000")
        self._trusted_keys = trusted_keys
        self._policy = RetryPolicy(retries, deadline_s)
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._chance = chance
        self._http = httpx.Client(
            base_url=url, headers={"User-Agent": f"orchestrion/{__version__}", **(headers or {})}, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create(self, spec: TrackSpec, *, priority: Priority = "interactive") -> TrackSummary:
        """Have a track made, and wait for it; one that is there already is not made again.

        Fields that were not given to `spec` are not sent: the service's own first model is taken, not this release's.
        """
        wanted = self._http.build_request("POST", "/v1/tracks", json=_wire_form(spec), params={"priority": priority})
        return read_answer(TrackSummary, self._read(wanted))

    @contextmanager
    def stream(
        self, spec: TrackSpec, *, format: StreamFormat | None = None, priority: Priority = "interactive"
    ) -> Iterator[TrackStream]:
        """Have a track made and hear it meanwhile: a context manager whose value gives the audio as it comes.

        A stream is mastered while it is made, so its bytes are not those of the stored track and have no signature. It
        is complete, and its track stored, if iterating ends without an error; one that fails its checks is broken off.

        Args:
            spec: what to make.
            format: of the stream alone, the spec's if not given; "pcm" is 16-bit little-endian without a header.
            priority: which pool makes it.
        """
        params = {"priority": priority} | ({"format": format} if format is not None else {})
        wanted = self._http.build_request("POST", "/v1/tracks/stream", json=_wire_form(spec), params=params)
        with self._answer(wanted) as response:
            try:
                opened = TrackStream(
                    track_id=response.headers["x-track-id"],
                    cache_hit=response.headers["x-cache"] == "hit",
                    sample_rate_hz=int(response.headers["x-sample-rate"]),
                    channels=int(response.headers["x-channels"]),
                    duration_s=float(response.headers["x-duration-seconds"]),
                    media_type=response.headers["content-type"],
                    _blocks=_blocks(response),
                )
            except (KeyError, ValueError) as error:
                raise Internal(f"the stream's head does not say what comes ({error}); is this the service?") from None
            yield opened

    def get(self, track_id: str) -> TrackSummary:
        """What the service tells of a stored track."""
        return read_answer(TrackSummary, self._get(_address(track_id)))

    def provenance(self, track_id: str) -> SignedRecord:
        """The signed record of a stored track, verified if there are trusted keys.

        Raises:
            VerificationFailed: it is no signed record, or, with trusted keys, not one of this track that they signed.
        """
        signed = SignedRecord.from_bytes(self._get(f"{_address(track_id)}/provenance"))
        if self._trusted_keys is not None:
            verify_record(signed, track_id, signed.record.version or 1, self._trusted_keys)
        return signed

    def audio(self, track_id: str) -> bytes:
        """The audio file of a stored track, verified if there are trusted keys.

        Raises:
            VerificationFailed: with trusted keys: it is not the audio that they signed.
        """
        file = io.BytesIO()
        self._download_audio(track_id, file)
        return file.getvalue()

    def save_audio(self, track_id: str, path: str | Path) -> None:
        """The same into a file, block by block; the file appears, or is replaced, when all of it is there and verified.

        Raises:
            VerificationFailed: with trusted keys: it is not the audio that they signed.
            OSError: the file cannot be written.
        """
        path = Path(path)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with aside.open("xb") as file:
                self._download_audio(track_id, file)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def midi(self, track_id: str) -> bytes:
        """The score of a stored track, a Standard MIDI File, verified if there are trusted keys.

        Raises:
            NotFound: its model makes no score.
            VerificationFailed: with trusted keys: it is not the score that they signed.
        """
        signed = self.provenance(track_id) if self._trusted_keys is not None else None
        if signed is not None and signed.record.midi_sha256 is None:
            raise NotFound(f"{signed.record.model} makes no score, so {track_id} has no MIDI")
        score = self._get(f"{_address(track_id)}/midi")
        sha256 = hashlib.sha256(score).hexdigest()
        if signed is not None and sha256 != signed.record.midi_sha256:
            raise VerificationFailed(f"the score's SHA-256 is {sha256}, the record says {signed.record.midi_sha256}")
        return score

    def upload(self, source: str | Path | bytes, use: Literal["theme", "continuation"] = "theme") -> Upload:
        """Upload a theme melody, or audio to go on from: what to name it by, and what was read of it.

        Args:
            source: audio or MIDI, at most 20 MB and 120 s: the path of a file, or its bytes.
            use: the field of a spec that is to name it.

        Raises:
            InvalidRequest: the file cannot be read here, or the service cannot use it so.
        """
        headers = {"Content-Type": "application/octet-stream"}
        upload = self._http.build_request(
            "POST", "/v1/themes", params={"use": use}, content=_bytes_of(source, use), headers=headers
        )
        return read_answer(Upload, self._read(upload))

    def upload_theme(self, source: str | Path | bytes) -> str:
        """Upload a theme melody: the reference for a spec's `theme`. See `upload`."""
        return self.upload(source).reference

    def upload_continuation(self, source: str | Path | bytes) -> str:
        """Upload audio to go on from: the reference for a spec's `continuation`. See `upload`."""
        return self.upload(source, "continuation").reference

    def models(self) -> tuple[ServedModel, ...]:
        """The models that requests may name."""
        return read_answer(ModelList, self._get("/v1/models")).models

    def styles(self) -> Vocabulary:
        """The styles, moods and instruments that requests may name."""
        return read_answer(Vocabulary, self._get("/v1/styles"))

    def ready(self) -> bool:
        """Whether the service answers and its pools have loaded their models. Asks once."""
        answer = self._ask(self._http.build_request("GET", "/readyz"), self._policy.deadline_s)
        if isinstance(answer, Refusal):
            if isinstance(answer.error, Transient):
                return False
            raise answer.error
        answer.close()
        return True

    def _download_audio(self, track_id: str, into: BinaryIO) -> None:
        # The record first: what is longer than it says is not downloaded to its end.
        signed = self.provenance(track_id) if self._trusted_keys is not None else None
        sha256, size = hashlib.sha256(), 0
        with self._answer(self._http.build_request("GET", f"{_address(track_id)}/audio")) as response:
            for block in _blocks(response):
                size += len(block)
                if signed is not None and size > signed.record.audio_bytes:
                    break
                sha256.update(block)
                into.write(block)
        if signed is not None:
            verify_audio_hash(signed.record, size, sha256.hexdigest())

    def _get(self, path: str) -> bytes:
        return self._read(self._http.build_request("GET", path))

    def _read(self, request: httpx.Request) -> bytes:
        with self._answer(request) as response:
            return b"".join(_blocks(response))

    @contextmanager
    def _answer(self, request: httpx.Request) -> Iterator[httpx.Response]:
        """A good answer, of which nothing but the head was read."""
        response = self._send(request)
        try:
            yield response
        finally:
            response.close()

    def _send(self, request: httpx.Request) -> httpx.Response:
        """Ask, and ask again what may succeed later, as long as the policy allows."""
        began_s, failed_tries = self._clock.monotonic_s(), 0
        while True:
            passed_s = self._clock.monotonic_s() - began_s
            answer = self._ask(request, self._policy.deadline_s - passed_s)
            if isinstance(answer, httpx.Response):
                return answer
            failed_tries += 1
            passed_s = self._clock.monotonic_s() - began_s
            pause_s = self._policy.pause_s(answer, failed_tries, passed_s, self._chance())
            if pause_s is None:
                raise answer.error
            self._sleep(pause_s)

    def _ask(self, request: httpx.Request, remaining_s: float) -> httpx.Response | Refusal:
        """One attempt."""
        # A pause may have taken longer than it was meant to; a socket takes 0 for another mode.
        whole_s = max(remaining_s, 0.001)
        request.extensions["timeout"] = httpx.Timeout(whole_s, connect=min(self._connect_timeout_s, whole_s)).as_dict()
        try:
            response = self._http.send(request, stream=True)
            if response.is_success:
                return response
            try:
                return refusal_of(response.status_code, response.headers, response.read())
            finally:
                response.close()
        except httpx.RequestError as error:
            return Refusal(Unreachable(f"{self._http.base_url} did not answer: {_why(error)}"))


def _blocks(response: httpx.Response) -> Iterator[bytes]:
    """The body as it comes."""
    try:
        yield from response.iter_bytes()
    except httpx.RequestError as error:
        raise Unreachable(f"{response.url} was broken off: {_why(error)}") from error


def _why(error: httpx.RequestError) -> str:
    return f"{type(error).__name__} ({shown(str(error))})"


def _address(track_id: str) -> str:
    return f"/v1/tracks/{quote(track_id, safe='')}"


def _wire_form(spec: TrackSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude_unset=True)


def _bytes_of(source: str | Path | bytes, field: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InvalidRequest.of(field, str(source), f"cannot be read: {error.strerror}") from None
