"""Several checkpoints where memory holds only some: the least recently used one makes room.

The `ModelInfo` of every one is known, so that requests are judged and tracks found without loading anything. A model
with pieces in progress, or prepared ones, never makes room: where all are busy, a request for another one is told to
come back later. While one is loaded the others go on; only requests for that model wait.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from orchestrion.errors import Overloaded
from orchestrion.models.protocol import Conditioning, ModelInfo, MusicModel, Performance, Prepared

logger = logging.getLogger(__name__)

#: When a request is told to come back because every model in memory is at work.
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


class ModelCache:
    """At most `resident` models in memory, of any number."""

    def __init__(self, resident: int) -> None:
        self._resident = resident
        self._changed = threading.Condition()
        # All below is changed under `_changed`, which is not held while a model is loaded or put away.
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading: set[str] = set()
        #: How many need a model to stay that has no piece of theirs in progress yet.
        self._held: Counter[str] = Counter()

    def put(self, info: ModelInfo, load: Callable[[], LoadedModel]) -> CachedModel:
        """A place for the model of this card; it is loaded when it is first needed."""
        return CachedModel(self, info, load)

    @contextmanager
    def held(self, model: CachedModel) -> Iterator[LoadedModel]:
        """The model, in memory, where it stays until the block ends. Raises as `hold`."""
        loaded = self.hold(model)
        try:
            yield loaded
        finally:
            self.release(model)

    def hold(self, model: CachedModel) -> LoadedModel:
        """The model, loaded if it is not, and not put away before it is released as often as it was held.

        Raises:
            Overloaded: it is not in memory, and all that are have pieces in progress.
            InvalidRequest: it cannot be loaded.
        """
        name = model.info.name
        with self._changed:
            self._changed.wait_for(lambda: name not in self._loading)
            if name in self._loaded:
                self._loaded.move_to_end(name)
                self._held[name] += 1
                return self._loaded[name]
            idle = self._make_room(name)
            self._loading.add(name)
        loaded = None
        try:
            if idle is not None:
                idle.close()
            loaded = model.read()
        finally:
            with self._changed:
                self._loading.remove(name)
                if loaded is not None:
                    self._loaded[name] = loaded
                    self._held[name] += 1
                self._changed.notify_all()
        return loaded

    def release(self, model: CachedModel) -> None:
        """Let the model go that was held."""
        with self._changed:
            self._held[model.info.name] -= 1

    def _make_room(self, name: str) -> LoadedModel | None:
        """The model to be put away for this one, which is on the cache no more; None where there is room."""
        if len(self._loaded) + len(self._loading) < self._resident:
            return None
        idle = next((one for one, model in self._loaded.items() if not model.active and not self._held[one]), None)
        if idle is None:
            at_work = " and ".join([*self._loaded, *self._loading])
            raise Overloaded(f"{name} is not in memory, and {at_work} are at work; come back later", BUSY_RETRY_S)
        logger.info("putting %s away to make room for %s", idle, name)
        return self._loaded.pop(idle)


class _PreparedInCache:
    """What a model prepared, which holds the model in its place: until the piece is begun or given up."""

    def __init__(self, cache: ModelCache, model: CachedModel, loaded: LoadedModel, prepared: Prepared | None) -> None:
        self.loaded = loaded
        self.prepared = prepared
        self.release = weakref.finalize(self, cache.release, model)
        self.release.atexit = False


class CachedModel:
    """A `MusicModel` that is in memory only while the cache has room for it."""

    def __init__(self, cache: ModelCache, info: ModelInfo, read: Callable[[], LoadedModel]) -> None:
        self._cache = cache
        self._info = info
        self.read = read

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    def load(self) -> None:
        """Have it in memory before a piece waits for it. Raises as `ModelCache.hold`."""
        with self._cache.held(self):
            pass

    def prepare(self, conditioning: Conditioning) -> Prepared | None:
        """As the model itself, which stays in memory while the caller keeps what it gets. Raises as `perform`."""
        loaded = self._cache.hold(self)
        try:
            prepared = loaded.prepare(conditioning)
        except BaseException:
            self._cache.release(self)
            raise
        return _PreparedInCache(self._cache, self, loaded, prepared)

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
        if not isinstance(prepared, _PreparedInCache):
            with self._cache.held(self) as loaded:
                return loaded.perform(conditioning, interactive=interactive, resume=resume)
        try:
            return prepared.loaded.perform(
                conditioning, interactive=interactive, resume=resume, prepared=prepared.prepared
            )
        finally:
            prepared.release()
