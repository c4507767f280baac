"""From a checkpoint of audiocraft's own format to its generator, offline if everything is there.

audiocraft's own loaders fetch what they miss from the hub, whatever is newest that day. These take files that lie there
already, so that what was loaded can be hashed. The surprising thing: audiocraft knows text encoders by their published
names only; a folder is made known to it as one more name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrion.models.audiocraft.imports import demucs_is_installed, import_audiocraft, separator
from orchestrion.models.musicgen.checkpoint import CARD, CODEC_STATE, CONFIG, STATE, TOKENIZER, Repository, licence_of
from orchestrion.models.musicgen.checkpoint_files import Source, read_pickle, refused


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
    config = _config(states[STATE])
    if config.get("lm_model") != "transformer_lm":
        raise refused(
            text, f"it is a {config.get('lm_model')}; of audiocraft's models MusicGen and AudioGen are supported"
        )
    encoders = {name for _, name in _text_encoders(config)}
    if len(encoders) != 1:
        raise refused(text, f"it hears words through {sorted(encoders)}; exactly one T5 is supported")
    t5 = Repository.part_of(repository, "t5", encoders.pop())
    files = states | {f"t5/{name}": path for name, path in t5.deciding(CONFIG, *TOKENIZER).items()}
    licence, commercial_use = licence_of(found)
    hub_codec = None
    if published := read_pickle(states[CODEC_STATE]).get("pretrained"):
        encodec = Repository.part_of(repository, "encodec", str(published))
        files |= {f"encodec/{name}": path for name, path in encodec.deciding(CONFIG).items()}
        hub_codec = encodec.found[CONFIG].parent
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
    config = _config(checkpoint.lm)
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
    melody = dict(lm.condition_provider.conditioners.items()).get("self_wav")
    if melody is not None:
        # As audiocraft's own loader does: the melody fills the whole prefix, so there is nothing to mask in it.
        melody.match_len_on_eval, melody._use_masking = True, False
        if not demucs_is_installed():
            mono = audiocraft.data.audio_utils.convert_audio
            melody._get_stemmed_wav = lambda wave, rate_hz: mono(wave, rate_hz, melody.sample_rate, 1)
    family = audiocraft.models.AudioGen if config.get("solver") == "audiogen" else audiocraft.models.MusicGen
    return family(folder, _load_codec(audiocraft, checkpoint, device), lm)


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


def _config(file: Path) -> DictConfig:
    try:
        config = OmegaConf.create(read_pickle(file)["xp.cfg"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise refused(file, f"it has no readable training configuration ({error!r}); download it again") from error
    if not isinstance(config, DictConfig):
        raise refused(file, "its training configuration is not a mapping; download it again")
    return config


def _text_encoders(config: DictConfig) -> Iterator[tuple[DictConfig, str]]:
    """The settings of each text encoder, and its published name."""
    for settings in config.get("conditioners", {}).values():
        if settings.get("model") == "t5":
            yield settings.t5, settings.t5.name
