"""Pieces that are made once, however many tracks ask for them: the MP3 and the FLAC of one piece are one generation.

A piece is what a model performs; a track is a piece in the form in which it is delivered. A piece that is being made
is shared by the tracks that ask for it meanwhile, each of which takes its chunks at its own pace: the track that needs
the next one has it made. A piece that is whole is kept as it was made, in samples, as long as the budget allows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from orchestrion.audio.pcm import Pcm
from orchestrion.models.protocol import Performance


class PieceCache:
    """The pieces of one process. `perform` and what it gives belong to the thread that may use the models."""

    def __init__(self, budget_bytes: int = 0) -> None:
        """Keeps whole pieces of `budget_bytes` together, the ones used last; 0: only pieces in progress are shared."""
        self._budget_bytes = budget_bytes
        self._in_progress: dict[str, _Piece] = {}
        #: Least recently used first.
        self._whole: OrderedDict[str, _Piece] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, piece_id: str) -> bool:
        """Whether this piece would not be begun anew. Any thread may ask; it may be gone a moment later."""
        with self._lock:
            return piece_id in self._in_progress or piece_id in self._whole

    @property
    def kept_bytes(self) -> int:
        """Size of the samples of all whole pieces that are kept."""
        with self._lock:
            return sum(piece.size_bytes for piece in self._whole.values())

    def perform(self, piece_id: str, begin: Callable[[], Performance]) -> tuple[Performance, bool]:
        """One more performance of a piece, from its first chunk, and whether it was there already.

        Args:
            piece_id: names what determines every sample of it.
            begin: has the model begin it, where it is not there. What it raises is raised here.
        """
        with self._lock:
            piece = self._in_progress.get(piece_id) or self._whole.get(piece_id)
            if piece_id in self._whole:
                self._whole.move_to_end(piece_id)
        if piece is not None:
            return piece.performance(), True
        piece = _Piece(begin(), lambda ended: self._ended(piece_id, ended))
        with self._lock:
            self._in_progress[piece_id] = piece
        return piece.performance(), False

    def forget(self, piece_id: str) -> None:
        """Keep a piece no more, because it is given to nobody any more. Any thread may ask."""
        with self._lock:
            self._whole.pop(piece_id, None)

    def _ended(self, piece_id: str, piece: _Piece) -> None:
        """A piece is whole, broke or was given up."""
        with self._lock:
            if self._in_progress.get(piece_id) is piece:
                del self._in_progress[piece_id]
            if not piece.is_whole or piece.size_bytes > self._budget_bytes:
                return
            piece.own_samples()
            self._whole[piece_id] = piece
            kept_bytes = sum(kept.size_bytes for kept in self._whole.values())
            while kept_bytes > self._budget_bytes:
                kept_bytes -= self._whole.popitem(last=False)[1].size_bytes


class _Piece:
    """One piece, whole or in progress, and its takers."""

    def __init__(self, source: Performance, on_end: Callable[[_Piece], None]) -> None:
        self.chunks: list[Pcm] = []
        self.size_bytes = 0
        self.is_whole = False
        #: What broke it.
        self.error: BaseException | None = None
        #: None as soon as nothing more will come of it.
        self._source: Performance | None = source
        self._on_end = on_end
        #: Who still takes it. The first is charged for the device, as long as it is there.
        self._takers: list[_Taker] = []
        self._features = replace(source, chunks=iter(()))
        self._midi: bytes | None = None
        self._midi_lock = threading.Lock()

    def performance(self) -> Performance:
        """The piece from its first chunk, for one more taker."""
        taker, features = _Taker(self), self._features
        if self._source is not None:
            if not self._takers:
                taker.charge(features.device_s, 0.0)
            self._takers.append(taker)
        return replace(
            features,
            chunks=taker,
            write_midi=features.write_midi and partial(self._midi_by, features.write_midi),
            device_s=features.device_s and taker.device_s,
            checkpoint=features.checkpoint and self.checkpoint,
            work=features.work and taker.work,
            is_ready=features.is_ready and taker.is_ready,
        )

    def make_next(self) -> None:
        """Make one more chunk, unless the piece is whole. Raises what broke it."""
        if self.error is not None:
            raise self.error
        if self._source is None:
            return
        with self._breaking():
            chunk = next(self._source.chunks, None)
            if chunk is not None:
                # All who take it get the same arrays.
                chunk.flags.writeable = False
                self.size_bytes += chunk.nbytes
                self.chunks.append(chunk)
                return
        self.is_whole, self._source = True, None
        self._takers.clear()
        kept = self._features
        # Later takers are charged nothing, and what the model still holds for the piece can be freed.
        self._features = Performance(iter(()), kept.write_midi, kept.expected_lufs, kept.choices)
        self._on_end(self)

    def work(self) -> bool:
        """Work until the next chunk, or one of a piece that shares its steps, can be taken; whether this one's can."""
        source = self._source
        if source is None or source.work is None:
            return True
        with self._breaking():
            return source.work()

    def is_ready(self) -> bool:
        """Whether the next chunk, or the end, can be taken at once."""
        return self._source is None or self._source.is_ready is None or self._source.is_ready()

    def checkpoint(self) -> bytes | None:
        """As the model's own; None of a piece that is whole. Any thread may ask."""
        source = self._source
        return None if source is None or source.checkpoint is None else source.checkpoint()

    def _midi_by(self, write: Callable[[], bytes]) -> bytes:
        """The score, written once. Any thread may ask, when the piece is whole."""
        with self._midi_lock:
            if self._midi is None:
                self._midi = write()
            return self._midi

    def leave(self, taker: _Taker) -> None:
        """One taker gives up. With the last one the model gives the piece up, too."""
        if taker not in self._takers:
            return
        is_charged, is_last = taker is self._takers[0], len(self._takers) == 1
        self._takers.remove(taker)
        if is_last:
            source, self._source = self._source, None
            try:
                close = getattr(source and source.chunks, "close", None)
                if close is not None:
                    close()
            finally:
                self._on_end(self)
        elif is_charged:
            # The next one pays from here on.
            paid_s = taker.settle()
            self._takers[0].charge(self._features.device_s, paid_s)

    def own_samples(self) -> None:
        """Hold no more memory than the samples take: a chunk may be a slice of something larger."""
        self.chunks = [chunk if chunk.flags.owndata else chunk.copy() for chunk in self.chunks]
        for chunk in self.chunks:
            chunk.flags.writeable = False

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """What the model throws breaks the piece for its takers, and for no later request."""
        try:
            yield
        except BaseException as error:
            self.error = error
            self._on_end(self)
            raise


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one track pays for the device: what is settled, and what `meter` counts beyond `before_s`."""

    settled_s: float = 0.0
    meter: Callable[[], float] | None = None
    before_s: float = 0.0

    def at(self, meter_s: float) -> float:
        """Seconds when the meter says `meter_s`."""
        return self.settled_s + meter_s - self.before_s


class _Taker:
    """The chunks of a piece for one track, and what that track is charged for them."""

    def __init__(self, piece: _Piece) -> None:
        self._piece = piece
        self._taken = 0
        self._has_left = False
        #: Replaced as a whole, because other threads read it.
        self._charge = _Charge()

    def __iter__(self) -> Iterator[Pcm]:
        return self

    def __next__(self) -> Pcm:
        if self._has_left:
            raise StopIteration
        chunks = self._piece.chunks
        if self._taken == len(chunks):
            self._piece.make_next()
            chunks = self._piece.chunks
        if self._taken == len(chunks):
            raise StopIteration
        self._taken += 1
        return chunks[self._taken - 1]

    def close(self) -> None:
        """Take no more."""
        self._has_left = True
        self._piece.leave(self)

    def work(self) -> bool:
        return self._is_behind or self._piece.work()

    def is_ready(self) -> bool:
        return self._is_behind or self._piece.is_ready()

    @property
    def _is_behind(self) -> bool:
        """Whether its next chunk was made for another track, or will never be made."""
        return self._has_left or self._taken < len(self._piece.chunks) or self._piece.error is not None

    def charge(self, meter: Callable[[], float] | None, meter_before_s: float) -> None:
        """Let this one pay what `meter` counts beyond `meter_before_s`."""
        self._charge = _Charge(self._charge.settled_s, meter, meter_before_s)

    def settle(self) -> float:
        """Let it pay nothing more; what the meter says now."""
        charge = self._charge
        if charge.meter is None:
            return 0.0
        meter_s = charge.meter()
        self._charge = _Charge(charge.at(meter_s))
        return meter_s

    def device_s(self) -> float:
        """Seconds of the device that its track is charged for. Any thread may ask."""
        charge = self._charge
        return charge.settled_s if charge.meter is None else charge.at(charge.meter())
