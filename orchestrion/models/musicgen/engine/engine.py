"""Continuous batching: pieces join and leave the decoder's slots at any step, and their audio streams out meanwhile.

`Engine.step` reads top to bottom: collect audio → admit → plan → run the decoder → take the codes → hand frames to the
codec. Nothing in it changes what a piece sounds like: scheduling, lack of memory and other pieces only change when it
is ready. A piece can lose its slot or its codec state at any moment; its codes are kept, and feeding them again gives
the same bits.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from orchestrion.audio.pcm import Pcm
from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest, ModelFailed
from orchestrion.models.musicgen.codec.codec import Codec, DecodeStream
from orchestrion.models.musicgen.decoder.decoder import Condition, Decoder, Draws, Floats, Ints, Rows
from orchestrion.models.musicgen.engine.scheduler import (
    LAST_TRIES,
    TEXT_STATES_BESIDE_DECODING,
    Capacity,
    DuePiece,
    SlotState,
    after_shortage,
    after_success,
    choose_victim,
    plan_codec,
    plan_step,
    share_of_chunk,
)
from orchestrion.models.musicgen.engine.sequence import Sequence as CodeSequence
from orchestrion.models.musicgen.engine.sequence import Window

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY: Final = (MemoryError, torch.OutOfMemoryError)
_NO_SLOT: Final = -1


@dataclass(frozen=True, slots=True)
class Pacing:
    """How audio is cut. It decides when a listener gets what, never what it is."""

    #: Frames of the first chunk: as few as are worth sending.
    first_chunk_frames: int = 10
    #: Frames of a chunk once the piece runs; chunks double up to that. Beside others a piece's are shorter.
    chunk_frames: int = 50
    #: A piece that is so many frames ahead of what was taken of it rests, unless another one waits for its slot.
    max_ahead_frames: int = 1500


@dataclass(eq=False, slots=True)
class Piece:
    """One request in the engine, from `submit` to its last chunk. Everything but `request` is the engine's own."""

    sequence: CodeSequence
    condition: Callable[[Window], Condition]
    samples: int
    seed: int
    temperature: float
    top_k: int
    top_p: float
    interactive: bool
    slot: int = _NO_SLOT
    prefix_columns: int = 0
    passed_over: int = 0
    stream: DecodeStream | None = None
    pushed_frames: int = 0
    next_chunk_frames: int = 0
    #: Samples that came out of the codec since it last began this piece, and samples that were given on.
    decoded_samples: int = 0
    given_samples: int = 0
    #: Frames that the codec works on just now; none while it works on others.
    frames_in_codec: int = 0
    #: The codec's batch that it was last in; 0 for a piece that was not heard yet.
    last_batch: int = 0
    #: Up to here it comes to the codec alone, because a batch that went so far has broken.
    suspect_frames: int = 0
    #: Times in a row that the codec found no memory for it.
    codec_shortages: int = 0
    chunks: deque[Pcm] = field(default_factory=deque)
    #: Seconds of the device that this piece used: its share of every step and of every codec batch it was in.
    device_s: float = 0.0
    failure: ModelFailed | InvalidRequest | None = None
    is_over: bool = False

    @property
    def ready_frames(self) -> int:
        """Frames that the codec could be given now."""
        return self.sequence.ready_frames - self.pushed_frames

    @property
    def is_ready(self) -> bool:
        """Whether its next chunk, its end or its failure can be taken."""
        return bool(self.chunks) or self.is_over

    @property
    def is_suspect(self) -> bool:
        """Whether the codec is to have it alone."""
        return self.pushed_frames < self.suspect_frames

    def untaken_frames(self, hop: int) -> int:
        """Frames drawn that were not taken as audio yet."""
        return self.sequence.ready_frames - (self.given_samples - sum(map(len, self.chunks))) // hop


