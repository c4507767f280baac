"""The flow, one request in and one signed track out: generate → finish → check → encode → store → sign → account.

`Renderer.render` takes a batch and gives one outcome per request, in order; `Renderer.open` gives one track chunk by
chunk to a listener. Both end in `Renderer.complete`, so a streamed track, a synchronous one and a catalog row of the
same request are the same bytes. A failure is a value here, never a missing row: whatever is thrown while a track is
made costs that track alone, and `Renderer.failed` says what it means.
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.accounting.cost import Node, PriceTable, cost_usd, describe_node
from orchestrion.audio.encode import FILE_SUFFIXES, encode
from orchestrion.audio.mastering import RECIPE_VERSION, FinishSpec, finish
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.quality import LOUDNESS, TRUE_PEAK, check, check_encoded
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import (
    CheckFailed,
    ModelFailed,
    OrchestrionError,
    as_ours,
    is_lack_of_memory,
)
from orchestrion.finding import Finding
from orchestrion.models.protocol import Conditioning, Generation, ModelInfo, MusicModel, Performance, Prepared
from orchestrion.models.registry import load_models
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.suitability import named_model, refuse_unsuitable
from orchestrion.resilience.store_retry import Retry, no_retry
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import (
    CACHE_HITS,
    COST_USD,
    DEVICE_SECONDS,
    FAILURES,
    RENDER_SECONDS_PER_AUDIO_SECOND,
    Recorder,
    TolerantRecorder,
    Uncounted,
)
from orchestrion.tracks.identity import track_id
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.record import SCHEMA_VERSION, TrackRecord, utc_timestamp
from orchestrion.tracks.request import TrackRequest
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys
from orchestrion.version import __version__

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each stage, summed over its visits: on the clock, and on the thread's core."""

    clock: Clock
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block to `name`, also when it raises."""
        started_s, cpu_started_s = self.clock.monotonic_s(), self.clock.thread_cpu_s()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock.monotonic_s() - started_s
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + self.clock.thread_cpu_s() - cpu_started_s

    def set(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """Say how long a stage took, where somebody else knows better."""
        self.seconds[name], self.cpu_seconds[name] = seconds, cpu_seconds


@dataclass(frozen=True, slots=True)
class Master:
    """A piece as it will be delivered, checked and encoded; the store does not have it yet."""

    data: bytes
    midi: bytes | None
    choices: Mapping[str, object]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What takes long of opening a track, done beforehand by `Renderer.prepare`."""

    conditioning: Conditioning
    prepared: Prepared | None
    #: What it took, on the clock and on the thread's core; the track is charged for it.
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """One request that is worth rendering: its identity, its model's card, and the form its track must have."""

    request: TrackRequest
    track_id: str
    info: ModelInfo
    spec: FinishSpec
    batch_size: int
    watch: Stopwatch


