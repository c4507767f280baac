"""The flow, one request in and one signed track out: generate → finish → check → encode → store → sign → account.

`Renderer.render` takes one request and gives its outcome; `Renderer.open` gives a `Rendering`, which an executor takes
through the same steps beside others. A streamed track, a synchronous one and a catalog row of the same request are the
same bytes. A failure is a value here, never a missing row: whatever is thrown while a track is made costs that track
alone, and `Renderer.failed` says what it means.
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrion.accounting.cost import Node, PriceTable, cost_usd, describe_node
from orchestrion.audio.encode import FILE_SUFFIXES
from orchestrion.audio.mastering import RECIPE_VERSION
from orchestrion.audio.pcm import Pcm
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import ModelFailed, OnHold, OrchestrionError, Withdrawn, as_ours, is_lack_of_memory
from orchestrion.models.piece_cache import PieceCache
from orchestrion.models.protocol import Conditioning, Generation, MusicModel, Performance, Prepared
from orchestrion.models.registry import load_models
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.pipeline import Pipeline, Work, run
from orchestrion.rendering.record_of import Place, record_of
from orchestrion.rendering.stopwatch import Stopwatch
from orchestrion.rendering.suitability import named_model, refuse_unsuitable
from orchestrion.resilience.store_retry import NOTE, Retry, no_retry
from orchestrion.storage.track_store import TrackStore
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import (
    CACHE_HITS,
    COST_USD,
    DEVICE_SECONDS,
    FAILURES,
    PIECES_REUSED,
    RENDER_SECONDS_PER_AUDIO_SECOND,
    Recorder,
    TolerantRecorder,
    Uncounted,
    model_label,
)
from orchestrion.tracks.identity import piece_id, track_id
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest
from orchestrion.trust.index_entry import IndexEntry, SignedEntry
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import trusted_keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What takes long of opening a track, done beforehand by `Renderer.prepare`."""

    conditioning: Conditioning
    prepared: Prepared | None
    #: What it took, on the clock and on the thread's core; the track is charged for it.
    seconds: float
    cpu_seconds: float


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
        pieces: PieceCache | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        self.models = models
        self.pieces = PieceCache() if pieces is None else pieces
        self.pipeline = Pipeline() if pipeline is None else pipeline
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

    def render(self, request: TrackRequest) -> Track | Failure:
        """One request to its end, in this thread: found in the store, or made."""
        rendering = None
        try:
            found = self.find(request)
            if found is not None:
                self.recorder.count(CACHE_HITS, pool=self.pool, model=request.composition.model)
                return found
            rendering = self.open(request)
            while rendering.advance() is not None:
                pass
            rendering.master()
            return rendering.publish()
        except Exception as error:
            if rendering is None:
                return self.failed(error, "request", self._track_id_if_any(request), request.composition.model)
            return rendering.fail(error)

    def needs_preparing(self, request: TrackRequest) -> bool:
        """Whether opening this track takes so long that another thread should `prepare` it.

        Uploads are read from the store, and models whose tracks share each step encode the words first. A piece that is
        there for another track needs neither.
        """
        composition, model = request.composition, self.models.get(request.composition.model)
        takes_long = composition.theme is not None or composition.continuation is not None or self.shares_steps(request)
        return takes_long and not (model and self.pieces.has(piece_id(composition, model.info.revision)))

    def prepare(self, request: TrackRequest) -> Preparation:
        """Do what takes long of opening a track. Any thread may, also while another one renders. Raises as `open`."""
        model = self._suitable_model(request)
        conditioning = self._conditioning(request)
        watch = Stopwatch(self.clock)
        with watch.stage("generate"), _model_errors(request.composition.model):
            prepared = model.prepare(conditioning)
        return Preparation(conditioning, prepared, watch.seconds["generate"], watch.cpu_seconds["generate"])

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
        model = named_model(request, self.models)
        piece = piece_id(request.composition, model.info.revision)
        work = Work(request, self.track_id(request), piece, model.info, Stopwatch(self.clock))
        run(self.pipeline.admission, work)
        seconds, cpu_seconds = (preparation.seconds, preparation.cpu_seconds) if preparation else (0.0, 0.0)
        work.watch.set("generate", seconds, cpu_seconds)

        def begin() -> Performance:
            made = preparation or Preparation(self._conditioning(request), None, 0.0, 0.0)
            with work.watch.stage("generate"), _model_errors(request.composition.model):
                return model.perform(made.conditioning, interactive=interactive, resume=resume, prepared=made.prepared)

        performance, work.piece_reused = self.pieces.perform(piece, begin)
        if work.piece_reused:
            self.recorder.count(PIECES_REUSED, pool=self.pool, model=request.composition.model)
        return Rendering(self, work, performance)

    def shares_steps(self, request: TrackRequest) -> bool:
        """Whether advancing one open track of the request's model advances all of them."""
        model = self.models.get(request.composition.model)
        return model is not None and model.info.shares_steps

    def find(self, request: TrackRequest) -> Track | None:
        """The track of this request if it is in the store already.

        Raises:
            InvalidRequest: the model is not loaded here, or cannot use a field of the request.
            RightsRefused: the weights' licence forbids the purpose, also for a track that somebody else may have.
            Withdrawn: the track was taken down, or its piece was.
            OnHold: it is made, and a person is to decide about it first.
        """
        model = self._suitable_model(request)
        track_id, piece = self.track_id(request), piece_id(request.composition, model.info.revision)
        try:
            stored = self.tracks.reusable(track_id, piece)
        except Withdrawn:
            self.pieces.forget(piece)
            raise
        return None if stored is None else Track(track_id, stored.record, stored.version, cache_hit=True)

    def track_id(self, request: TrackRequest) -> str:
        """The id of the track that this request gives here.

        Raises:
            InvalidRequest: the model is not loaded here.
        """
        return track_id(request, named_model(request, self.models).info.revision, RECIPE_VERSION)

    def _track_id_if_any(self, request: TrackRequest) -> str | None:
        return self.track_id(request) if request.composition.model in self.models else None

    def _suitable_model(self, request: TrackRequest) -> MusicModel:
        model = named_model(request, self.models)
        refuse_unsuitable(request, model.info)
        return model

    def _conditioning(self, request: TrackRequest) -> Conditioning:
        composition = request.composition
        return Conditioning.of(composition, self._upload(composition.theme), self._upload(composition.continuation))

    def _upload(self, ref: str | None) -> bytes | None:
        return None if ref is None else self.store.theme(ref)

    def account(self, request: TrackRequest, device_seconds: float) -> None:
        """Count what the rendering of a request held of the device."""
        usd = cost_usd(device_seconds, self.node.price_usd_per_device_hour)
        labels = {"pool": self.pool, "model": request.composition.model}
        self.recorder.count(DEVICE_SECONDS, device_seconds, **labels, market=self.node.market)
        self.recorder.count(COST_USD, usd, **labels, market=self.node.market)
        self.recorder.observe(
            RENDER_SECONDS_PER_AUDIO_SECOND, device_seconds / request.composition.duration_s, **labels
        )

    def failed(self, error: Exception, stage: str, track_id: str | None, model: str) -> Failure:
        """The failure that `error`, whatever it is, means: counted, and in the log if nobody raised it on purpose."""
        failure = Failure.of(error, stage, track_id)
        if as_ours(error) is not error:
            logger.error("%s of %s broke: %s", stage, track_id or model, failure.code, exc_info=error)
        self.recorder.count(FAILURES, pool=self.pool, model=model_label(model, self.models), reason=failure.code)
        return failure


