"""Open a MusicGen checkpoint: what it is (sizes, revision, licence) at once, its weights when they are asked for.

It may be a folder or a hub's name, in transformers' format or in audiocraft's. The revision is a hash of what the files
hold, not of where they came from, so a folder and a download of the same model make the same tracks with the same ids.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest, shown
from orchestrion.models.musicgen.checkpoint import geometry as checkpoint_geometry
from orchestrion.models.musicgen.checkpoint.files import (
    Source,
    Tensors,
    digest,
    read_json,
    read_pickle,
    read_yaml,
    refused,
)
from orchestrion.models.musicgen.checkpoint.geometry import (
    T5_DIMS,
    Section,
    T5Geometry,
    section_of_json,
    section_of_yaml,
)
from orchestrion.models.musicgen.checkpoint.weights import (
    AUDIOCRAFT_CODEC,
    AUDIOCRAFT_LM,
    ENCODEC,
    HUGGING_FACE_CODEC,
    HUGGING_FACE_LM,
    CodecNames,
    LmNames,
    read_codec,
    read_lm,
)
from orchestrion.models.musicgen.conditioning.text import TextEncoder
from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry
from orchestrion.models.musicgen.weights import CodecWeights, LmWeights

logger = logging.getLogger(__name__)

_Loaded = TypeVar("_Loaded")
_CLOCK: Final = SystemClock()

STATE: Final = "state_dict.bin"
CODEC_STATE: Final = "compression_state_dict.bin"
CONFIG: Final = "config.json"
_GENERATION: Final = "generation_config.json"
TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)
#: Weights of transformers' format, the one to prefer first: whole or, by its index, in several files.
_WHOLE_OR_INDEX: Final = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)

#: Licences as SPDX writes them, by the names that model cards use, and whether they allow commercial use.
_LICENCES: Final = {
    "cc-by-nc-4.0": ("CC-BY-NC-4.0", False),
    "cc-by-nc-sa-4.0": ("CC-BY-NC-SA-4.0", False),
    "cc-by-4.0": ("CC-BY-4.0", True),
    "cc-by-sa-4.0": ("CC-BY-SA-4.0", True),
    "cc0-1.0": ("CC0-1.0", True),
    "apache-2.0": ("Apache-2.0", True),
    "mit": ("MIT", True),
    "bsd-3-clause": ("BSD-3-Clause", True),
}
#: By what the text of a LICENSE file says of itself in its first lines.
_LICENCE_TITLES: Final = {
    "attribution-noncommercial 4.0": "cc-by-nc-4.0",
    "attribution-noncommercial-sharealike 4.0": "cc-by-nc-sa-4.0",
    "attribution 4.0": "cc-by-4.0",
    "attribution-sharealike 4.0": "cc-by-sa-4.0",
    "cc0 1.0": "cc0-1.0",
    "apache license": "apache-2.0",
    "mit license": "mit",
}
#: Of what may be taken from the hub and may have no card in an old cache.
_KNOWN_LICENCES: Final = dict.fromkeys(T5_DIMS, "apache-2.0")
#: What an audiocraft checkpoint may name as its codec; its text encoders are `T5_DIMS`.
KNOWN_CODECS: Final = ("facebook/encodec_24khz", "facebook/encodec_32khz", "facebook/encodec_48khz")
_SHARD: Final = re.compile(r"[\w.-]{1,128}\.(safetensors|bin)")
_MOST_SHARDS: Final = 1000
_LICENCE_NAME: Final = re.compile(r"[\w.+-]{1,64}")
CARD: Final = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE_weights")
UNKNOWN_LICENCE: Final = "unknown"


@dataclass(frozen=True, slots=True)
class _Part:
    """The files of one of the networks, and under which key torch's files have its tensors."""

    files: tuple[Path, ...]
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    """The text encoder's part."""

    part: _Part
    prefix: str
    geometry: T5Geometry
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A MusicGen on disk, opened and checked but not loaded."""

    #: As it was asked for, without the hub's revision.
    name: str
    #: SHA-256 over the content of all files that decide the music: weights, configuration, tokenizer.
    revision: str
    #: The hub's commit; None for a folder.
    commit: str | None
    #: SPDX, or "unknown".
    licence: str
    #: Whether the licence allows commercial use; an unknown one does not.
    commercial_use: bool
    lm: LmGeometry
    codec: CodecGeometry
    _lm_part: _Part
    _lm_names: LmNames
    _codec_part: _Part
    _codec_names: CodecNames
    _text: _Text

    @property
    def text_encoder_bytes(self) -> int:
        """Memory of the text encoder, which stays on the CPU wherever the rest goes."""
        return self._text.geometry.weight_bytes

    def load_lm(self) -> LmWeights:
        """The language model's weights.

        Raises:
            InvalidRequest: files are damaged, or the weights are not those of a MusicGen that we support.
        """
        return self._load("language model", self._lm_part, lambda found: read_lm(found, self._lm_names, self.lm))

    def load_codec(self) -> CodecWeights:
        """The codec's weights. Raises as `load_lm`."""
        return self._load("codec", self._codec_part, lambda found: read_codec(found, self._codec_names, self.codec))

    def load_text(self) -> TextEncoder:
        """The text encoder, ready to run. Raises as `load_lm`."""
        text = self._text
        return self._load(
            "text encoder", text.part, lambda found: TextEncoder(text.geometry, found, text.prefix, text.tokenizer)
        )

    def _load(self, what: str, part: _Part, read: Callable[[Tensors], _Loaded]) -> _Loaded:
        logger.info("loading the %s of %s from %s", what, self.name, ", ".join(file.name for file in part.files))
        began_s = _CLOCK.monotonic_s()
        tensors = Tensors.open(part.files, part.entry)
        loaded = read(tensors)
        took_s = _CLOCK.monotonic_s() - began_s
        logger.info("loaded the %s of %s: %.0f MB in %.1f s", what, self.name, tensors.megabytes, took_s)
        return loaded