class Renderer:
    """Everything one process needs to turn requests into stored, signed tracks. One thread at a time may generate."""

    def __init__(
        self,
        models: Mapping[str, MusicModel],
        store: TrackStore,
        signer: Signer,
        node: Node,
        pool: str,
        recorder: Recorder,
        clock: Clock,
        trusted_keys: Mapping[str, Ed25519PublicKey] | None = None,
    ) -> None:
        self.models = models
        self.store = store
        self.signer = signer
        self.node = node
        self.pool = pool
        self.recorder = TolerantRecorder(recorder)
        self.clock = clock
        #: Whose records and tombstones count.
        self.trusted_keys = {signer.key_id: signer.public_key} if trusted_keys is None else trusted_keys

    @property
    def tracks(self) -> VerifiedTracks:
        """The store's tracks, as far as they verify."""
        return VerifiedTracks(self.store, self.trusted_keys, self.recorder)

    def render(self, requests: Sequence[TrackRequest]) -> list[Track | Failure]:
        """Render a batch. One outcome per request, in order; equal requests are rendered once.

        Nothing that is wrong with one request stops another.
        """
        found = [self._outcome_without_rendering(request, len(requests)) for request in requests]
        jobs: dict[str, Job] = {}
        for job in found:
            if isinstance(job, Job):
                jobs.setdefault(job.track_id, job)
        rendered: dict[str, Track | Failure] = {}
        for model in dict.fromkeys(job.request.model for job in jobs.values()):
            batch = [job for job in jobs.values() if job.request.model == model]
            rendered |= zip((job.track_id for job in batch), self._render_batch(batch), strict=True)
        return [rendered[one.track_id] if isinstance(one, Job) else one for one in found]

    def needs_preparing(self, request: TrackRequest) -> bool:
        """Whether opening this track takes so long that another thread should `prepare` it.

        Uploads are read from the store, and models whose tracks share each step encode the words first.
        """
        return request.theme is not None or request.continuation is not None or self.shares_steps(request)

    def prepare(self, request: TrackRequest) -> Preparation:
        """Do what takes long of opening a track. Any thread may, also while another one renders. Raises as `open`."""
        job = self._job(request, batch_size=1)
        conditioning = self._conditioning(request)
        with job.watch.stage("generate"), _model_errors(request.model):
            prepared = self.models[request.model].prepare(conditioning)
        return Preparation(conditioning, prepared, job.watch.seconds["generate"], job.watch.cpu_seconds["generate"])

    def open(
        self,
        request: TrackRequest,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        preparation: Preparation | None = None,
    ) -> Rendering:
        """Start one track, chunk by chunk. One that is not `interactive` lets the others of its model go first.

        With `resume`, a `Rendering.checkpoint` of the same track, what it knows is not drawn again. The track is the
        same, and so are its chunks, from the first on; a checkpoint that does not fit is ignored. A `preparation` is
        what `prepare` gave for this very request; without it, the same is done here.

        Raises:
            InvalidRequest: the model is not loaded here, or cannot use a field of the request.
            NotFound: the theme or the continuation is not in the store.
            RightsRefused: the weights' licence forbids the purpose.
            ModelFailed: the model cannot make this piece.
            StoreUnavailable: the theme or the continuation could not be read.
        """
        job = self._job(request, batch_size=1)
        if preparation is None:
            preparation = Preparation(self._conditioning(request), None, 0.0, 0.0)
        job.watch.set("generate", preparation.seconds, preparation.cpu_seconds)
        with job.watch.stage("generate"), _model_errors(request.model):
            performance = self.models[request.model].perform(
                preparation.conditioning, interactive=interactive, resume=resume, prepared=preparation.prepared
            )
        return Rendering(self, job, performance)

    def shares_steps(self, request: TrackRequest) -> bool:
        """Whether advancing one open track of the request's model advances all of them."""
        model = self.models.get(request.model)
        return model is not None and model.info.shares_steps

    def find(self, request: TrackRequest) -> Track | None:
        """The track of this request if it is in the store already.

        Raises:
            InvalidRequest: the model is not loaded here, or cannot use a field of the request.
            RightsRefused: the weights' licence forbids the purpose, also for a track that somebody else may have.
            Withdrawn: the track was taken down.
        """
        return self._stored(self._job(request, batch_size=1).track_id)

    def _stored(self, track_id: str) -> Track | None:
        stored = self.tracks.reusable(track_id)
        return None if stored is None else Track(track_id, stored.record, stored.version, cache_hit=True)

    def track_id(self, request: TrackRequest) -> str:
        """The id of the track that this request gives here.

        Raises:
            InvalidRequest: the model is not loaded here.
        """
        return track_id(request, self._model(request).info.revision, RECIPE_VERSION)

    def _model(self, request: TrackRequest) -> MusicModel:
        return named_model(request, self.models)

    def _job(self, request: TrackRequest, batch_size: int) -> Job:
        info = self._model(request).info
        refuse_unsuitable(request, info)
        return Job(request, self.track_id(request), info, FinishSpec.of(request), batch_size, Stopwatch(self.clock))

    def _outcome_without_rendering(self, request: TrackRequest, batch_size: int) -> Job | Track | Failure:
        """The job to do, unless the store has the track or the request is refused."""
        job = None
        try:
            job = self._job(request, batch_size)
            track = self._stored(job.track_id)
        except Exception as error:
            return self.failed(error, "request", job.track_id if job else None, request.model)
        if track is None:
            return job
        self.recorder.count(CACHE_HITS, pool=self.pool, model=request.model)
        return track

    def _render_batch(self, batch: Sequence[Job]) -> list[Track | Failure]:
        """Generate jobs of one model together, then finish each."""
        model = self.models[batch[0].request.model]
        outcomes: dict[str, Track | Failure] = {}
        ready: list[tuple[Job, Conditioning]] = []
        for job in batch:
            try:
                ready.append((job, self._conditioning(job.request)))
            except Exception as error:
                outcomes[job.track_id] = self.failed(error, "request", job.track_id, job.request.model)
        watch = Stopwatch(self.clock)
        with watch.stage("generate"):
            generations = self._generate(model, [conditioning for _, conditioning in ready])
        for (job, _), generation in zip(ready, generations, strict=True):
            # What one track held the device for, when all were made at once: what the model says, or by length.
            share = job.request.duration_s / sum(other.request.duration_s for other, _ in ready)
            known_s = None if isinstance(generation, OrchestrionError) else generation.device_s
            if known_s is None:
                job.watch.set("generate", watch.seconds["generate"] * share, watch.cpu_seconds["generate"] * share)
            else:
                job.watch.set("generate", known_s, known_s)
            if isinstance(generation, OrchestrionError):
                outcomes[job.track_id] = self.failed(generation, "generate", job.track_id, job.request.model)
                self._account(job)
            else:
                outcomes[job.track_id] = self.complete(job, generation)
        return [outcomes[job.track_id] for job in batch]

    def _generate(self, model: MusicModel, batch: Sequence[Conditioning]) -> Sequence[Generation | OrchestrionError]:
        """One generation or error per input. A batch that breaks the model is made again one by one."""
        if not batch:
            return []
        try:
            with _model_errors(model.info.name):
                generations = model.generate(batch)
                if len(generations) != len(batch):
                    raise RuntimeError(f"{len(generations)} pieces were made of {len(batch)}")
                return generations
        except OrchestrionError as error:
            if len(batch) == 1:
                return [error]
            return [self._generate(model, [conditioning])[0] for conditioning in batch]

    def _conditioning(self, request: TrackRequest) -> Conditioning:
        return Conditioning.of(request, self._upload(request.theme), self._upload(request.continuation))

    def _upload(self, ref: str | None) -> bytes | None:
        return None if ref is None else self.store.theme(ref)

    def complete(self, job: Job, generation: Generation) -> Track | Failure:
        """Finish, check, encode, store, sign and account for one generated piece."""
        master = self.master(job, generation)
        return master if isinstance(master, Failure) else self.publish(job, master)

    def master(self, job: Job, generation: Generation) -> Master | Failure:
        """The half of `complete` that takes a core: finish, check and encode. A failure is accounted for."""
        stage = "finish"
        try:
            with job.watch.stage("finish"):
                audio = finish(generation.audio, job.info.sample_rate_hz, job.spec)
            stage = "check"
            with job.watch.stage("check"):
                findings = check(audio, job.spec.sample_rate_hz, job.spec)
                _pass(findings)
            stage = "encode"
            with job.watch.stage("encode"):
                data = encode(audio, job.spec.sample_rate_hz, job.request.format)
            stage = "check"
            with job.watch.stage("check"):
                findings += check_encoded(data, job.request.format, job.spec, audio.shape[1])
                _pass(findings)
        except Exception as error:
            self._account(job)
            return self.failed(error, stage, job.track_id, job.request.model)
        return Master(data, generation.midi, generation.choices, tuple(findings))

    def publish(self, job: Job, master: Master, retrying: Retry = no_retry) -> Track | Failure:
        """The half of `complete` that waits for the store: store, sign and account."""
        try:
            with job.watch.stage("store"):
                audio_key, midi_key = retrying(lambda: self._put(job, master))
            record = self._record(job, master, audio_key, midi_key)
            version = retrying(
                lambda: self.tracks.publish(
                    job.track_id, lambda version: self.signer.sign(replace(record, version=version)).to_bytes()
                )
            )
        except Exception as error:
            self._account(job)
            return self.failed(error, "store", job.track_id, job.request.model)
        self._account(job)
        return Track(job.track_id, replace(record, version=version), version, cache_hit=False)

    def _put(self, job: Job, master: Master) -> tuple[str, str | None]:
        """Put audio and MIDI into the store, unless the track was taken down; their keys."""
        # Asked here, before anything is written, and by `publish` once more when all is.
        self.tracks.refuse_withdrawn(job.track_id)
        audio_key = self.store.put_blob(master.data, FILE_SUFFIXES[job.request.format])
        return audio_key, self.store.put_blob(master.midi, ".mid") if master.midi else None

    def _record(self, job: Job, master: Master, audio_key: str, midi_key: str | None) -> TrackRecord:
        """All of the record but its version, which is known when it is published."""
        request, seconds, device_seconds = job.request, job.watch.seconds, self._device_seconds(job)
        measured = {finding.name: finding.measured for finding in master.findings}
        return TrackRecord(
            schema_version=SCHEMA_VERSION,
            track_id=job.track_id,
            version=1,
            created_at=utc_timestamp(self.clock.now()),
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            style=request.style,
            mood=request.mood,
            tempo_bpm=request.tempo_bpm,
            key=str(request.key) if request.key else None,
            duration_s=request.duration_s,
            seed=request.seed,
            theme=request.theme,
            continuation=request.continuation,
            guidance=request.guidance,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            model=request.model,
            format=request.format.value,
            sample_rate_hz=request.sample_rate_hz,
            loudness_lufs=request.loudness_lufs,
            fade_in_s=request.fade_in_s,
            fade_out_s=request.fade_out_s,
            requester=request.requester,
            purpose=request.purpose.value,
            prompt_sha256=hashlib.sha256(request.prompt.encode()).hexdigest(),
            model_revision=job.info.revision,
            weights_licence=job.info.weights_licence,
            commercial_use=job.info.commercial_use,
            recipe_version=RECIPE_VERSION,
            code_version=__version__,
            choices={name: str(choice) for name, choice in master.choices.items()},
            node_id=self.node.node_id,
            node_type=self.node.node_type,
            device=self.node.device,
            market=self.node.market,
            pool=self.pool,
            batch_size=job.batch_size,
            generate_s=seconds["generate"],
            finish_s=seconds["finish"],
            check_s=seconds["check"],
            encode_s=seconds["encode"],
            store_s=seconds["store"],
            device_seconds=device_seconds,
            price_usd_per_device_hour=self.node.price_usd_per_device_hour,
            price_source=self.node.price_source,
            cost_usd=cost_usd(device_seconds, self.node.price_usd_per_device_hour),
            audio_key=audio_key,
            audio_sha256=hashlib.sha256(master.data).hexdigest(),
            audio_bytes=len(master.data),
            midi_key=midi_key,
            midi_sha256=hashlib.sha256(master.midi).hexdigest() if master.midi else None,
            measured_loudness_lufs=measured[LOUDNESS],
            measured_true_peak_dbtp=measured[TRUE_PEAK],
            findings=master.findings,
        )

    def _device_seconds(self, job: Job) -> float:
        """What the job held of the device. A GPU is free for the next track while the CPU finishes this one.

        Of a core, CPU time: while one thread waits for the store or for its turn, the core is another's.
        """
        if self.node.device == "gpu":
            return job.watch.seconds.get("generate", 0.0)
        return sum(job.watch.cpu_seconds.values())

    def _account(self, job: Job) -> None:
        """Count what the job held of the device, whether a track came of it or not."""
        device_seconds, model = self._device_seconds(job), job.request.model
        usd = cost_usd(device_seconds, self.node.price_usd_per_device_hour)
        self.recorder.count(DEVICE_SECONDS, device_seconds, pool=self.pool, model=model, market=self.node.market)
        self.recorder.count(COST_USD, usd, pool=self.pool, model=model, market=self.node.market)
        self.recorder.observe(
            RENDER_SECONDS_PER_AUDIO_SECOND, device_seconds / job.request.duration_s, pool=self.pool, model=model
        )

    def failed(self, error: Exception, stage: str, track_id: str | None, model: str) -> Failure:
        """The failure that `error`, whatever it is, means: counted, and in the log if nobody raised it on purpose."""
        failure = Failure.of(error, stage, track_id)
        if as_ours(error) is not error:
            logger.error("%s of %s broke: %s", stage, track_id or model, failure.reason, exc_info=error)
        label = model if model in self.models else "unknown"
        self.recorder.count(FAILURES, pool=self.pool, model=label, reason=failure.reason)
        return failure


