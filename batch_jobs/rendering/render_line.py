"""What keeps a render process busy: requests go in from several shards at once, tries come out as they end.

look up → open → advance → master → publish: while the model makes the next piece, finished ones are uploaded and, where
the process has a core for it, mastered. While the store is away they wait for it, and soon the model waits for them.
There are no batches: a model whose pieces share their steps is given as many as it has slots, and the next one the
moment a slot is free, whichever shard it is from.

Whatever a step throws is the failure of its piece and of no other, and no thread ends for it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from batch_jobs.ledger.tables import FAILED, KEPT, STOPPED, TRACK
from orchestrion.clock import Clock
from orchestrion.errors import REASONS, ModelFailed, OutOfMemory, StoreUnavailable
from orchestrion.resilience.store_retry import StoreRetry
from orchestrion.tracks.outcome import Failure, Track
from orchestrion.tracks.request import TrackRequest

if TYPE_CHECKING:
    from orchestrion.rendering.renderer import Master, Renderer, Rendering

logger = logging.getLogger(__name__)

#: Threads that ask the store whether a track is there already, so that the model never waits for the answer.
LOOK_UPS: Final = 2
#: Pieces beyond the slots that are opened early: their prompts are read while others are still being made.
OPEN_AHEAD: Final = 1
#: Threads that store what is mastered: they wait for the store, and for little else.
UPLOADS: Final = 2
#: Whole pieces that may wait for mastering and uploading before the model waits for them: each is held in memory.
MAX_COMPLETING: Final = 4
#: What has been made of a piece is kept so often, where its model can go on from it: what a sudden death may cost.
KEEP_EVERY_S: Final = 15.0


class Partials(Protocol):
    """Where codes of unfinished pieces are kept; `partial_pieces.PartialPieces` is one."""

    def partial(self, track_id: str, /) -> bytes | None: ...  # noqa: D102
    def keep_partial(self, track_id: str, checkpoint: bytes, /) -> None: ...  # noqa: D102
    def drop_partial(self, track_id: str, /) -> None: ...  # noqa: D102


@dataclass(eq=False, slots=True)
class Try:
    """One try of one request. `outcome` is done with None when the line was stopped before there was one."""

    request: TrackRequest
    track_id: str
    outcome: Future[Track | Failure | None] = field(default_factory=Future)
    #: Both None for a track that was there already, and for a try that was never begun.
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: How it ended, of `tables.ENDINGS`; None before that.
    ended: str | None = None
    #: Whether a part of it is among the partial pieces.
    kept: bool = False
    kept_at_s: float = 0.0
    rendering: Rendering | None = None
    #: Whether its model makes several pieces at once; known once it was looked up.
    shares_steps: bool = False
    _known_device_seconds: float = 0.0

    @property
    def device_seconds(self) -> float:
        """Seconds of the device so far; what was known last where the model cannot say. Any thread may ask."""
        if self.rendering is not None:
            try:
                seconds = self.rendering.device_seconds
            except Exception:
                logger.exception("%s: its model does not say what it has held of the device", self.track_id)
            else:
                if math.isfinite(seconds) and seconds >= 0.0:
                    self._known_device_seconds = seconds
        return self._known_device_seconds


class RenderLine:
    """One renderer and the threads around it. Threads may submit at any time."""

    def __init__(
        self,
        renderer: Renderer,
        partials: Partials,
        *,
        slots: int,
        mastering_threads: int,
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        """A running line.

        Args:
            renderer: its models are used by one thread of the line only.
            partials: where unfinished pieces are kept and looked for.
            slots: pieces that a model with shared steps makes at once.
            mastering_threads: that master and encode beside the model. 0: the model's own thread does it, where both
                have one core between them. Two threads on one core take more of it than one, handing each other the
                interpreter.
            clock: for the moments of tries and of stopping.
            sleep: waits for the store.
        """
        self._renderer = renderer
        self._partials = partials
        self._slots = slots
        self._clock = clock
        self._reading = StoreRetry(clock, sleep, lambda: self.is_over)
        self._writing = StoreRetry(clock, sleep, lambda: self.is_over)
        self._look_ups = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="look-up")
        self._mastering: ThreadPoolExecutor | None = None
        if mastering_threads:
            self._mastering = ThreadPoolExecutor(mastering_threads, thread_name_prefix="master")
        self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
        self._room_to_complete = threading.Semaphore(MAX_COMPLETING)
        self._changed = threading.Condition()
        # All below is changed under `_changed`; `_open` by the generating thread alone.
        self._ready: deque[Try] = deque()
        self._open: list[Try] = []
        self._stop_at_s: float | None = None
        self._closed = False
        #: What ended the generating thread before its time.
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
        self._thread.start()

    def submit(self, request: TrackRequest, track_id: str) -> Try:
        """Have one request rendered, or found; its outcome comes by itself.

        The outcome raises only what is to end the process (KeyboardInterrupt, SystemExit), and what ended the line.
        """
        one = Try(request, track_id)
        with self._changed:
            if self._stop_at_s is not None:
                one.outcome.set_result(None)
                return one
        self._look_ups.submit(self._guarded, one, "request", self._look_up)
        return one

    @property
    def is_stopped(self) -> bool:
        """Whether nothing new is begun."""
        return self._stop_at_s is not None

    @property
    def is_over(self) -> bool:
        """Whether the line is stopped, and the time for what was open is over too."""
        return self._stop_at_s is not None and self._clock.monotonic_s() >= self._stop_at_s

    @property
    def store_is_lost(self) -> bool:
        """Whether the store has answered nobody for so long that nobody waits for it any more."""
        return self._reading.is_lost or self._writing.is_lost

    def stop(self, within_s: float) -> None:
        """Begin nothing new; what is open may go on for `within_s`, then it is kept for others as far as it is."""
        with self._changed:
            stop_at_s = self._clock.monotonic_s() + within_s
            self._stop_at_s = stop_at_s if self._stop_at_s is None else min(self._stop_at_s, stop_at_s)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop at once and end the threads."""
        self.stop(0.0)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._look_ups.shutdown()
        if self._mastering is not None:
            self._mastering.shutdown()
        self._uploads.shutdown()

    # ---- before the model --------------------------------------------------------------------------------------

    def _look_up(self, one: Try) -> None:
        found = self._reading(lambda: self._renderer.find(one.request))
        if found is not None:
            self._settle(one, found)
            return
        one.shares_steps = self._renderer.shares_steps(one.request)
        with self._changed:
            if self._ended_by is not None:
                raise self._ended_by
            self._ready.append(one)
            self._changed.notify_all()

    # ---- the model ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._generate()
        except BaseException as error:
            # Nobody generates any more: whoever waits, and whoever comes, is told.
            with self._changed:
                self._ended_by = error
                waiting = [*self._open, *self._ready]
                self._open.clear()
                self._ready.clear()
            for one in waiting:
                _raise_in(one, error)
            raise

    def _generate(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._open or self._ready or self._closed)
                if self._closed and not self._open and not self._ready:
                    return
                stopping = self._stop_at_s is not None
                over = self.is_over
                unbegun = list(self._ready) if stopping else []
                if stopping:
                    self._ready.clear()
            for one in unbegun:
                self._settle(one, None)
            if over:
                for one in list(self._open):
                    self._guarded(one, "generate", self._give_up)
                continue
            while (begun := self._next_to_open()) is not None:
                self._guarded(begun, "request", self._begin)
            if self._open:
                # In turn: of models that share their steps, a turn for one moves all of them.
                one = self._open.pop(0)
                self._open.append(one)
                self._guarded(one, "generate", self._advance)

    def _next_to_open(self) -> Try | None:
        with self._changed:
            if not self._ready:
                return None
            room = self._slots + OPEN_AHEAD if self._ready[0].shares_steps else 1
            return self._ready.popleft() if len(self._open) < room else None

    def _begin(self, one: Try) -> None:
        one.started_at = self._clock.now()
        # Only models with shared steps keep parts of a piece.
        resume = self._reading(lambda: self._partials.partial(one.track_id)) if one.shares_steps else None
        try:
            one.rendering = self._reading(lambda: self._renderer.open(one.request, interactive=False, resume=resume))
        except (ModelFailed, OutOfMemory) as error:
            self._fail(one, error, "generate")
            return
        one.kept = resume is not None
        one.kept_at_s = self._clock.monotonic_s()
        self._open.append(one)

    def _advance(self, one: Try) -> None:
        if _opened(one).advance() is not None:
            if self._clock.monotonic_s() - one.kept_at_s >= KEEP_EVERY_S:
                self._keep(one)
            return
        self._open.remove(one)
        self._room_to_complete.acquire()
        one.outcome.add_done_callback(lambda _: self._room_to_complete.release())
        if self._mastering is not None:
            self._mastering.submit(self._guarded, one, "finish", self._master)
        else:
            self._guarded(one, "finish", self._master)

    def _give_up(self, one: Try) -> None:
        """The time is over: keep what there is of this piece, for whoever makes the rest."""
        one.ended = KEPT if self._keep(one) else STOPPED
        self._leave_model(one)
        self._settle(one, None)

    def _keep(self, one: Try) -> bool:
        """Keep what there is of an open piece; whether there is anything, and it could be kept."""
        one.kept_at_s = self._clock.monotonic_s()
        try:
            checkpoint = _opened(one).checkpoint()
            if checkpoint is None:
                return False
            self._partials.keep_partial(one.track_id, checkpoint)
        except Exception:
            logger.warning("%s: what was made of it could not be kept", one.track_id, exc_info=True)
            return False
        one.kept = True
        return True

    def _leave_model(self, one: Try) -> None:
        """Have the model forget a piece that is open. Only the generating thread uses the model."""
        self._open.remove(one)
        try:
            _opened(one).close()
        except Exception:
            logger.exception("%s: closing it broke", one.track_id)

    # ---- after the model ---------------------------------------------------------------------------------------

    def _master(self, one: Try) -> None:
        master = _opened(one).master()
        if isinstance(master, Failure):
            self._settle(one, master)
        else:
            self._uploads.submit(self._guarded, one, "store", partial(self._publish, master=master))

    def _publish(self, one: Try, master: Master) -> None:
        outcome = _opened(one).publish(master, self._writing)
        if one.kept and isinstance(outcome, Track):
            self._forget_parts(one)
        self._settle(one, outcome)

    def _forget_parts(self, one: Try) -> None:
        try:
            self._writing(lambda: self._partials.drop_partial(one.track_id))
        except Exception:
            # It is in nobody's way: the track is there, and nobody asks for its parts.
            logger.warning("%s: its partial piece could not be deleted", one.track_id, exc_info=True)

    def _settle(self, one: Try, outcome: Track | Failure | None) -> None:
        if isinstance(outcome, Failure) and outcome.reason == REASONS[StoreUnavailable] and self.is_over:
            # It was not waited for to the end: somebody else will find the store again.
            outcome = None
            one.ended = STOPPED if one.started_at is not None else None
        if one.started_at is not None:
            one.ended_at = self._clock.now()
            if outcome is not None:
                one.ended = TRACK if isinstance(outcome, Track) else FAILED
        if not one.outcome.done():
            one.outcome.set_result(outcome)

    def _guarded(self, one: Try, stage: str, step: Callable[[Try], None]) -> None:
        """Whatever the step throws ends this try and no other. What is to end the process ends its caller, too."""
        try:
            step(one)
        except Exception as error:
            self._fail(one, error, stage)
        except BaseException as error:
            _raise_in(one, error)
            raise

    def _fail(self, one: Try, error: Exception, stage: str) -> None:
        if one in self._open and threading.current_thread() is self._thread:
            self._leave_model(one)
        self._settle(one, self._renderer.failed(error, stage, one.track_id, one.request.model))


def _raise_in(one: Try, error: BaseException) -> None:
    """Have whoever waits for this try raise it."""
    if not one.outcome.done():
        one.outcome.set_exception(error)


def _opened(one: Try) -> Rendering:
    if one.rendering is None:
        raise RuntimeError(f"{one.track_id} was not opened")
    return one.rendering
