"""A decoder and a codec that are simple enough to check the engine by, and that can be told to break."""

import hashlib
from collections import Counter
from concurrent.futures import Executor, Future

import numpy as np

from orchestrion.models.musicgen.decoder.decoder import Condition
from tests.musicgen_checkpoints import TINY

HOP = 4


def condition(number: float = 0.0, prefix_columns: int = 0) -> Condition:
    prefix = np.full((prefix_columns, TINY.dim), number, np.float32) if prefix_columns else None
    return Condition(np.full((1, TINY.dim), number, np.float32), None, prefix, prefix, guidance=3.0)


class HistoryDecoder:
    """Draws from a hash of everything its slot was fed: one wrong, lost or foreign column changes all the rest."""

    geometry = TINY
    max_positions = 400

    def __init__(self, slots: int, max_rows: int = 64) -> None:
        self.slots = slots
        self.max_rows = max_rows
        self.history: dict[int, list[bytes]] = {}
        self.steps: list[int] = []
        self.drawn_columns = 0
        #: Called before each step; may raise.
        self.before_step = lambda rows: None
        self.before_bind = lambda: None
        self.poisoned_seeds: set[int] = set()

    def bind(self, slot: int, condition: Condition) -> None:
        self.before_bind()
        prefix = b"" if condition.prefix is None else condition.prefix.tobytes()
        self.history[slot] = [condition.cross.tobytes() + prefix]

    def step(self, rows, draws) -> np.ndarray:
        assert len(rows.slot) <= self.max_rows
        assert max(Counter(rows.slot).values()) <= self.max_rows
        self.before_step(rows)
        self.steps.append(len(rows.slot))
        self.drawn_columns += len(rows.wanted)
        drawn = []
        for index, (slot, position, tokens) in enumerate(zip(rows.slot, rows.position, rows.tokens, strict=True)):
            history = self.history[slot]
            assert position == len(history) - 1, "columns must follow one another"
            history.append(tokens.tobytes())
            if index in rows.wanted:
                at = len(drawn)
                key = repr((int(draws.seed[at]), int(draws.column[at]), float(draws.temperature[at]))).encode()
                digest = hashlib.sha256(b"".join(history) + key).digest()
                codes = np.frombuffer(digest, np.uint16)[:4].astype(np.int64) % TINY.card
                drawn.append(np.full(4, -1) if int(draws.seed[at]) in self.poisoned_seeds else codes)
        return np.asarray(drawn).reshape(len(drawn), 4)

    def logits(self, rows) -> np.ndarray:
        raise NotImplementedError("the engine does not ask for logits")


class EchoStream:
    def __init__(self, codec: "EchoCodec") -> None:
        self.codec = codec
        self.codes = np.zeros((4, 0), np.int64)
        self.given = 0
        self.is_open = True

    def close(self) -> None:
        assert self.is_open, "closed twice"
        self.is_open = False
        self.codec.open_streams -= 1


class EchoCodec:
    """Frame f sounds as HOP samples of a number made of its codes and of its neighbours', two frames to each side."""

    look_ahead_frames = 2
    frames_at_once = 100
    is_seamless = True

    def __init__(self) -> None:
        self.open_streams = 0
        self.before_push = lambda items: None

    def open(self) -> EchoStream:
        self.open_streams += 1
        return EchoStream(self)

    def push(self, items) -> list[np.ndarray]:
        self.before_push(items)
        chunks = []
        for stream, codes, last in items:
            assert stream.is_open
            stream.codes = np.concatenate([stream.codes, codes], axis=1)
            final = stream.codes.shape[1] - (0 if last else self.look_ahead_frames)
            audio = self.audio(stream.codes)[stream.given : max(final, stream.given)]
            stream.given = max(final, stream.given)
            chunks.append(np.repeat(audio, HOP)[:, None])
        return chunks

    def audio(self, codes: np.ndarray) -> np.ndarray:
        padded = np.pad((codes * np.array([[1], [3], [5], [7]])).sum(0), 2)
        return np.convolve(padded, [1, 2, 3, 4, 5], "valid").astype(np.float32)


class Ticks:
    """A clock on which every look is a second later."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def monotonic_s(self) -> float:
        self.time_s += 1.0
        return self.time_s


class AtOnce(Executor):
    """Runs what is submitted before `submit` returns, so that a test's steps can be counted."""

    def submit(self, work, /, *arguments):
        future = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Later(Executor):
    """Runs what was submitted when it is told to."""

    def __init__(self) -> None:
        self.submitted = []

    def submit(self, work, /, *arguments):
        future = Future()
        self.submitted.append((future, work, arguments))
        return future

    def run(self) -> None:
        for future, work, arguments in self.submitted:
            future.set_result(work(*arguments))
        self.submitted.clear()