class Rendering:
    """One track on its way: take raw chunks until there are no more, then `master`, then `publish`.

    One thread may call `work`, `advance` and `close`; once `advance` gives None, `master` and then `publish` may run in
    others. Whatever one of them raises ends the rendering: then call `fail`, which accounts for the work that is lost.
    """

    def __init__(self, renderer: Renderer, work: Work, performance: Performance) -> None:
        self._renderer = renderer
        self._performance = performance
        self._work = work
        self._watch = work.watch
        self._opening_s = work.watch.seconds["generate"]
        self._opening_cpu_s = work.watch.cpu_seconds["generate"]
        self._chunks: list[Pcm] = []
        self._is_accounted = False
        self.request = work.request
        #: The id that the finished track will have.
        self.track_id = work.track_id
        self.info = work.info
        #: What the finished track must be.
        self.spec = work.spec

    @property
    def source_rate_hz(self) -> int:
        """Sampling rate of the raw chunks."""
        return self.info.sample_rate_hz

    @property
    def channels(self) -> int:
        """Channels of the raw chunks."""
        return self.info.channels

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
        return device_s + sum(tuple(self._watch.seconds.values()))

    @property
    def device_seconds(self) -> float:
        """Seconds that it has held the device so far. Any thread may ask.

        A GPU is free for the next track while the CPU finishes this one. Of a core, CPU time: while one thread waits
        for the store or for its turn, the core is another's.
        """
        self._settle_device_time()
        return self._held_s()

    def _held_s(self) -> float:
        if self._renderer.node.device == "gpu":
            return self._watch.seconds.get("generate", 0.0)
        return sum(self._watch.cpu_seconds.values())

    # ---- the model ---------------------------------------------------------------------------------------------

    def work(self) -> bool:
        """Work until the next chunk of this track, or of one that shares its steps, is there; whether this one's is.

        A track that shares no steps is worked for in `advance`.

        Raises:
            ModelFailed: the model broke on the way.
        """
        if self._performance.work is None:
            return True
        with self._watch.stage("generate"), _model_errors(self.request.composition.model):
            return self._performance.work()

    def advance(self) -> Pcm | None:
        """The next raw chunk, [samples, channels], not yet mastered; None when the piece is whole.

        Raises:
            ModelFailed: the model broke on the way.
        """
        with self._watch.stage("generate"), _model_errors(self.request.composition.model):
            chunk = next(self._performance.chunks, None)
        if chunk is not None:
            self._chunks.append(chunk)
        return chunk

    def checkpoint(self) -> bytes | None:
        """Bytes from which `Renderer.open` can go on with this track elsewhere. Any thread may ask.

        None while nothing is worth keeping, and always None where the model cannot go on from anywhere.
        """
        return None if self._performance.checkpoint is None else self._performance.checkpoint()

    def close(self) -> None:
        """Give up: free what the model holds for this piece, and account for the work that is lost.

        Raises:
            ModelFailed: the model broke on it. The piece is given up all the same.
        """
        close = getattr(self._performance.chunks, "close", None)
        try:
            with _model_errors(self.request.composition.model):
                if close is not None:
                    close()
                self._settle_device_time()
        finally:
            self._chunks.clear()
            self._account()

    # ---- the whole piece ---------------------------------------------------------------------------------------

    def master(self) -> None:
        """Finish, check and encode the whole piece: what takes a core.

        Raises:
            ModelFailed: the model broke on its score.
            CheckFailed: the audio did not pass; nothing is stored. Another stage may refuse it with another error.
        """
        work = self._work
        try:
            with _model_errors(self.request.composition.model):
                generation = Generation.of(self._performance, self._chunks)
            self._settle_device_time()
        finally:
            self._chunks.clear()
        work.raw, work.midi, work.choices = generation.audio, generation.midi, generation.choices
        del generation
        run(self._renderer.pipeline.finishing, work)

    def publish(self, retrying: Retry = no_retry) -> Track | Failure:
        """Store, sign and account for the mastered piece: what waits for the store, as long as `retrying` does.

        Returns:
            The track; the failure `on-hold` where it is stored, and a stage wants a person to decide about it first.

        Raises:
            Withdrawn: the track was taken down meanwhile, or its piece was.
            StoreUnavailable: the store did not take it.
        """
        tracks, signer = self._renderer.tracks, self._renderer.signer
        with self._watch.stage("store"):
            audio_key, midi_key = retrying(self._put, size=len(self._work.data) + len(self._work.midi or b""))
        place = Place(self._renderer.node, self._renderer.pool, audio_key, midi_key)
        record = record_of(self._work, self._held_s(), place)
        version = retrying(
            lambda: tracks.publish(
                self.track_id, lambda version: signer.sign(replace(record, version=version)).to_bytes()
            ),
            size=NOTE,
        )
        self._account()
        # A listener may keep the rendering for as long as it reads the answer.
        self._work.data, self._work.midi = b"", None
        if record.is_held:
            return self.fail(OnHold.of(self.track_id))
        return Track(self.track_id, replace(record, version=version), version, cache_hit=False)

    def _put(self) -> tuple[str, str | None]:
        """Put audio and MIDI into the store, unless the track or its piece was taken down; their keys."""
        renderer, work, composition = self._renderer, self._work, self.request.composition
        blobs = [(work.data, FILE_SUFFIXES[self.request.delivery.format])]
        if work.midi:
            blobs.append((work.midi, ".mid"))
        entry = IndexEntry(
            track_id=self.track_id,
            piece_id=work.piece_id,
            prompt_sha256=hashlib.sha256(composition.prompt.encode()).hexdigest(),
            model_revision=self.info.revision,
            theme=composition.theme,
            continuation=composition.continuation,
            blobs=tuple(renderer.store.key_of(data, suffix) for data, suffix in blobs),
        )
        renderer.tracks.announce(SignedEntry.sign(entry, renderer.signer))
        audio_key, *midi_key = (renderer.store.put_blob(data, suffix) for data, suffix in blobs)
        return audio_key, midi_key[0] if midi_key else None

    # ---- its end -----------------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> Failure:
        """What `error`, whatever it is, means to those who wait for the track: counted, logged and accounted for."""
        self._account()
        if isinstance(error, Withdrawn):
            self._renderer.pieces.forget(self._work.piece_id)
        return self._renderer.failed(error, self._watch.stage_now, self.track_id, self.request.composition.model)

    def _account(self) -> None:
        """Count what it held of the device, whether a track came of it or not: once."""
        if self._is_accounted:
            return
        self._is_accounted = True
        try:
            self._renderer.account(self.request, self._held_s())
        except Exception:
            # A model that does not know its own device time, for example. It is no reason to lose an answer.
            logger.exception("what %s held of the device could not be counted", self.track_id)

    def _settle_device_time(self) -> None:
        """Where pieces share the device, count this one's share instead of the time it waited for its chunks."""
        if self._performance.device_s is not None:
            device_s = self._performance.device_s()
            self._watch.set("generate", self._opening_s + device_s, self._opening_cpu_s + device_s)


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
        pieces=PieceCache(config.piece_cache_mib << 20),
    )


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