def open_checkpoint(source: str, hub_cache: Path | None = None) -> Checkpoint:
    """The checkpoint that `source` names: a folder, `facebook/musicgen-small`, or that with `@` and a revision.

    A name on the hub is downloaded as far as it is needed and not yet in the cache (`hub_cache`; None: where HF_HOME
    says), or taken from the cache alone where HF_HUB_OFFLINE is set.

    Raises:
        InvalidRequest: it cannot be had, cannot be read safely, or is not a MusicGen that we support.
    """
    began_s = _CLOCK.monotonic_s()
    checkpoint = _open(source, hub_cache)
    logger.info(
        "opened %s in %.1f s: revision %s, licence %s, %d layers of %d, %d codebooks",
        checkpoint.name,
        _CLOCK.monotonic_s() - began_s,
        checkpoint.revision[:12],
        checkpoint.licence,
        checkpoint.lm.layers,
        checkpoint.lm.dim,
        checkpoint.lm.codebooks,
    )
    return checkpoint


def _open(source: str, hub_cache: Path | None) -> Checkpoint:
    repository = Repository.at(Source.of(source, hub_cache))
    if CONFIG in repository.found and repository.weights:
        return _open_hugging_face(repository)
    states, _ = repository.place.fetch(STATE, CODEC_STATE)
    if set(states) != {STATE, CODEC_STATE}:
        raise refused(
            source,
            f"it has neither {CONFIG} with model.safetensors (transformers' format) nor {STATE} with {CODEC_STATE}"
            " (audiocraft's); if it was downloaded only in part, download the rest",
        )
    return _open_audiocraft(repository, states)


