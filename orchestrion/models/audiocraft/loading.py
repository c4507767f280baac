"""From a checkpoint of audiocraft's own format to its generator, offline if everything is there.

audiocraft's own loaders fetch what they miss from the hub, whatever is newest that day. These take files that lie there
already, so that what was loaded can be hashed. audiocraft knows text encoders by their published names only, so a
folder is added to its table under one more name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrion.errors import InvalidRequest, shown
from orchestrion.models.audiocraft.imports import demucs_is_installed, import_audiocraft, separator
from orchestrion.models.musicgen.checkpoint.checkpoint import (
    CARD,
    CODEC_STATE,
    CONFIG,
    KNOWN_CODECS,
    STATE,
    TOKENIZER,
    Repository,
    licence_of,
)
from orchestrion.models.musicgen.checkpoint.files import Source, read_pickle, read_yaml, refused
from orchestrion.models.musicgen.checkpoint.geometry import INTERPOLATION, T5_DIMS
from orchestrion.models.musicgen.conditioning.prompt_tokens import token_ids

logger = logging.getLogger(__name__)

#: Bytes of one weight at least; audiocraft exports float16.
_LEAST_BYTES: Final = 2
#: A window that audiocraft's constructor takes.
_ACCEPTED_WINDOW_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files that a generator is made of."""

    lm: Path
    codec: Path
    #: The text encoder's folder, with its tokenizer.
    text_encoder: Path
    #: The folder of the codec's weights where `codec` only names them, as stereo models do.
    hub_codec: Path | None
    #: All that decides the output, by names that do not depend on where they lie.
    files: Mapping[str, Path]
    #: SPDX, or "unknown".
    licence: str
    commercial_use: bool


def find_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a folder or of a hub's name. What it refers to lies beside it (`t5`, `encodec`) or on the hub.

    Raises:
        InvalidRequest: something is missing, or is not of audiocraft's format.
    """
    place = Source.of(text)
    found, commit = place.fetch(STATE, CODEC_STATE, *CARD)
    repository = Repository(replace(place, revision=commit), found, weights=())
    states = {name: path for name, path in found.items() if name in (STATE, CODEC_STATE)}
    if len(states) != 2:
        raise refused(text, f"it has no {STATE} and {CODEC_STATE}, audiocraft's format; try it without 'audiocraft:'")
    t5 = Repository.part_of(repository, "t5", _text_encoder(states[STATE]), T5_DIMS)
    files = states | {f"t5/{name}": path for name, path in t5.deciding(CONFIG, *TOKENIZER).items()}
    parts, hub_codec = [repository, t5], None
    if published := read_pickle(states[CODEC_STATE]).get("pretrained"):
        encodec = Repository.part_of(repository, "encodec", published, KNOWN_CODECS)
        files |= {f"encodec/{name}": path for name, path in encodec.deciding(CONFIG).items()}
        parts.append(encodec)
        hub_codec = encodec.found[CONFIG].parent
    licence, commercial_use = licence_of(*parts)
    return Checkpoint(
        lm=states[STATE],
        codec=states[CODEC_STATE],
        text_encoder=t5.found[CONFIG].parent,
        hub_codec=hub_codec,
        files=files,
        licence=licence,
        commercial_use=commercial_use,
    )


def load_generator(checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401 (audiocraft's BaseGenModel)
    """Audiocraft's MusicGen, or its AudioGen if the checkpoint is of one; in half precision but on the CPU.

    Raises:
        InvalidRequest: the files cannot be read.
    """
    audiocraft = import_audiocraft()
    try:
        return _build(audiocraft, checkpoint, device)
    except InvalidRequest:
        raise
    except Exception as error:
        # Foreign code reads foreign files: whatever it raises, this checkpoint is no good.
        logger.exception("audiocraft cannot load %s", checkpoint.lm)
        raise refused(checkpoint.lm, f"audiocraft cannot load it ({type(error).__name__}: {error})") from error


def is_audiogen(config: Mapping[str, Any]) -> bool:
    """Whether a language model's configuration is of one that makes sounds and no music."""
    return bool(config.get("solver") == "audiogen")


