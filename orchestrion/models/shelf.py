"""Several checkpoints where memory holds only some: the least recently used one makes room.

What a model is (its card) is known of every one of them, so that requests are judged and tracks found without loading
anything. The surprising thing: a model with pieces in progress never makes room. Where all are busy, whoever asks for
another one is told to come back.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from orchestrion.errors import InvalidRequest, ModelFailed, Overloaded
from orchestrion.models.protocol import Conditioning, Generation, ModelInfo, MusicModel, Performance, Prepared

logger = logging.getLogger(__name__)

#: When somebody is told to come back because every model in memory is at work.
BUSY_RETRY_S: Final = 10.0


class LoadedModel(MusicModel, Protocol):
    """A model that can be asked whether it is at work, and be put away."""

    @property
    def active(self) -> int:
        """Pieces in progress."""
        ...

    def close(self) -> None:
        """Free what it holds. It is not used afterwards."""
        ...


class Shelf:
    """At most `resident` models in memory, of any number."""

    def __init__(self, resident: int) -> None:
        self._resident = resident
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        #: Models are loaded by one thread while another performs.
        self._lock = threading.RLock()

    def put(self, info: ModelInfo, load: Callable[[], LoadedModel]) -> ShelvedModel:
        """A place for the model of this card; it is loaded when it is first needed."""
        return ShelvedModel(self, info, load)

    def perform(
        self,
        model: ShelvedModel,
        conditioning: Conditioning,
        *,
        interactive: bool,
        resume: bytes | None,
        prepared: Prepared | None,
    ) -> Performance:
        """Start a piece by a model, which cannot be put away from then on until the piece is over.

        Raises:
            Overloaded: it is not in memory, and all that are have pieces in progress.
        """
        with self._lock:
            return self.load(model).perform(conditioning, interactive=interactive, resume=resume, prepared=prepared)

    def load(self, model: ShelvedModel) -> LoadedModel:
        """The model, in memory. Raises as `perform`, and what loading raises."""
        name = model.info.name
        with self._lock:
            if name not in self._loaded:
                self._make_room(name)
                self._loaded[name] = model.read()
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def _make_room(self, name: str) -> None:
        while len(self._loaded) >= self._resident:
            idle = next((other for other, model in self._loaded.items() if not model.active), None)
            if idle is None:
                raise Overloaded(
                    f"{name} is not in memory, and {' and '.join(self._loaded)} are at work; come back later",
                    BUSY_RETRY_S,
                )
            logger.info("putting %s away to make room for %s", idle, name)
            self._loaded.pop(idle).close()


class ShelvedModel:
    """A `MusicModel` that is in memory only while the shelf has room for it."""

    def __init__(self, shelf: Shelf, info: ModelInfo, read: Callable[[], LoadedModel]) -> None:
        self._shelf = shelf
        self._info = info
        self.read = read

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    def load(self) -> None:
        """Have it in memory before somebody waits for it. Raises as `Shelf.load`."""
        self._shelf.load(self)

    def prepare(self, conditioning: Conditioning) -> Prepared | None:
        """As the model itself, loaded if it is not. Raises as `perform`."""
        return self._shelf.load(self).prepare(conditioning)

    def perform(
        self,
        conditioning: Conditioning,
        *,
        interactive: bool = True,
        resume: bytes | None = None,
        prepared: Prepared | None = None,
    ) -> Performance:
        """As the model itself, loaded if it is not.

        Raises:
            Overloaded: there is no room for it now.
        """
        return self._shelf.perform(self, conditioning, interactive=interactive, resume=resume, prepared=prepared)

    def generate(self, batch: Sequence[Conditioning]) -> list[Generation | ModelFailed | InvalidRequest]:
        """As the model itself, loaded if it is not. Raises as `perform`."""
        return self._shelf.load(self).generate(batch)