@dataclass(frozen=True, slots=True)
class Repository:
    """What a folder or a hub's repository has of transformers' format."""

    #: Pinned to the commit, so that what is fetched later is of the same one though the hub's branch moves meanwhile.
    place: Source
    #: All but the weights, by name.
    found: Mapping[str, Path]
    weights: tuple[Path, ...]

    @classmethod
    def at(cls, place: Source) -> Repository:
        """What is there; a hub's files are downloaded."""
        indices = [index for _, index in _WHOLE_OR_INDEX]
        found, commit = place.fetch(CONFIG, _GENERATION, *CARD, *TOKENIZER, *indices)
        pinned = replace(place, revision=commit)
        return cls(pinned, found, _weights(pinned, found) if CONFIG in found else ())

    @classmethod
    def part_of(cls, checkpoint: Repository, folder: str, hub_name: object, known: Collection[str]) -> Repository:
        """What an audiocraft checkpoint takes from elsewhere: a folder beside its own files, or from the hub.

        A checkpoint may name only what is `known` on the hub: its author must not choose what is downloaded.
        """
        beside = checkpoint.place.folder / folder if checkpoint.place.folder else None
        if beside is not None and beside.is_dir():
            place = Source(str(beside), beside, None, checkpoint.place.cache)
        elif isinstance(hub_name, str) and hub_name in known:
            place = Source(hub_name, None, None, checkpoint.place.cache)
        else:
            raise refused(
                checkpoint.place.name,
                f"it takes its {folder} from {shown(hub_name)}, and is trusted to name only {', '.join(sorted(known))};"
                f" if you trust that one, put its files into a folder {folder} beside {STATE}",
            )
        repository = cls.at(place)
        if not repository.weights:
            raise refused(place.name, f"it should have {CONFIG} and model.safetensors, and has not: download it again")
        return repository

    @property
    def config(self) -> Section:
        """The whole configuration."""
        return section_of_json(self.found[CONFIG], read_json(self.found[CONFIG]))

    def deciding(self, *names: str) -> dict[str, Path]:
        """The weights and those of the named files that there are: what the music depends on."""
        named = {name: self.found[name] for name in names if name in self.found}
        return named | {path.name: path for path in self.weights}


def _open_hugging_face(repository: Repository) -> Checkpoint:
    found, config = repository.found, repository.config
    generation = found.get(_GENERATION)
    lengths = section_of_json(generation or found[CONFIG], read_json(generation) if generation else {})
    lm, codec = checkpoint_geometry.hugging_face(config, lengths)
    part = _Part(repository.weights)
    licence, commercial_use = licence_of(repository)
    return Checkpoint(
        name=repository.place.name,
        revision=digest(repository.deciding(CONFIG, _GENERATION, *TOKENIZER)),
        commit=repository.place.revision,
        licence=licence,
        commercial_use=commercial_use,
        lm=lm,
        codec=codec,
        _lm_part=part,
        _lm_names=HUGGING_FACE_LM,
        _codec_part=part,
        _codec_names=HUGGING_FACE_CODEC,
        _text=_Text(
            part, "text_encoder.", checkpoint_geometry.t5(config.section("text_encoder")), found[CONFIG].parent
        ),
    )


def _open_audiocraft(repository: Repository, states: Mapping[str, Path]) -> Checkpoint:
    """Its text encoder, and perhaps its codec, is another repository, or a folder `t5`, `encodec` beside the states."""
    lm_config = section_of_yaml(states[STATE], read_pickle(states[STATE]).get("xp.cfg"))
    codec_package = read_pickle(states[CODEC_STATE])
    parts = [repository]
    deciding = dict(states)
    pretrained = codec_package.get("pretrained")
    if pretrained is None:
        codec_config = section_of_yaml(states[CODEC_STATE], codec_package.get("xp.cfg"))
        codec_part, codec_names = _Part((states[CODEC_STATE],), "best_state"), AUDIOCRAFT_CODEC
    else:
        encodec = Repository.part_of(repository, "encodec", pretrained, KNOWN_CODECS)
        parts.append(encodec)
        codec_config, codec_part, codec_names = encodec.config, _Part(encodec.weights), ENCODEC
        deciding |= {f"encodec/{name}": path for name, path in encodec.deciding(CONFIG).items()}
    lm, codec = checkpoint_geometry.audiocraft(lm_config, codec_config, codec_from_hub=pretrained is not None)

    t5 = Repository.part_of(repository, "t5", checkpoint_geometry.text_encoder_name(lm_config), T5_DIMS)
    parts.append(t5)
    deciding |= {f"t5/{name}": path for name, path in t5.deciding(CONFIG, *TOKENIZER).items()}
    text_geometry = checkpoint_geometry.t5(t5.config)
    if text_geometry.dim != lm.text_dim:
        raise refused(
            t5.found[CONFIG],
            f"its states are {text_geometry.dim} wide, but the model was trained on {lm.text_dim}",
        )
    licence, commercial_use = licence_of(*parts)
    return Checkpoint(
        name=repository.place.name,
        revision=digest(deciding),
        commit=repository.place.revision,
        licence=licence,
        commercial_use=commercial_use,
        lm=lm,
        codec=codec,
        _lm_part=_Part((states[STATE],), "best_state"),
        _lm_names=AUDIOCRAFT_LM,
        _codec_part=codec_part,
        _codec_names=codec_names,
        _text=_Text(_Part(t5.weights), "", text_geometry, t5.found[CONFIG].parent),
    )


