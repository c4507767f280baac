"""What the HTTP routes of one replica stand on: the two pools, the store, and what the pools' models are.

A track that is stored is found here, without a pool: the one it belongs to may have no replica or no room. What takes
long or holds the interpreter runs elsewhere: renders in the pools, checks of uploads in processes, reads in threads.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar, cast

import ray.util.metrics
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from orchestrion.audio.mastering import RECIPE_VERSION
from orchestrion.audio.stream_encode import StreamFormat
from orchestrion.clock import SystemClock
from orchestrion.errors import NotFound, NotReady, OrchestrionError, Overloaded, code_of, shown
from orchestrion.models.protocol import ModelInfo
from orchestrion.models.registry import public_name
from orchestrion.rendering.admission import Pool, Priority, batch_is_warm, pools_for
from orchestrion.rendering.suitability import named_model, refuse_unsuitable, told_intent
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import StoredTrack, VerifiedTracks
from orchestrion.telemetry.metrics import (
    CACHE_HITS,
    FAILURES,
    REQUESTS,
    Metric,
    RayMetrics,
    RayRecorder,
    Recorder,
    TolerantRecorder,
    model_label,
)
from orchestrion.tracks.identity import is_track_id, piece_id, track_id
from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.intent.passage import read_vocabulary
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.record import TrackRecord
from orchestrion.tracks.request import TrackRequest
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys
from serve_app.config import ServeConfig
from serve_app.delivery.pace import Pace
from serve_app.delivery.stored_audio import file_blocks, pcm_blocks
from serve_app.deployments.render_pool import RenderPool, StreamHeader
from serve_app.uploads.checks import UploadChecks
from serve_app.uploads.uploads import Uploads

T = TypeVar("T")

#: Threads that read the store and decode what is stored. Nothing that an upload or a render does runs in them.
READ_THREADS: Final = 16
#: Seconds that a pool may take to say that it is there.
READY_TIMEOUT_S: Final = 5.0
#: Of a stored file, sent as fast as it can be read.
DOWNLOAD_LEAD_BYTES: Final = 4_000_000

#: Ray types handles by the class they lead to.
PoolHandle = DeploymentHandle[RenderPool]
#: What the audio is, and the audio; a refusal after it breaks it off.
OpenedStream = tuple[StreamHeader, AsyncIterator[bytes | Failure]]


class Ingress:
    """One ingress replica."""

    def __init__(
        self, config: ServeConfig, low_latency: PoolHandle, batch: PoolHandle, recorder: Recorder | None = None
    ) -> None:
        # Seconds, in which nobody else would be answered if the first prompt of a language took them.
        read_vocabulary()
        # As `build_renderer` does in a pool: a collection would look through the words for a tenth of a second.
        gc.freeze()
        self.config = config
        self.pools = {Pool.LOW_LATENCY: low_latency, Pool.BATCH: batch}
        profiles = {Pool.LOW_LATENCY: config.low_latency, Pool.BATCH: config.batch}
        #: A pool that may be empty starts with its first request and is always ready for it.
        self.awaited = [pool for pool, profile in profiles.items() if profile.min_replicas > 0]
        self._batch_answered_at_s: float | None = None
        self._clock = SystemClock()
        self.store = TrackStore.open(config.store_url, config.storage_options)
        self._recorder = TolerantRecorder(recorder or RayRecorder(cast("RayMetrics", ray.util.metrics)))
        trusted = trusted_keys(Signer.load(config.signing_key_path), config.trusted_keys_path)
        self.tracks = VerifiedTracks(self.store, trusted, self._recorder)
        checks = UploadChecks(
            processes=config.upload_processes, queue_limit=config.upload_queue_limit, timeout_s=config.upload_timeout_s
        )
        self.uploads = Uploads(config, self.store, self._clock, checks.check)
        self.default_model = public_name(config.models[0])
        self._models_come_and_go = config.resident_models is not None and config.resident_models < len(config.models)
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
        #: As the pools last said; empty before they have.
        self.models: Mapping[str, ModelInfo] = {}

    async def reading(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the threads that read the store."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def render(self, request: TrackRequest, priority: Priority) -> Track | Failure:
        """One finished track, from the store or the first pool that has room for it."""

        async def ask(pool: PoolHandle) -> Track | Failure:
            answer: Track | Failure = await pool.render.remote(request, priority)
            return answer

        pools = self._pools_for(request, priority)
        found = await self._find(request, pools[0])
        return await self._answer_of_first_with_room(pools, request, ask) if found is None else found

    async def stream(
        self, request: TrackRequest, priority: Priority, wire_format: StreamFormat
    ) -> OpenedStream | Failure:
        """The header and the audio that follows it, from the first pool that has room for it.

        Nothing follows where the header says that the store has it.
        """

        async def ask(pool: PoolHandle) -> OpenedStream | Failure:
            call = pool.options(stream=True).stream.remote(request, wire_format, priority)
            # Ray's type does not say that `stream=True` makes the answer a generator.
            items = cast("AsyncIterator[Any]", call)
            first = await anext(items)
            return first if isinstance(first, Failure) else (first, items)

        pools = self._pools_for(request, priority)
        found = await self._find(request, pools[0])
        if found is None:
            return await self._answer_of_first_with_room(pools, request, ask)
        if isinstance(found, Failure):
            return found
        info, record = self.models[request.composition.model], found.record
        length_s = request.composition.duration_s
        channels = request.delivery.channels or info.channels
        header = StreamHeader(found.track_id, record.sample_rate_hz, channels, length_s, found)
        return header, _nothing()

    async def _answer_of_first_with_room(
        self, pools: Sequence[Pool], request: TrackRequest, ask: Callable[[PoolHandle], Awaitable[T | Failure]]
    ) -> T | Failure:
        """What the first pool with room for a request answers; where none has, what the last one says."""
        for pool in pools[:-1]:
            answer = await self._answer_of(pool, request, ask)
            if not _has_no_room(answer):
                return answer
        return await self._answer_of(pools[-1], request, ask)

    async def _answer_of(
        self, pool: Pool, request: TrackRequest, ask: Callable[[PoolHandle], Awaitable[T | Failure]]
    ) -> T | Failure:
        """A replica that dies is replaced by another try: the same request is the same track."""
        for last_try in (False, True):
            try:
                answer = await ask(self._routed(pool, request))
            except BackPressureError:
                return _backed_up(pool)
            except (RayActorError, DeploymentUnavailableError):
                if last_try:
                    return _gone(pool)
            else:
                self._note_answer(pool)
                return answer
        raise AssertionError("the second try returns")

    @property
    def download_pace(self) -> Pace:
        """Of stored files, where nobody reports how far they were read."""
        return Pace(DOWNLOAD_LEAD_BYTES, self.config.download_mb_per_s * 1e6)

    def stream_pace(self, bytes_per_s: float) -> Pace:
        """The same of a stored track that is streamed, by the bytes of a second of it."""
        return Pace(self.config.stream_lead_s * bytes_per_s, self.config.stream_pace * bytes_per_s)

    def stored_file(self, record: TrackRecord, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes [start, end) of a stored file."""
        return file_blocks(self.store, record.audio_key, start, end, self.reading)

    def stored_stream(self, record: TrackRecord, wire_format: StreamFormat) -> AsyncIterator[bytes]:
        """A stored track as the file it is, or decoded to PCM."""
        if wire_format == "pcm":
            return pcm_blocks(self.store, record.audio_key, record.audio_bytes, self.reading)
        return self.stored_file(record, 0, record.audio_bytes)

    def with_model(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request that names no model gets the first that this service has."""
        return {"model": self.default_model} | body

    async def load_models(self) -> Mapping[str, ModelInfo]:
        """What the pools have loaded; raises NotReady while one of them is not there."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                answers = await asyncio.gather(
                    *(self.pools[pool].models.remote() for pool in self.awaited or [Pool.LOW_LATENCY])
                )
        except (TimeoutError, BackPressureError, RayActorError, DeploymentUnavailableError):
            raise NotReady("the pools are loading their models; ask again") from None
        models: tuple[ModelInfo, ...] = answers[0]
        self.models = {model.name: model for model in models}
        return self.models

    async def known_models(self) -> Mapping[str, ModelInfo]:
        """The models, asked for once; raises NotReady while nobody can say."""
        return self.models or await self.load_models()

    async def models_if_known(self) -> list[ModelInfo]:
        """The models, the default first; none while nobody can say."""
        try:
            return list((await self.known_models()).values())
        except NotReady:
            return []

    async def stored(self, track_id: str) -> StoredTrack:
        """The newest record of a track, verified."""
        found = await self.reading(partial(self.tracks.newest, track_id)) if is_track_id(track_id) else None
        if found is None:
            raise NotFound(f"there is no track {shown(track_id)}; make it with POST /v1/tracks")
        return found

    async def intent_of(self, request: TrackRequest) -> Intent:
        """What was understood of a request's words, and, if its model is known, what of it that does not follow.

        Raises:
            InvalidRequest: there is no such model.
        """
        models = {model.name: model for model in await self.models_if_known()}
        return told_intent(request, named_model(request, models)) if models else request.intent

    async def check_audio(self, record: TrackRecord) -> None:
        """Do nothing, unless a record's audio is not what was written: an error now, and not a file that ends early."""
        await self.reading(partial(self.store.check_blob, record.audio_key))

    async def _find(self, request: TrackRequest, pool: Pool) -> Track | Failure | None:
        """The track if it is stored, a refusal if it cannot be had here; None: the pool must say."""
        try:
            models = await self.known_models()
        except NotReady:
            return None
        try:
            info = named_model(request, models)
            refuse_unsuitable(request, info)
            wanted = track_id(request, info.revision, RECIPE_VERSION)
            piece = piece_id(request.composition, info.revision)
            found = await self.reading(partial(self.tracks.reusable, wanted, piece))
        except OrchestrionError as error:
            self._count(FAILURES, request, pool, reason=code_of(error))
            self._count(REQUESTS, request, pool, outcome="failed")
            return Failure.of(error, "request")
        if found is None:
            return None
        self._count(CACHE_HITS, request, pool)
        self._count(REQUESTS, request, pool, outcome="cache_hit")
        return Track(wanted, found.record, found.version, cache_hit=True)

    def _count(self, metric: Metric, request: TrackRequest, pool: Pool, **labels: str) -> None:
        model = model_label(request.composition.model, self.models)
        self._recorder.count(metric, pool=pool.value, model=model, **labels)

    def _pools_for(self, request: TrackRequest, priority: Priority) -> tuple[Pool, ...]:
        answered_at_s = self._batch_answered_at_s
        since_s = None if answered_at_s is None else self._clock.monotonic_s() - answered_at_s
        warm = batch_is_warm(self.config.batch.min_replicas, since_s)
        return pools_for(request.composition.duration_s, priority, batch_is_warm=warm)

    def _note_answer(self, pool: Pool) -> None:
        if pool is Pool.BATCH:
            self._batch_answered_at_s = self._clock.monotonic_s()

    def _routed(self, pool: Pool, request: TrackRequest) -> PoolHandle:
        """The pool; where models come and go, its replicas that have this one in memory before others."""
        handle = self.pools[pool]
        return handle.options(multiplexed_model_id=request.composition.model) if self._models_come_and_go else handle


async def _nothing() -> AsyncIterator[bytes | Failure]:
    return
    yield b""


def _backed_up(pool: Pool) -> Failure:
    return Failure.of(Overloaded(f"the {pool.value} pool takes no more requests"), "queue")


def _has_no_room(answer: object) -> bool:
    return isinstance(answer, Failure) and answer.code == Overloaded.code


def _gone(pool: Pool) -> Failure:
    lost = NotReady(f"the {pool.value} pool lost the replica that worked on this; send the request again")
    return Failure.of(lost, "generate")