class Engine:
    """One loaded model: its decoder, its codec, and every piece in progress. Used by one thread at a time."""

    def __init__(
        self,
        decoder: Decoder,
        codec: Codec,
        *,
        codec_streams: int,
        codec_thread: Executor,
        hop: int,
        pacing: Pacing,
        clock: Clock,
    ) -> None:
        """An engine without pieces.

        Args:
            decoder: its `slots` are how many pieces are decoded at the same time.
            codec: used by one thread at a time.
            codec_streams: streams that the codec can have open; at least `decoder.slots`.
            codec_thread: where the codec works, one thread, so that the decoder does not wait for it.
            hop: samples per frame.
            pacing: sizes of chunks.
            clock: for the shares of device time.
        """
        self._decoder = decoder
        self._codec = codec
        self._free_streams = codec_streams
        self._hop = hop
        self._pacing = pacing
        self._clock = clock
        self._full = self._capacity = Capacity(decoder.slots, decoder.max_rows)
        self._codec_batch = self._full_codec_batch = codec_streams
        self._free_slots = list(range(decoder.slots))
        self._waiting: deque[Piece] = deque()
        self._occupied: list[Piece] = []  # In order of arrival.
        self._draining: list[Piece] = []  # All codes drawn, audio not yet.
        self._codec_thread = codec_thread
        #: Pieces that this step took out of it, because they failed or for want of memory.
        self._set_aside = 0
        #: Pieces of a step that broke, each to be stepped alone: the one that breaks that step too has broken both.
        self._suspects: list[Piece] = []
        self._in_codec: list[Piece] = []
        self._codec_batches = 0
        #: Counts the chunks that became ready, and the pieces that are over.
        self._news = 0
        self._newcomers_turn = True
        self._codec_call: Future[tuple[list[Pcm], float]] | None = None

    @property
    def _first_chunk_frames(self) -> int:
        """Frames that the codec needs to give a first chunk."""
        return self._pacing.first_chunk_frames + self._codec.look_ahead_frames

    @property
    def active(self) -> int:
        """Pieces that are in slots, wait for one, or whose audio is still being made."""
        return len(self._occupied) + len(self._waiting) + len(self._draining)

    def submit(self, piece: Piece) -> None:
        """Put a piece in the line for a slot."""
        piece.next_chunk_frames = self._first_chunk_frames
        self._waiting.append(piece)

    def cancel(self, piece: Piece) -> None:
        """Give a piece up: its slot is free for the very next step."""
        if not piece.is_over:
            self._retire(piece)

    def next_chunk(self, piece: Piece) -> Pcm | None:
        """The piece's next audio, stepping all pieces until it is there: [samples, channels]; None at the end.

        Raises:
            ModelFailed, InvalidRequest: this piece cannot be made.
        """
        while not piece.is_ready:
            self._step_or_wait()
        if piece.chunks:
            return piece.chunks.popleft()
        if piece.failure is not None:
            raise piece.failure
        return None

    def work_for(self, piece: Piece) -> bool:
        """Step all pieces until one has news; whether this one has, so that `next_chunk` does not step."""
        seen = self._news
        while not piece.is_ready and self._news == seen:
            self._step_or_wait()
        return piece.is_ready

    def _step_or_wait(self) -> None:
        if not self.step():
            self._wait_for_codec()

    def step(self) -> bool:
        """Advance every piece that can be advanced; False when all that is left to do is waiting for the codec."""
        self._set_aside = 0
        collected = self._collect_audio()
        self._admit()
        stepping = next(([one] for one in self._suspects if self._state(one).pending), self._occupied)
        counts = plan_step([self._state(piece) for piece in stepping], self._capacity.rows)
        planned = [(piece, count) for piece, count in zip(stepping, counts, strict=True) if count]
        for piece, count in zip(stepping, counts, strict=True):
            piece.passed_over = 0 if count else piece.passed_over + 1
        if planned:
            self._run(planned)
        self._hand_to_codec()
        return collected or bool(planned) or bool(self._set_aside)

    def close(self) -> None:
        """Give up every piece in progress and wait for the codec."""
        for piece in [*self._occupied, *self._waiting, *self._draining]:
            self._retire(piece)
        if self._codec_call is not None:
            self._wait_for_codec()

    # ---- slots -------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        text_states = 0
        while self._waiting and self._free_slots and len(self._occupied) < self._capacity.slots:
            if text_states >= TEXT_STATES_BESIDE_DECODING:
                return
            piece = min(self._waiting, key=lambda one: not one.interactive)  # The first of the most urgent.
            if piece.stream is None and not self._open_stream(piece):
                return
            self._waiting.remove(piece)
            if piece.sequence.is_done:  # Every code was drawn elsewhere; only the audio is to be made.
                self._draining.append(piece)
                continue
            piece.slot = self._free_slots.pop()
            self._occupied.append(piece)
            text_states += self._bind(piece)

    def _bind(self, piece: Piece) -> int:
        """Let the decoder begin the piece's present window, or begin it again; the text states that this took."""
        piece.sequence.restart()
        try:
            condition = piece.condition(piece.sequence.window)
            piece.prefix_columns = condition.prefix_columns
            self._decoder.bind(piece.slot, condition)
        except _OUT_OF_MEMORY:
            self._begin_later(piece)
            return 0
        except Exception as error:
            # Whatever it is, it is about this piece and not about the one whose chunk is waited for.
            self._fail(piece, _failure("beginning this piece", error))
            return 0
        return condition.text_states

    def _begin_later(self, piece: Piece) -> None:
        """There is no room to begin its window: with fewer pieces in slots there will be."""
        self._set_aside += 1
        shrunk = after_shortage(self._capacity, len(self._occupied), planned_rows=0)
        logger.warning("no memory to begin a piece beside %d; going on with %s", len(self._occupied) - 1, shrunk)
        if shrunk is None:
            self._fail(piece, ModelFailed("the device has no memory for even one piece"))
            return
        self._capacity = shrunk
        self._leave_slot(piece)
        self._waiting.appendleft(piece)

    def _leave_slot(self, piece: Piece) -> None:
        self._occupied.remove(piece)
        if piece in self._suspects:
            self._suspects.remove(piece)
        self._free_slots.append(piece.slot)
        piece.slot = _NO_SLOT

    def _state(self, piece: Piece) -> SlotState:
        # While another piece waits for its slot it goes on to its end instead: the other's chunks may be wanted first.
        rests = not self._waiting and piece.untaken_frames(self._hop) > self._pacing.max_ahead_frames
        pending = 0 if rests else piece.sequence.pending(piece.prefix_columns)
        return SlotState(pending, piece.interactive, piece.passed_over)

    # ---- the decoder -------------------------------------------------------------------------------------------

    def _run(self, planned: list[tuple[Piece, int]]) -> None:
        """One decoder step for these pieces and as many of their pending columns."""
        drawing = [piece for piece, count in planned if count == piece.sequence.pending(piece.prefix_columns)]
        started_s = self._clock.monotonic_s()
        try:
            tokens = self._decoder.step(_rows(planned, drawing), _draws(drawing))
        except _OUT_OF_MEMORY:
            self._give_way(planned)
            return
        except Exception as error:
            self._find_culprit([piece for piece, _ in planned], error)
            return
        step_s = self._clock.monotonic_s() - started_s
        rows = sum(count for _, count in planned)
        for piece, count in planned:
            piece.device_s += step_s * count / rows
            piece.sequence.fed(count)
        least: Ints = tokens.min(axis=1)  # -1 where the logits were no numbers.
        for piece, drawn, lowest in zip(drawing, tokens, least, strict=True):
            if piece in self._suspects:
                self._suspects.remove(piece)
            if lowest >= 0:
                self._take(piece, drawn)
            else:
                self._fail(piece, ModelFailed("the model's logits are not numbers: weights or precision are broken"))
        self._capacity = after_success(self._capacity, self._full)

    def _find_culprit(self, pieces: list[Piece], error: Exception) -> None:
        """A step broke. Of several pieces in it each is begun again and stepped alone, until one breaks alone."""
        if len(pieces) == 1:
            self._fail(pieces[0], _failure("a step of this piece", error))
            return
        logger.warning("a step of %d pieces broke; stepping them one by one: %r", len(pieces), error)
        self._suspects = pieces
        for piece in list(pieces):
            self._bind(piece)

    def _take(self, piece: Piece, tokens: Ints) -> None:
        if piece.sequence.accept(tokens):
            if piece.sequence.is_done:
                self._leave_slot(piece)
                self._draining.append(piece)
            else:
                self._bind(piece)

    def _give_way(self, planned: list[tuple[Piece, int]]) -> None:
        """The device had no room for this step: shrink, and begin the windows of the pieces in it again."""
        rows = sum(count for _, count in planned)
        shrunk = after_shortage(self._capacity, len(planned), rows)
        logger.warning("no memory for a step of %d rows in %d slots; going on with %s", rows, len(planned), shrunk)
        if shrunk is None:
            self._fail(planned[0][0], ModelFailed("the device has no memory for even one piece"))
            return
        self._capacity = shrunk
        while len(self._occupied) > shrunk.slots:
            states = [replace(self._state(one), to_go=one.sequence.columns_to_go) for one in self._occupied]
            piece = self._occupied[choose_victim(states)]
            self._leave_slot(piece)
            self._waiting.appendleft(piece)
        for piece, _ in planned:
            if piece.slot != _NO_SLOT:
                self._bind(piece)

    # ---- the codec ---------------------------------------------------------------------------------------------

    def _open_stream(self, piece: Piece) -> bool:
        if not self._free_streams:
            return False
        piece.stream = self._codec.open()
        self._free_streams -= 1
        return True

    def _close_stream(self, piece: Piece) -> None:
        """Free the piece's codec state, unless the codec is at it: then `_collect_audio` does."""
        if piece.stream is not None and not piece.frames_in_codec:
            piece.stream.close()
            piece.stream = None
            self._free_streams += 1

    def _hand_to_codec(self) -> None:
        """Give the codec its next batch if it has none: of those with a chunk's worth of frames, or with their last."""
        if self._codec_call is not None:
            return
        pieces = [*self._draining, *self._occupied]
        somebody_waits = any(piece.interactive for piece in [*pieces, *self._waiting])
        share = self._pacing.chunk_frames
        if somebody_waits and self._codec.is_seamless:
            share = share_of_chunk(len(pieces), share, least_frames=self._first_chunk_frames)
        due = [piece for piece in pieces if self._is_due(piece, share)]
        if not due:
            return
        states = [self._due_piece(piece, share) for piece in due]
        chosen = plan_codec(
            states,
            most_pieces=self._codec_batch,
            most_frames=self._codec.frames_at_once if somebody_waits else sys.maxsize,
            newcomers_turn=self._newcomers_turn,
        )
        self._in_codec = [due[index] for index in chosen]
        self._newcomers_turn = self._in_codec[0].last_batch > 0
        self._codec_batches += 1
        items = [self._next_frames(due[index], states[index].frames) for index in chosen]
        self._codec_call = self._codec_thread.submit(self._decode, items)

    def _due_piece(self, piece: Piece, share: int) -> DuePiece:
        passed_over = self._codec_batches - piece.last_batch if piece.last_batch else None
        # What was given on before is only made again, so a short chunk of it would bring no audio sooner.
        is_behind = piece.decoded_samples < piece.given_samples
        longest = self._pacing.chunk_frames if is_behind else share
        return DuePiece(min(piece.ready_frames, longest), passed_over, piece.is_suspect)

    def _next_frames(self, piece: Piece, frames: int) -> tuple[DecodeStream, Ints, bool]:
        if piece.stream is None:
            raise RuntimeError("a piece without a codec stream was handed to the codec")
        begin = piece.pushed_frames
        end = begin + frames
        piece.frames_in_codec, piece.last_batch = end - begin, self._codec_batches
        piece.pushed_frames = end
        piece.next_chunk_frames = min(2 * piece.next_chunk_frames, self._pacing.chunk_frames)
        return piece.stream, piece.sequence.codes[:, begin:end].copy(), end == piece.sequence.total_frames

    def _is_due(self, piece: Piece, share: int) -> bool:
        waits_for_more = piece.ready_frames < min(piece.next_chunk_frames, share) and not piece.sequence.is_done
        return piece.stream is not None and piece.ready_frames > 0 and not waits_for_more

    def _decode(self, items: Sequence[tuple[DecodeStream, Ints, bool]]) -> tuple[list[Pcm], float]:
        """In the codec's thread: the audio, and the seconds it took."""
        started_s = self._clock.monotonic_s()
        return self._codec.push(items), self._clock.monotonic_s() - started_s

    def _wait_for_codec(self) -> None:
        if self._codec_call is None:
            raise RuntimeError("a piece is not over, and there is nothing left to do for it")
        self._codec_call.exception()
        self._collect_audio()

    def _collect_audio(self) -> bool:
        """Take what the codec has finished; whether it has."""
        if self._codec_call is None or not self._codec_call.done():
            return False
        call, pieces = self._codec_call, self._in_codec
        self._codec_call, self._in_codec = None, []
        shares = [piece.frames_in_codec for piece in pieces]
        for piece in pieces:
            piece.frames_in_codec = 0
        error = call.exception()
        if error is not None:
            self._codec_broke(pieces, error)
            return True
        self._codec_batch = min(self._full_codec_batch, self._codec_batch + 1)
        chunks, codec_s = call.result()
        for piece, frames, chunk in zip(pieces, shares, chunks, strict=True):
            piece.device_s += codec_s * frames / sum(shares)
            self._give_on(piece, chunk)
        return True

    def _give_on(self, piece: Piece, chunk: Pcm) -> None:
        if piece.is_over:  # Cancelled while the codec was at it.
            self._close_stream(piece)
            return
        piece.codec_shortages = 0
        begin, end = piece.decoded_samples, min(piece.decoded_samples + len(chunk), piece.samples)
        piece.decoded_samples += len(chunk)
        # After a fresh start of the codec, what was given on before comes again and is dropped.
        fresh = chunk[max(begin, piece.given_samples) - begin : max(end - begin, 0)]
        if len(fresh):
            piece.chunks.append(fresh)
            self._news += 1
            piece.given_samples += len(fresh)
        if piece.sequence.is_done and piece.pushed_frames == piece.sequence.total_frames:
            self._retire(piece)

    def _codec_broke(self, pieces: list[Piece], error: BaseException) -> None:
        """Begin the audio of these pieces again: fewer at a time if it was memory, else one by one to find who it was.

        What breaks alone has failed.
        """
        shortage, alone = isinstance(error, _OUT_OF_MEMORY), len(pieces) == 1
        logger.warning("the codec failed on %d pieces: %r", len(pieces), error)
        self._codec_batch = max(1, len(pieces) // 2) if shortage else self._codec_batch
        for piece in pieces:
            self._close_stream(piece)
            if piece.is_over:
                continue
            piece.codec_shortages += shortage
            piece.suspect_frames = piece.suspect_frames if shortage else piece.pushed_frames
            hopeless = alone and (not shortage or piece.codec_shortages >= LAST_TRIES)
            if not hopeless and self._open_stream(piece):
                piece.pushed_frames = piece.decoded_samples = 0
            else:
                self._fail(piece, _failure("the codec", error))

    # ---- the end of a piece ------------------------------------------------------------------------------------

    def _fail(self, piece: Piece, failure: ModelFailed | InvalidRequest) -> None:
        self._set_aside += 1
        piece.failure = failure
        self._retire(piece)

    def _retire(self, piece: Piece) -> None:
        """Take a piece out, finished or not."""
        if piece.slot != _NO_SLOT:
            self._leave_slot(piece)
        if piece in self._waiting:
            self._waiting.remove(piece)
        if piece in self._draining:
            self._draining.remove(piece)
        piece.is_over = True
        self._news += 1
        self._close_stream(piece)


def _failure(what: str, error: BaseException) -> ModelFailed | InvalidRequest:
    """What a request is told whose piece broke something."""
    if isinstance(error, ModelFailed | InvalidRequest):
        return error
    logger.error("%s failed", what, exc_info=error)
    failure = ModelFailed(f"{what} failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _rows(planned: list[tuple[Piece, int]], drawing: list[Piece]) -> Rows:
    total = sum(count for _, count in planned)
    slots, positions = np.empty(total, np.int64), np.empty(total, np.int64)
    tokens, last, end = [], {}, 0
    for piece, count in planned:
        begin, end = end, end + count
        slots[begin:end] = piece.slot
        positions[begin:end], columns = piece.sequence.rows(count, piece.prefix_columns)
        tokens.append(columns)
        last[piece] = end - 1
    wanted = np.asarray([last[piece] for piece in drawing], dtype=np.int64)
    return Rows(slots, positions, np.concatenate(tokens), wanted)


def _draws(pieces: list[Piece]) -> Draws:

    def floats(values: list[float]) -> Floats:
        return np.asarray(values, dtype=np.float32)

    return Draws(
        seed=np.asarray([piece.seed for piece in pieces], dtype=np.uint64),
        column=np.asarray([piece.sequence.next_column() for piece in pieces], dtype=np.int64),
        temperature=floats([piece.temperature for piece in pieces]),
        top_k=np.asarray([piece.top_k for piece in pieces], dtype=np.int64),
        top_p=floats([piece.top_p for piece in pieces]),
    )