def _weights(place: Source, found: Mapping[str, Path]) -> tuple[Path, ...]:
    """The files with the weights in transformers' format; none if there are none."""
    for whole, index in _WHOLE_OR_INDEX:
        names = _shards(found[index]) if index in found else (whole,)
        files, _ = place.fetch(*names)
        if len(files) == len(names):
            return tuple(files.values())
        if index in found:
            raise refused(place.name, f"of the files in {index}, {sorted(set(names) - set(files))} are missing")
    return ()


def _shards(index: Path) -> tuple[str, ...]:
    places = read_json(index).get("weight_map")
    names = set(places.values()) if isinstance(places, dict) and _are_names(places.values()) else set()
    if not 0 < len(names) <= _MOST_SHARDS:
        raise refused(index, "it should have a weight_map from tensors to files beside it; download it again")
    return tuple(sorted(names))


def _are_names(places: Iterable[object]) -> bool:
    """Whether all are files of weights: a name with a folder could lead out of the checkpoint, a pattern to all."""
    return all(isinstance(name, str) and _SHARD.fullmatch(name) for name in places)


def licence_of(whole: Repository, *parts: Repository) -> tuple[str, bool]:
    """The licences of a checkpoint and of what it takes from elsewhere, and whether all of them allow commercial use.

    One that we do not know does not. What lies in the checkpoint's own folder and says nothing is under its licence.
    """
    own = _declared_licence(whole.found)
    declared = [own or UNKNOWN_LICENCE]
    for part in parts:
        inherited = own if part.place.folder else _KNOWN_LICENCES.get(part.place.name)
        declared.append(_declared_licence(part.found) or inherited or UNKNOWN_LICENCE)
    known = [_LICENCES.get(name.lower(), (name, False)) for name in declared]
    return " AND ".join(dict.fromkeys(name for name, _ in known)), all(commercial_use for _, commercial_use in known)


def _declared_licence(found: Mapping[str, Path]) -> str | None:
    """What the model card says, else what the LICENSE file is by its title; None if neither says anything."""
    if "README.md" in found:
        declared = _front_matter(found["README.md"]).get("license")
        if isinstance(declared, str) and _LICENCE_NAME.fullmatch(declared):
            return declared
    for name in CARD[1:]:
        if name in found:
            head = " ".join(found[name].read_text(errors="replace")[:400].lower().split())
            return next((licence for title, licence in _LICENCE_TITLES.items() if title in head), UNKNOWN_LICENCE)
    return None


def _front_matter(readme: Path) -> Mapping[str, object]:
    """The YAML between the first two lines of `---`, where model cards have their metadata."""
    text = readme.read_text(errors="replace")
    if not text.startswith("---\n"):
        return {}
    try:
        metadata = read_yaml(readme, text[4:].partition("\n---")[0])
    except InvalidRequest:
        return {}
    return metadata if isinstance(metadata, dict) else {}