class Rendering:
    """One track on its way: take raw chunks until there are no more, then complete it.

    One thread may call `advance`; once it gives None, `complete` (or `master` and then `publish`) may run in others.
    """

    def __init__(self, renderer: Renderer, job: Job, performance: Performance) -> None:
        self._renderer = renderer
        self._job = job
        self._performance = performance
        self._opening_s, self._opening_cpu_s = job.watch.seconds["generate"], job.watch.cpu_seconds["generate"]
        self._chunks: list[Pcm] = []

    @property
    def track_id(self) -> str:
        """The id that the finished track will have."""
        return self._job.track_id

    @property
    def source_rate_hz(self) -> int:
        """Sampling rate of the raw chunks."""
        return self._job.info.sample_rate_hz

    @property
    def channels(self) -> int:
        """Channels of the raw chunks."""
        return self._job.info.channels

    @property
    def spec(self) -> FinishSpec:
        """What the finished track must be."""
        return self._job.spec

    @property
    def expected_lufs(self) -> float | None:
        """Loudness that the raw audio is expected to have, in LUFS; None when the model cannot say."""
        return self._performance.expected_lufs

    @property
    def is_ready(self) -> bool:
        """Whether `advance` would give at once what was made while another track was worked for."""
        return self._performance.is_ready is not None and self._performance.is_ready()

    @property
    def progress(self) -> float:
        """A figure that grows while its work moves on, by steps of the model and by stages. Any thread may ask."""
        device_s = 0.0 if self._performance.device_s is None else self._performance.device_s()
        return device_s + sum(tuple(self._job.watch.seconds.values()))

    @property
    def device_seconds(self) -> float:
        """Seconds that it has held the device so far. Any thread may ask."""
        self._settle_device_time()
        return self._renderer._device_seconds(self._job)

    def work(self) -> bool:
        """Work until the next chunk of this track, or of one that shares its steps, is there; whether this one's is.

        A track that shares no steps is worked for in `advance`.

        Raises:
            ModelFailed: the model broke on the way.
        """
        if self._performance.work is None:
            return True
        with self._job.watch.stage("generate"), _model_errors(self._job.request.model):
            return self._performance.work()

    def advance(self) -> Pcm | None:
        """The next raw chunk, [samples, channels], not yet mastered; None when the piece is whole.

        Raises:
            ModelFailed: the model broke on the way.
        """
        with self._job.watch.stage("generate"), _model_errors(self._job.request.model):
            chunk = next(self._performance.chunks, None)
        if chunk is not None:
            self._chunks.append(chunk)
        return chunk

    def checkpoint(self) -> bytes | None:
        """Bytes from which `Renderer.open` can go on with this track elsewhere. Any thread may ask.

        None while nothing is worth keeping, and always None where the model cannot go on from anywhere.
        """
        return None if self._performance.checkpoint is None else self._performance.checkpoint()

    def complete(self) -> Track | Failure:
        """Finish, check, encode, store, sign and account for the whole piece."""
        master = self.master()
        return master if isinstance(master, Failure) else self.publish(master)

    def master(self) -> Master | Failure:
        """Finish, check and encode the whole piece."""
        try:
            with _model_errors(self._job.request.model):
                generation = Generation.of(self._performance, self._chunks)
                self._settle_device_time()
        except OrchestrionError as error:
            self._renderer._account(self._job)
            return self._renderer.failed(error, "generate", self.track_id, self._job.request.model)
        finally:
            self._chunks.clear()
        return self._renderer.master(self._job, generation)

    def publish(self, master: Master, retrying: Retry = no_retry) -> Track | Failure:
        """Store, sign and account for what `master` gave."""
        return self._renderer.publish(self._job, master, retrying)

    def close(self) -> None:
        """Give up: free what the model holds for this piece, and account for the work that is lost.

        Raises:
            ModelFailed: the model broke on it. The piece is given up all the same.
        """
        close = getattr(self._performance.chunks, "close", None)
        try:
            with _model_errors(self._job.request.model):
                if close is not None:
                    close()
                self._settle_device_time()
        finally:
            self._chunks.clear()
            self._renderer._account(self._job)

    def _settle_device_time(self) -> None:
        """Where pieces share the device, count this one's share instead of the time it waited for its chunks."""
        if self._performance.device_s is not None:
            device_s = self._performance.device_s()
            self._job.watch.set("generate", self._opening_s + device_s, self._opening_cpu_s + device_s)


