"""From a checkpoint of audiocraft's own format to its generator, offline if everything is there.

audiocraft's own loaders fetch what they miss from the hub, whatever is newest that day. These take files that lie there
already, so that what was loaded can be hashed. The surprising thing: audiocraft knows text encoders by their published
names only; a folder is made known to it as one more name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrion.models.audiocraft.imports import import_audiocraft, melody_source
from orchestrion.models.musicgen.checkpoint_files import Source, read_pickle, refused

LM_FILE: Final = "state_dict.bin"
CODEC_FILE: Final = "compression_state_dict.bin"
_T5_FILES: Final = (
    "config.json",
    "model.safetensors",
    "spiece.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_ENCODEC_FILES: Final = ("config.json", "model.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files that a generator is made of."""

    lm: Path
    codec: Path
    #: The text encoder's folder, with its tokenizer.
    text_encoder: Path
    #: The folder of the codec's weights where `codec` only names them, as stereo models do.
    hub_codec: Path | None

    @property
    def files(self) -> dict[str, Path]:
        """All that decides the output, by names that do not depend on where they lie."""
        files = {LM_FILE: self.lm, CODEC_FILE: self.codec}
        files |= {f"t5/{name}": self.text_encoder / name for name in _T5_FILES}
        if self.hub_codec is not None:
            files |= {f"encodec/{name}": self.hub_codec / name for name in _ENCODEC_FILES}
        return {name: path for name, path in files.items() if path.is_file()}


def find_checkpoint(source: Source) -> Checkpoint:
    """The files of a checkpoint. What it refers to lies beside it (in `t5` and `encodec`) or else comes from the hub.

    Raises:
        InvalidRequest: something is missing, or is not of audiocraft's format.
    """
    found, _ = source.fetch(LM_FILE, CODEC_FILE)
    for name in (LM_FILE, CODEC_FILE):
        if name not in found:
            raise refused(source.name, f"it has no {name}: not of audiocraft's format; try it without 'audiocraft:'")
    encoders = {name for _, name in _text_encoders(_config(found[LM_FILE]))}
    if len(encoders) != 1:
        raise refused(source.name, f"it hears words through {sorted(encoders)}; exactly one T5 is supported")
    hub_codec = read_pickle(found[CODEC_FILE]).get("pretrained")
    return Checkpoint(
        lm=found[LM_FILE],
        codec=found[CODEC_FILE],
        text_encoder=_beside(source, "t5", encoders.pop(), _T5_FILES),
        hub_codec=_beside(source, "encodec", str(hub_codec), _ENCODEC_FILES) if hub_codec else None,
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
    with melody_source():
        lm = audiocraft.models.builders.get_lm_model(config)
    lm.load_state_dict(read_pickle(checkpoint.lm)["best_state"])
    lm.cfg = config
    melody = dict(lm.condition_provider.conditioners.items()).get("self_wav")
    if melody is not None:
        # As audiocraft's own loader does: the melody fills the whole prefix, so there is nothing to mask in it.
        melody.match_len_on_eval, melody._use_masking = True, False
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


def _beside(source: Source, folder: str, published: str, names: tuple[str, ...]) -> Path:
    """The folder of these files: in the checkpoint's own folder, or the hub's files of the published name."""
    beside = source.folder / folder if source.folder else None
    if beside is not None and beside.is_dir():
        return beside
    found, _ = Source.of(published, source.cache).fetch(*names)
    if "model.safetensors" not in found:
        raise refused(
            published, f"it has no model.safetensors; put its files beside the checkpoint, in a folder {folder}"
        )
    return found["model.safetensors"].parent
