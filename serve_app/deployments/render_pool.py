"""A replica that renders: bound twice by `build_app`, as the low-latency and as the batch pool.

The event loop only passes messages. Models run in the render thread (`Executor`); preparing, loading, mastering and
encoding in small thread pools beside it. Serve reads this replica's generators as fast as they yield, however slow the
client is, so a stream is paced here, or a stalled client's whole track would pile up in the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, cast

import numpy as np
import ray.util.metrics
from ray import serve

from orchestrion.audio.pcm import Pcm
from orchestrion.audio.stream_encode import StreamEncoder, StreamFormat
from orchestrion.audio.streaming import StreamFinisher
from orchestrion.clock import SystemClock
from orchestrion.errors import Overloaded, StoreUnavailable
from orchestrion.models.cache import BUSY_RETRY_S, CachedModel
from orchestrion.models.protocol import ModelInfo
from orchestrion.rendering.admission import Pool, Priority, long_limit
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import Policy
from orchestrion.rendering.renderer import build_renderer
from orchestrion.rendering.task import ActiveRendering, Listener
from orchestrion.telemetry.metrics import (
    CACHE_HITS,
    QUEUE_DEPTH,
    REQUESTS,
    TIME_TO_FIRST_AUDIO,
    RayMetrics,
    RayRecorder,
    model_label,
)
from orchestrion.tracks.intent.passage import read_vocabulary
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import AudioFormat, Purpose, TrackRequest
from orchestrion.tracks.spec import TrackSpec
from serve_app.config import PoolProfile, ServeConfig
from serve_app.delivery.pace import Pace

T = TypeVar("T")

#: Threads for the short work of streams, so that a track being stored never delays a first chunk.
STREAM_THREADS: Final = 4
#: Threads that ask the store for tracks that are there already: one that does not answer must hold up no stream.
LOOK_UP_THREADS: Final = 4
#: A paced stream looks so often whether its track has failed meanwhile.
PACING_STEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """First item of every stream: what the bytes after it are. With `cached` no bytes follow: the store has them."""

    track_id: str
    sample_rate_hz: int
    channels: int
    duration_s: float
    cached: Track | None = None


class RenderPool:
    """One replica of a pool."""

    def __init__(self, pool: Pool, config: ServeConfig, profile: PoolProfile) -> None:
        # The composer takes hints from words: no listener waits for the first prompt of a language to be read.
        read_vocabulary()
        self._pool = pool
        self._config = config
        self._max_queue_s = profile.max_queue_s
        self._pace = Pace(config.stream_lead_s, config.stream_pace)
        self._clock = SystemClock()
        recorder = RayRecorder(cast("RayMetrics", ray.util.metrics))
        self._renderer = build_renderer(config.render_config(profile), pool.value, recorder)
        self._recorder = self._renderer.recorder
        self._stream_threads = ThreadPoolExecutor(STREAM_THREADS, thread_name_prefix="stream")
        self._look_up_threads = ThreadPoolExecutor(LOOK_UP_THREADS, thread_name_prefix="look-up")
        self._load_thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        policy = Policy(
            slots=profile.slots,
            queue_limit=profile.queue_limit,
            long_limit=long_limit(pool, profile.slots, profile.queue_limit),
            max_queue_s=profile.max_queue_s,
            stall_s=config.stall_s,
        )
        self._executor = Executor(
            self._renderer,
            policy,
            self._clock,
            on_queue_change=lambda depth: self._recorder.set(QUEUE_DEPTH, float(depth), pool=pool.value),
        )
        models = self._renderer.models
        self._cached = {name: model for name, model in models.items() if isinstance(model, CachedModel)}
        for model in models:
            if model not in self._cached:
                self._warm_up(model)
        self._load_cached = serve.multiplexed(self._loader(), max_num_models_per_replica=config.resident_models or 1)
        self._executor.start()

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._executor.is_alive:
            raise RuntimeError("the render thread has ended")
        if self._executor.is_stuck:
            raise RuntimeError(f"nothing has moved for {self._config.stall_s:g} s; see the log for what is stuck")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Seconds that a request arriving now would wait for its slot; read by `autoscaling.policies.low_latency`."""
        state = self._executor.queue_state()
        return {"queue_seconds": state.queued * state.mean_service_s}

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models that are loaded here."""
        return tuple(model.info for model in self._renderer.models.values())

    async def render(self, request: TrackRequest, priority: Priority) -> Track | Failure:
        """The finished track. Cancelling gives the work up unless another request waits for it."""
        arrived_s = self._clock.monotonic_s()
        begun = await self._begin(request, priority, streaming=False)
        if not isinstance(begun, tuple):
            return begun
        listener, news = begun
        try:
            while listener.task.outcome is None:
                await _next_news(news)
            outcome = listener.task.outcome
            if isinstance(outcome, Track):
                self._observe_first_audio(request, arrived_s)
            self._count(request, "ok" if isinstance(outcome, Track) else "failed")
            return outcome
        except asyncio.CancelledError:
            self._count(request, "cancelled")
            raise
        finally:
            self._executor.leave(listener)

    async def stream(
        self, request: TrackRequest, wire_format: StreamFormat, priority: Priority
    ) -> AsyncIterator[StreamHeader | Failure | bytes]:
        """A header, then the encoded audio while it is made; the end waits until the track is in the store.

        A refusal comes instead of the header, or after audio when the finished track fails: then the stream is broken
        and must not look complete.
        """
        arrived_s = self._clock.monotonic_s()
        begun = await self._begin(request, priority, streaming=True)
        if isinstance(begun, Failure):
            yield begun
            return
        if isinstance(begun, Track):
            info = self._renderer.models[request.composition.model].info
            channels = request.delivery.channels or info.channels
            rate_hz, length_s = begun.record.sample_rate_hz, request.composition.duration_s
            yield StreamHeader(begun.track_id, rate_hz, channels, length_s, cached=begun)
            return
        listener, news = begun
        task = listener.task
        try:
            while not (listener.untaken or task.whole or task.outcome):
                await _next_news(news)
            if isinstance(task.outcome, Failure):
                self._count(request, "failed")
                yield task.outcome
                return
            rate_hz, length_s = task.opened.spec.sample_rate_hz, request.composition.duration_s
            channels = task.opened.spec.channels_of(task.opened.channels)
            yield StreamHeader(task.track_id, rate_hz, channels, length_s)
            async for data in self._encoded(listener, news, wire_format, request, arrived_s):
                yield data
            self._count(request, "ok" if isinstance(task.outcome, Track) else "failed")
        except (asyncio.CancelledError, GeneratorExit):
            self._count(request, "cancelled")
            raise
        except Exception as error:
            yield self._failed(request, error, "encode", "failed")
        finally:
            self._executor.leave(listener)

    async def _encoded(
        self,
        listener: Listener,
        news: asyncio.Event,
        wire_format: StreamFormat,
        request: TrackRequest,
        arrived_s: float,
    ) -> AsyncIterator[bytes | Failure]:
        task = listener.task
        source_rate_hz = task.opened.source_rate_hz
        master = StreamMaster(task.opened, wire_format)
        first_sent_at_s: float | None = None
        while not isinstance(task.outcome, Failure):
            whole = task.whole
            chunks = self._executor.take(listener)
            if chunks:
                # Mastered before it is due, so that what else is done here does not make it late.
                data = await self._in_thread(partial(master.push, chunks))
                await self._keep_pace(listener, first_sent_at_s)
                if isinstance(task.outcome, Failure):
                    break
                if data:
                    if first_sent_at_s is None:
                        first_sent_at_s = self._clock.monotonic_s()
                        self._observe_first_audio(request, arrived_s)
                    yield data
                self._executor.sent(listener, sum(map(len, chunks)) / source_rate_hz)
            elif whole:
                break
            else:
                await _next_news(news)
        rest = b"" if isinstance(task.outcome, Failure) else await self._in_thread(master.flush)
        while task.outcome is None:
            await _next_news(news)
        if isinstance(task.outcome, Failure):
            yield task.outcome
        elif rest:
            yield rest

    async def _keep_pace(self, listener: Listener, first_sent_at_s: float | None) -> None:
        if first_sent_at_s is not None:
            elapsed_s = self._clock.monotonic_s() - first_sent_at_s
            wait_s = self._pace.wait_s(listener.sent_s, elapsed_s)
            ends_at_s = self._clock.monotonic_s() + wait_s
            # A track that failed meanwhile is not worth sending on.
            while wait_s > 0 and not isinstance(listener.task.outcome, Failure):
                await asyncio.sleep(min(wait_s, PACING_STEP_S))
                wait_s = ends_at_s - self._clock.monotonic_s()

    def _warm_up(self, model: str) -> None:
        """Make and throw away a second of music: the first listener must not pay for lazy imports and cold caches."""
        spec = TrackSpec(prompt="warm-up", model=model, duration_s=1.0, purpose=Purpose.RESEARCH)
        rendering = self._renderer.open(spec.resolve())
        master = StreamMaster(rendering, AudioFormat.WAV)
        while (chunk := rendering.advance()) is not None:
            master.push([chunk])
        master.flush()
        rendering.close()

    async def _begin(
        self, request: TrackRequest, priority: Priority, *, streaming: bool
    ) -> Track | Failure | tuple[Listener, asyncio.Event]:
        """The track if it is stored, a refusal, or a listener of its task and the event that tells of news."""
        return (
            await self._find(request)
            or await self._have_in_memory(request)
            or self._join(request, priority, streaming=streaming)
        )

    async def _find(self, request: TrackRequest) -> Track | Failure | None:
        try:
            look_up = asyncio.get_running_loop().run_in_executor(
                self._look_up_threads, partial(self._renderer.find, request)
            )
            async with asyncio.timeout(self._config.stall_s):
                found = await look_up
        except TimeoutError:
            late = StoreUnavailable(f"the track store has not answered for {self._config.stall_s:g} s; ask again")
            return self._failed(request, late, "request", "failed")
        except Exception as error:
            return self._failed(request, error, "request", "failed")
        if found is not None:
            self._recorder.count(CACHE_HITS, pool=self._pool.value, model=request.composition.model)
            self._count(request, "cache_hit")
        return found

    def _loader(self) -> Callable[[str], Awaitable[str]]:
        """What Serve calls for a model that this replica does not have; it then sends that model's requests here."""

        async def load(name: str) -> str:
            await asyncio.get_running_loop().run_in_executor(self._load_thread, self._cached[name].load)
            return name

        return load

    async def _have_in_memory(self, request: TrackRequest) -> Failure | None:
        """Load the request's model if it is one of those that come and go, in a thread of its own."""
        if request.composition.model not in self._cached:
            return None
        try:
            async with asyncio.timeout(self._max_queue_s):
                await self._load_cached(request.composition.model)
        except TimeoutError:
            late = Overloaded(f"{request.composition.model} is still being loaded; come back later", BUSY_RETRY_S)
            return self._failed(request, late, "queue", "refused")
        except Exception as error:
            return self._failed(request, error, "queue", "refused")
        return None

    def _join(
        self, request: TrackRequest, priority: Priority, *, streaming: bool
    ) -> tuple[Listener, asyncio.Event] | Failure:
        news = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        try:
            track_id = self._renderer.track_id(request)
            listener = self._executor.join(request, track_id, streaming=streaming, wake=wake, priority=priority)
            return listener, news
        except Exception as error:
            return self._failed(request, error, "queue", "refused")

    def _failed(self, request: TrackRequest, error: Exception, stage: str, outcome: str) -> Failure:
        """What `error`, whatever it is, means to the client; counted."""
        self._count(request, outcome)
        return self._renderer.failed(error, stage, None, request.composition.model)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._stream_threads, work)

    def _count(self, request: TrackRequest, outcome: str) -> None:
        model = model_label(request.composition.model, self._renderer.models)
        self._recorder.count(REQUESTS, pool=self._pool.value, model=model, outcome=outcome)

    def _observe_first_audio(self, request: TrackRequest, arrived_s: float) -> None:
        waited_s = self._clock.monotonic_s() - arrived_s
        self._recorder.observe(TIME_TO_FIRST_AUDIO, waited_s, pool=self._pool.value, model=request.composition.model)


class StreamMaster:
    """Raw chunks in, encoded bytes out. Used by one thread at a time."""

    def __init__(self, rendering: ActiveRendering, wire_format: StreamFormat) -> None:
        spec = rendering.spec
        self._finisher = StreamFinisher(rendering.source_rate_hz, rendering.channels, spec, rendering.expected_lufs)
        channels = spec.channels_of(rendering.channels)
        self._encoder = StreamEncoder(wire_format, spec.sample_rate_hz, channels, spec.samples)

    def push(self, chunks: list[Pcm]) -> bytes:
        """Take raw chunks; give the bytes that are ready (maybe none)."""
        return self._encoder.push(self._finisher.push(np.concatenate(chunks)))

    def flush(self) -> bytes:
        """End of the audio: give the rest."""
        return self._encoder.push(self._finisher.flush()) + self._encoder.flush()


async def _next_news(news: asyncio.Event) -> None:
    await news.wait()
    news.clear()
