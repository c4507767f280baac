"""The models that make music, each behind the one protocol of `protocol.py`, and how a name becomes one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Final

from orchestrion.clock import Clock
from orchestrion.errors import InvalidRequest
from orchestrion.models.cache import ModelCache
from orchestrion.models.protocol import MusicModel
from orchestrion.models.settings import ModelSettings

_AUDIOCRAFT: Final = "audiocraft:"
#: Before an entry of a MusicGen: it hears prompts as they were written.
_RAW: Final = "raw:"


def public_name(entry: str) -> str:
    """The name by which requests ask for a model that the configuration lists as `entry`.

    An entry is "composer", a hub name, a folder (called by its last part), "audiocraft:" and either of them, "raw:" and
    any of these but the composer, or "name=" and any of those.
    """
    name, given, _ = entry.partition("=")
    if given:
        return name
    prefix, source = _parts(entry)
    return prefix + (PurePath(source).name if PurePath(source).is_absolute() else source)


def absolute_entry(entry: str) -> str:
    """The entry as it is seen from any folder: a checkpoint's folder given relative to this one becomes absolute."""
    name, given, rest = entry.partition("=")
    prefix, source = _parts(rest if given else entry)
    head = (name + given if given else "") + prefix
    folder = Path(source).expanduser()
    return head + str(folder.absolute()) if folder.is_dir() else entry


def load_models(
    entries: Sequence[str], settings: ModelSettings, clock: Clock, resident: int | None = None
) -> dict[str, MusicModel]:
    """The models of these entries by their public names, ready to perform.

    Args:
        entries: see `public_name`.
        settings: how each is run.
        clock: for shares of device time.
        resident: how many checkpoints of our own engine may be in memory together; the others are loaded when they are
            needed, in the place of the one that was not for the longest time. None: all of them.

    Raises:
        InvalidRequest: a model does not exist, cannot be read, or cannot run with these settings.
    """
    checkpoints = [entry for entry in entries if _is_checkpoint(_source(entry).removeprefix(_RAW))]
    if resident is None or len(checkpoints) <= resident:
        return {public_name(entry): load_model(entry, settings, clock) for entry in entries}
    cache = ModelCache(resident)
    return {
        public_name(entry): _cached(cache, entry, settings, clock)
        if entry in checkpoints
        else load_model(entry, settings, clock)
        for entry in entries
    }


def load_model(entry: str, settings: ModelSettings, clock: Clock) -> MusicModel:
    """Load the model of this entry (see `public_name`), ready to perform.

    Raises:
        InvalidRequest: there is no such model, it cannot be read, or it cannot run with these settings.
    """
    name, (source, settings) = public_name(entry), _told(entry, settings)
    if source == "composer":
        from orchestrion.models.composer.model import Composer
        from orchestrion.models.composer.sound.synth import SOUND_FONT

        if not SOUND_FONT.is_file():
            missing = f"needs its sound font, {SOUND_FONT}; install orchestrion-soundfont, see docs/client.md"
            raise InvalidRequest.of("model", entry, missing)
        return Composer(name)
    if source.startswith(_AUDIOCRAFT):
        from orchestrion.models.audiocraft.backend import AudiocraftModel

        return AudiocraftModel.load(name, source.removeprefix(_AUDIOCRAFT), settings)
    if not _is_checkpoint(source):
        raise InvalidRequest.of(
            "model",
            entry,
            "is not a model of this installation; use 'composer', a hub name such as 'facebook/musicgen-small', a "
            "folder with a checkpoint, 'audiocraft:' and one of these, or 'raw:' and a MusicGen",
        )
    from orchestrion.models.musicgen.model import MusicGen

    return MusicGen.load(name, source, settings, clock)


def _cached(cache: ModelCache, entry: str, settings: ModelSettings, clock: Clock) -> MusicModel:
    from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint
    from orchestrion.models.musicgen.model import MusicGen, model_info

    source, settings = _told(entry, settings)
    name, checkpoint = public_name(entry), open_checkpoint(source)
    return cache.put(model_info(name, checkpoint, settings), partial(MusicGen.of, name, checkpoint, settings, clock))


def _source(entry: str) -> str:
    return entry.partition("=")[2] or entry


def _parts(source: str) -> tuple[str, str]:
    """What stands before a checkpoint's place, and the place."""
    place = source.removeprefix(_RAW).removeprefix(_AUDIOCRAFT)
    return source[: len(source) - len(place)], place


def _told(entry: str, settings: ModelSettings) -> tuple[str, ModelSettings]:
    """Where a model is, and how it is run."""
    source = _source(entry)
    place = source.removeprefix(_RAW)
    return (
        (source, settings) if place == source or place == "composer" else (place, replace(settings, raw_prompts=True))
    )


def _is_checkpoint(source: str) -> bool:
    return "/" in source and not source.startswith(_AUDIOCRAFT)
