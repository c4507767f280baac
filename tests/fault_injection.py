"""Throw a chosen error at a chosen call of a renderer: every call that the pipeline makes is a seam with a name.

    with fault(renderer, "store.put_blob", OSError(28, "no space left"), at_call=2) as struck:
        ...
    assert struck.is_set()

Each seam is wrapped where the renderer finds it, so what is thrown takes the way of a real error.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from orchestrion.errors import ModelFailed
from orchestrion.rendering.pipeline import ADMISSION, FINISHING, Pipeline, Stage
from orchestrion.rendering.renderer import Renderer


class ForeignError(ModelFailed):
    """A subclass of one of this project's errors that the project does not know: a plug-in's."""


#: What may be thrown, by a name for a test's id. Made anew for each test: an exception keeps its traceback.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: Exception("nobody foresaw this"),
    "memory": lambda: MemoryError("no room for the spectrum"),
    "os": lambda: OSError(28, "No space left on device"),
    "foreign": lambda: ForeignError("the plug-in gave up"),
}

#: Of the model: opening a piece, its chunks, ending one early, its score, what can be kept of it.
MODEL_SEAMS = ("model.perform", "model.chunk", "model.midi")
#: Calls that are made only for a piece that does not come to its end, or for one that takes long.
EARLY_END_SEAMS = ("model.close", "model.checkpoint")
#: The stages of the pipeline, whatever they are, and the stage that their failures are told of.
STAGE_SEAMS = {f"stage.{stage.name}": stage.counts_to or "request" for stage in (*ADMISSION, *FINISHING)}
#: Methods of what the renderer holds.
STORE_SEAMS = ("store.listing", "store.tombstone", "store.announce", "store.put_blob", "store.publish")
OTHER_SEAMS = ("signer.sign", "recorder.count", "recorder.observe")
#: Every call that making one track takes, from the look-up to the last count.
SEAMS = (*MODEL_SEAMS, *STAGE_SEAMS, *STORE_SEAMS, *OTHER_SEAMS)


class Fault:
    """Throws `error` at call number `at_call` (from 1) of one seam, whichever thread makes it."""

    def __init__(self, error: BaseException, at_call: int, every: bool) -> None:
        self._error = error
        self._at_call = at_call
        self._every = every
        self._numbers = itertools.count(1)
        self.struck = threading.Event()

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The call, or the error."""
        number = next(self._numbers)
        if number == self._at_call or (self._every and number > self._at_call):
            self.struck.set()
            raise self._error
        return function(*arguments, **options)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls are counted."""
        return lambda *arguments, **options: self.call(function, *arguments, **options)


class _Faulty:
    """An object one of whose methods is counted."""

    def __init__(self, real: object, method: str, fault: Fault) -> None:
        self._real, self._method, self._fault = real, method, fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._fault.around(found) if name == self._method else found


class _FaultyChunks:
    """A performance's chunks, of which taking one or closing them is counted."""

    def __init__(self, chunks: Any, seam: str, fault: Fault) -> None:
        self._chunks, self._seam, self._fault = chunks, seam, fault

    def __iter__(self) -> _FaultyChunks:
        return self

    def __next__(self) -> Any:
        # `next(chunks, …)` would need the default; a generator's own end passes through.
        if self._seam == "model.chunk":
            return self._fault.call(next, self._chunks)
        return next(self._chunks)

    def close(self) -> None:
        if self._seam == "model.close":
            try:
                self._fault.call(lambda: None)
            finally:
                self._chunks.close()
        else:
            self._chunks.close()


class _FaultyModel:
    """A model whose performances go wrong somewhere."""

    def __init__(self, real: Any, seam: str, fault: Fault) -> None:
        self._real, self._seam, self._fault = real, seam, fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._fault.around(found) if self._seam == f"model.{name}" else found

    def perform(self, *arguments: Any, **options: Any) -> Any:
        perform = self._real.perform
        if self._seam == "model.perform":
            perform = self._fault.around(perform)
        performance = perform(*arguments, **options)
        if self._seam in ("model.chunk", "model.close"):
            return replace(performance, chunks=_FaultyChunks(performance.chunks, self._seam, self._fault))
        if self._seam == "model.midi" and performance.write_midi is not None:
            return replace(performance, write_midi=self._fault.around(performance.write_midi))
        if self._seam == "model.checkpoint" and performance.checkpoint is not None:
            return replace(performance, checkpoint=self._fault.around(performance.checkpoint))
        return performance


@contextmanager
def fault(
    renderer: Renderer, seam: str, error: BaseException, at_call: int = 1, *, every: bool = False
) -> Iterator[threading.Event]:
    """While entered, one call of `seam` throws.

    Args:
        renderer: whose; its models, store, signer and recorder are wrapped. Enter before anything else takes them from
            it.
        seam: of `SEAMS` or `EARLY_END_SEAMS`, or another method of the model, store, signer or recorder.
        error: what is thrown.
        at_call: which call throws, from 1, over all threads.
        every: each later call throws, too.

    Yields:
        Set once it was thrown.
    """
    owner, _, name = seam.partition(".")
    thrown = Fault(error, at_call, every)
    if owner == "stage":

        def faulty(stages: Sequence[Stage]) -> list[Stage]:
            return [replace(each, run=thrown.around(each.run)) if each.name == name else each for each in stages]

        pipeline = Pipeline(faulty(renderer.pipeline.admission), faulty(renderer.pipeline.finishing))
        with mock.patch.object(renderer, "pipeline", pipeline):
            yield thrown.struck
        return
    if owner == "model":
        models = {each: _FaultyModel(model, seam, thrown) for each, model in renderer.models.items()}
        with mock.patch.object(renderer, "models", models):
            yield thrown.struck
        return
    # A renderer never calls the recorder it was given but through one that bears what it throws.
    holder, attribute = (renderer.recorder, "_recorder") if owner == "recorder" else (renderer, owner)
    with mock.patch.object(holder, attribute, _Faulty(getattr(holder, attribute), name, thrown)):
        yield thrown.struck