def _build(audiocraft: Any, checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401
    config = _config(checkpoint.lm)
    _check_size(checkpoint.lm, config)
    config.device, config.dtype = device, "float32" if device == "cpu" else "float16"
    # How conditions were dropped and where chroma was cached when it was trained.
    for group, name in (("args", "merge_text_conditions_p"), ("args", "drop_desc_p"), ("self_wav", "cache_path")):
        settings = config.conditioners.get(group, {})
        settings.get("chroma_stem", settings).pop(name, None)
    known = audiocraft.modules.conditioners.T5Conditioner
    folder = str(checkpoint.text_encoder)
    for settings, name in _text_encoders(config):
        known.MODELS.append(folder)
        known.MODELS_DIMS[folder] = known.MODELS_DIMS[name]
        settings.name = folder
    with separator():
        lm = audiocraft.models.builders.get_lm_model(config)
    lm.load_state_dict(read_pickle(checkpoint.lm)["best_state"])
    lm.cfg = config
    for conditioner in lm.condition_provider.conditioners.values():
        if hasattr(conditioner, "t5_tokenizer"):
            conditioner.t5_tokenizer = partial(_tokens, conditioner.t5_tokenizer)
    melody = dict(lm.condition_provider.conditioners.items()).get("self_wav")
    if melody is not None:
        # As audiocraft's own loader does: the melody fills the whole prefix, so there is nothing to mask in it.
        melody.match_len_on_eval, melody._use_masking = True, False
        if not demucs_is_installed():
            mono = audiocraft.data.audio_utils.convert_audio
            melody._get_stemmed_wav = lambda wave, rate_hz: mono(wave, rate_hz, melody.sample_rate, 1)
    family = audiocraft.models.AudioGen if is_audiogen(config) else audiocraft.models.MusicGen
    window_s = float(config.dataset.segment_duration)
    # Its constructor refuses windows that are shorter than the default of a setting, which can be set only later.
    generator = family(folder, _load_codec(audiocraft, checkpoint, device), lm, max(window_s, _ACCEPTED_WINDOW_S))
    generator.max_duration = window_s
    return generator


def _check_size(file: Path, config: DictConfig) -> None:
    """Refuse a configuration that asks for more weights than `file` can have: they are made before they are read."""
    lm = config.transformer_lm
    dim, hidden = int(lm.dim), int(lm.get("hidden_scale", 4) * lm.dim)
    values = lm.num_layers * (4 * dim * dim + 2 * dim * hidden) + 2 * lm.n_q * lm.card * dim
    if _LEAST_BYTES * values > file.stat().st_size:
        raise refused(file, f"its configuration is of {values:,} weights, and it is too small for so many")


def _tokens(tokenizer: Any, prompts: list[str], *, return_tensors: str, padding: bool) -> Any:  # noqa: ANN401
    """In the place of a T5 tokenizer: the same, but for prompts that name special tokens (see `token_ids`)."""
    ids = [token_ids(tokenizer, prompt) for prompt in prompts]
    return tokenizer.pad({"input_ids": ids}, return_tensors=return_tensors, padding=padding)


def _load_codec(audiocraft: Any, checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401
    if checkpoint.hub_codec is not None:
        encodec = audiocraft.models.encodec
        weights = encodec.HFEncodecModel.from_pretrained(checkpoint.hub_codec)
        return encodec.HFEncodecCompressionModel(weights).to(device)
    config = _config(checkpoint.codec)
    config.device = device
    codec = audiocraft.models.builders.get_compression_model(config)
    codec.load_state_dict(read_pickle(checkpoint.codec)["best_state"])
    return codec


def _text_encoder(file: Path) -> str:
    """The name of the one T5 that the language model in `file` hears words through."""
    config = _config(file)
    try:
        kind, encoders = config.get("lm_model"), {name for _, name in _text_encoders(config)}
        others = {settings.get("model", "t5") for settings in config.get("conditioners", {}).values()}
    except (OmegaConfBaseException, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise refused(file, f"its training configuration cannot be read ({error!r}); download it again") from error
    if kind != "transformer_lm":
        raise refused(file, f"it is a {shown(kind)}; of audiocraft's models MusicGen and AudioGen are supported")
    if others - {"t5", "chroma_stem"}:
        # Some of audiocraft's conditions open files that the configuration names.
        raise refused(file, f"its conditions are {shown(sorted(map(str, others)))}; words and melodies are supported")
    if len(encoders) != 1:
        names = ", ".join(sorted(map(shown, encoders))) or "nothing"
        raise refused(file, f"it hears words through {names}; exactly one T5 is supported")
    return str(encoders.pop())


def _config(file: Path) -> DictConfig:
    """The training configuration, in which a reference to another value is followed and nothing else is."""
    text = read_pickle(file).get("xp.cfg")
    try:
        config = OmegaConf.create(_inert(read_yaml(file, text))) if isinstance(text, str) else None
    except (TypeError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise refused(file, f"it has no readable training configuration ({error!r}); download it again") from error
    if not isinstance(config, DictConfig):
        raise refused(file, "its training configuration is not a mapping; download it again")
    return config


def _inert(value: Any) -> Any:  # noqa: ANN401 (what YAML holds)
    """`value` with all that OmegaConf would compute made plain text: `${oc.env:NAME}` reads the environment."""
    if isinstance(value, dict):
        return {key: _inert(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_inert(inner) for inner in value]
    if isinstance(value, str) and not INTERPOLATION.fullmatch(value):
        return value.replace("${", "\\${")
    return value


def _text_encoders(config: DictConfig) -> Iterator[tuple[DictConfig, str]]:
    """The settings of each text encoder, and its published name."""
    for settings in config.get("conditioners", {}).values():
        if settings.get("model") == "t5":
            yield settings.t5, settings.t5.name