def build_renderer(
    config: RenderConfig,
    pool: str = "local",
    recorder: Recorder | None = None,
    node_id: str | None = None,
    prices: PriceTable | None = None,
) -> Renderer:
    """Load the models, open the store, the key and the prices that `config` names.

    Args:
        config: what to load.
        pool: for records and metrics.
        recorder: counts; nothing is counted if nobody says.
        node_id: what the scheduler calls this machine; its host name if there is no scheduler.
        prices: what machines cost; the table that `config` names if nobody says.

    Raises:
        InvalidRequest: a model, node type, market, price table, key or store that cannot be used.
    """
    node = describe_node(config.node_type, config.market, prices or PriceTable.load(config.prices_path), node_id)
    signer = Signer.load(config.signing_key_path)
    trusted = trusted_keys(signer, config.trusted_keys_path)
    logger.info("records are signed with key %s; trusted: %s", signer.key_id, ", ".join(sorted(trusted)))
    clock = SystemClock()
    models = load_models(config.models, config.model_settings(), clock, config.resident_models)
    # What is loaded now lives as long as the process. Left to the garbage collector, looking through it takes 30 to
    # 40 ms, and falls into somebody's first chunk.
    gc.freeze()
    return Renderer(
        models=models,
        store=TrackStore.open(config.store_url, config.storage_options),
        signer=signer,
        node=node,
        pool=pool,
        recorder=Uncounted() if recorder is None else recorder,
        clock=clock,
        trusted_keys=trusted,
    )


def _pass(findings: Sequence[Finding]) -> None:
    if not all(finding.passed for finding in findings):
        raise CheckFailed(findings)


@contextmanager
def _model_errors(model: str) -> Iterator[None]:
    """What a model raises that is not ours becomes `ModelFailed`, or `OutOfMemory`, with its cause in the log."""
    try:
        yield
    except OrchestrionError:
        raise
    except Exception as error:
        logger.exception("model %s failed", model)
        if is_lack_of_memory(error):
            raise as_ours(error) from error
        raise ModelFailed(f"{model} broke while it made this track; the operator's log says how") from error
