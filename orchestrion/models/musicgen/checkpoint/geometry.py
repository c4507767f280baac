"""From a checkpoint's configuration to its geometry, in both formats; refuses what our decoder would get wrong.

A model that differs in a setting loads and makes noise, so each setting that bears on the arithmetic is either read or
required to have the one value that we support. What shows in the tensors (biases, norms of queries and keys) is caught
there as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrion.errors import InvalidRequest, shown
from orchestrion.models.musicgen.checkpoint.files import read_yaml, refused
from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry

#: No size of a real model comes near these; they keep a made-up configuration from asking for all memory.
_LARGEST: Final = 1 << 20
_MOST_LAYERS: Final = 512
#: Of a convolution's kernel, its dilation, a change of rate, a codebook's delay, and how many of them there are.
_LONGEST_KERNEL: Final = 64
_MOST_STAGES: Final = 8
_LONGEST_WINDOW_S: Final = 300.0
_MOST_CHROMA_FRAMES: Final = 4096
_FRAME_RATES_HZ: Final = (1.0, 1000.0)
#: A reference to another value of the configuration; what else OmegaConf puts in `${}` reads what is not in it.
INTERPOLATION: Final = re.compile(r"\$\{([\w.]+)\}")

# transformers leaves out of a nested configuration what equals its default.
DECODER_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 2048,
    "num_hidden_layers": 24,
    "ffn_dim": 4096,
    "num_attention_heads": 16,
    "hidden_size": 1024,
    "num_codebooks": 4,
    "audio_channels": 1,
    "activation_function": "gelu",
    "scale_embedding": False,
}
ENCODEC_DEFAULTS: Final[dict[str, Any]] = {
    "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
    "sampling_rate": 24_000,
    "audio_channels": 1,
    "normalize": False,
    "chunk_length_s": None,
    "hidden_size": 128,
    "num_filters": 32,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "norm_type": "weight_norm",
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "use_causal_conv": True,
    "pad_mode": "reflect",
    "compress": 2,
    "num_lstm_layers": 2,
    "codebook_size": 1024,
    "use_conv_shortcut": True,
}
T5_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}
MELODY_DEFAULTS: Final[dict[str, Any]] = {"num_chroma": 12, "chroma_length": 235}
#: What audiocraft may name as its text encoder, and the width of its states. All are under Apache-2.0.
T5_DIMS: Final = {
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "google/flan-t5-small": 512,
    "google/flan-t5-base": 768,
    "google/flan-t5-large": 1024,
}
#: generation_config.json's length of the published models: 30 s of 50 frames.
_PUBLISHED_MAX_LENGTH: Final = 1500

#: The chroma that `melody.py` makes: windows of 2 ** 14 samples, a quarter of that apart.
_CHROMA_WINDOW_EXPONENT: Final = 14
_CHROMA_HOP: Final = 2**_CHROMA_WINDOW_EXPONENT // 4


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a configuration, with its place in the file for messages."""

    where: Path
    name: str
    values: Mapping[str, Any]
    #: What `${a.b}` in audiocraft's YAML is looked up in.
    root: Mapping[str, Any]

    def get(self, key: str, default: object = None) -> Any:  # noqa: ANN401 (what YAML holds)
        """The value of `key`, with a reference to another value followed."""
        value = self.values.get(key, default)
        # A reference may point at one; none that OmegaConf writes goes deeper.
        for _ in range(4):
            reference = INTERPOLATION.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                break
            value = self.root
            for part in reference[1].split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def section(self, key: str, defaults: Mapping[str, Any] | None = None) -> Section:
        """A part of this part ("" for the whole), with defaults for what it does not say."""
        values = self.get(key, {}) if key else self.values
        if not isinstance(values, Mapping):
            raise self._bad(key, "a group of settings")
        return Section(self.where, self._of(key), {**(defaults or {}), **values}, self.root)

    def size(self, key: str, default: int | None = None, *, at_least: int = 1, at_most: int = _LARGEST) -> int:
        """A whole number within sane limits."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            raise self._bad(key, f"a whole number from {at_least} to {at_most}")
        return value

    def sizes(self, key: str, *, at_least: int, most: int) -> tuple[int, ...]:
        """A list of such, each at most `_LONGEST_KERNEL`: not empty, and at most so many."""
        values = self.get(key)
        whole = isinstance(values, list) and all(type(v) is int and at_least <= v <= _LONGEST_KERNEL for v in values)
        if not whole or not 1 <= len(values) <= most:
            raise self._bad(key, f"a list of up to {most} whole numbers from {at_least} to {_LONGEST_KERNEL}")
        return tuple(values)

    def flag(self, key: str) -> bool:
        """True or false; absent is false."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            raise self._bad(key, "true or false")
        return value

    def choice(self, key: str, *known: str) -> str:
        """One of the known words."""
        value = self.get(key)
        if value not in known:
            raise self._bad(key, " or ".join(known))
        return str(value)

    def number(self, key: str) -> float:
        """A positive number."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
            raise self._bad(key, "a positive number")
        return float(value)

    def require(self, **expected: object) -> None:
        """Make sure that each setting is absent or as expected: nothing else is supported."""
        for key, wanted in expected.items():
            if self.get(key, wanted) != wanted:
                raise self._bad(key, repr(wanted))

    def _bad(self, key: str, supported: str) -> InvalidRequest:
        value = shown(self.get(key))
        return refused(self.where, f"{self._of(key)} is {value}, and supported is {supported}")

    def _of(self, key: str) -> str:
        return ".".join(filter(None, (self.name, key)))


@dataclass(frozen=True, slots=True)
class T5Geometry:
    """The sizes of the text encoder."""

    vocabulary: int
    dim: int
    head_dim: int
    ffn_dim: int
    layers: int
    heads: int
    distance_buckets: int
    farthest_distance: int
    norm_epsilon: float
    #: "relu", or "gated-gelu" of the flan models.
    feed_forward: str

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights in float32, but for the norms and the table of distances."""
        matrices = 2 if self.feed_forward == "relu" else 3
        layer = self.dim * (4 * self.heads * self.head_dim + matrices * self.ffn_dim)
        return 4 * (self.vocabulary * self.dim + self.layers * layer)


def section_of_yaml(where: Path, text: object) -> Section:
    """The training configuration of audiocraft, which lies as YAML in its checkpoints."""
    values = read_yaml(where, text) if isinstance(text, str) else None
    if not isinstance(values, dict):
        raise refused(where, "it has no entry xp.cfg with audiocraft's configuration: not one of audiocraft's exports")
    return Section(where, "", values, values)


def section_of_json(where: Path, values: Mapping[str, Any]) -> Section:
    """A configuration as transformers writes them."""
    return Section(where, "", values, values)


# --- Hugging Face ----------------------------------------------------------------------------------------------------


def hugging_face(config: Section, generation: Section) -> tuple[LmGeometry, CodecGeometry]:
    """The two of a `MusicgenForConditionalGeneration` or `MusicgenMelodyForConditionalGeneration`.

    Raises:
        InvalidRequest: it is another model, or one with parts that are not supported.
    """
    melody = config.get("model_type") == "musicgen_melody"
    if not melody:
        config.require(model_type="musicgen")
    decoder = config.section("decoder", DECODER_DEFAULTS)
    decoder.require(activation_function="gelu", scale_embedding=False, cross_attention_hidden_size=None)
    codebooks, channels = decoder.size("num_codebooks", at_most=64), decoder.size("audio_channels", at_most=2)
    codec = encodec(config.section("audio_encoder"), codebooks // channels, channels)
    lm = LmGeometry(
        dim=decoder.size("hidden_size"),
        heads=decoder.size("num_attention_heads"),
        layers=decoder.size("num_hidden_layers", at_most=_MOST_LAYERS),
        ffn_dim=decoder.size("ffn_dim"),
        codebooks=codebooks,
        card=decoder.size("vocab_size"),
        # transformers has the pattern in its code: the channels of one codebook lag alike.
        delays=tuple(q // channels for q in range(codebooks)),
        text_dim=config.section("text_encoder", T5_DEFAULTS).size("d_model"),
        text_in_prefix=melody,
        chroma_bins=config.size("num_chroma", MELODY_DEFAULTS["num_chroma"]) if melody else 0,
        chroma_frames=config.size("chroma_length", MELODY_DEFAULTS["chroma_length"], at_most=_MOST_CHROMA_FRAMES)
        if melody
        else 0,
        window_s=generation.size("max_length", _PUBLISHED_MAX_LENGTH) / codec.frame_rate_hz,
    )
    return _checked(config.where, lm, codec)


def encodec(config: Section, codebooks: int, channels: int) -> CodecGeometry:
    """An `EncodecModel` of which the language model uses so many codebooks, once for each channel."""
    codec = config.section("", ENCODEC_DEFAULTS)
    codec.require(model_type="encodec", audio_channels=1, normalize=False, use_causal_conv=False, chunk_length_s=None)
    codec.require(norm_type="weight_norm", codebook_dim=codec.get("hidden_size"))
    return CodecGeometry(
        sample_rate_hz=codec.size("sampling_rate"),
        channels=channels,
        codebooks=codebooks,
        card=codec.size("codebook_size"),
        dim=codec.size("hidden_size"),
        filters=codec.size("num_filters"),
        ratios=codec.sizes("upsampling_ratios", at_least=1, most=_MOST_STAGES),
        kernel=codec.size("kernel_size", at_most=_LONGEST_KERNEL),
        last_kernel=codec.size("last_kernel_size", at_most=_LONGEST_KERNEL),
        residual_kernel=codec.size("residual_kernel_size", at_most=_LONGEST_KERNEL),
        residual_layers=codec.size("num_residual_layers", at_least=0, at_most=_MOST_STAGES),
        dilation_base=codec.size("dilation_growth_rate", at_most=_LONGEST_KERNEL),
        compress=codec.size("compress"),
        lstm_layers=codec.size("num_lstm_layers", at_least=0, at_most=_MOST_STAGES),
        identity_skip=not codec.flag("use_conv_shortcut"),
        pad_mode=codec.choice("pad_mode", "constant", "reflect"),
    )


# --- audiocraft ------------------------------------------------------------------------------------------------------


def audiocraft(lm_config: Section, codec_config: Section, *, codec_from_hub: bool) -> tuple[LmGeometry, CodecGeometry]:
    """The two of audiocraft's own export; its codec is audiocraft's too, or transformers' (`codec_from_hub`).

    Raises:
        InvalidRequest: it is another model (AudioGen with other conditions, MAGNeT, JASCO), or has parts that are
            not supported.
    """
    lm_config.require(lm_model="transformer_lm")
    channels = _channels(lm_config)
    transformer = lm_config.section("transformer_lm")
    transformer.require(activation="gelu", norm="layer_norm", norm_first=True, causal=True, past_context=None)
    transformer.require(positional_embedding="sin", max_period=10_000, positional_scale=1.0)
    transformer.require(qk_layer_norm=False, qk_layer_norm_cross=False, layer_scale=None, kv_repeat=1)
    transformer.require(bias_ff=False, bias_attn=False, bias_proj=False)
    codebooks = transformer.size("n_q", at_most=64)
    codec = (
        encodec(codec_config, codebooks // channels, channels)
        if codec_from_hub
        else _audiocraft_codec(codec_config, codebooks // channels, channels)
    )
    window_s = lm_config.section("dataset").number("segment_duration")
    melody = _is_melody(lm_config)
    dim = transformer.size("dim")
    lm = LmGeometry(
        dim=dim,
        heads=transformer.size("num_heads"),
        layers=transformer.size("num_layers", at_most=_MOST_LAYERS),
        ffn_dim=int(transformer.number("hidden_scale") * dim),
        codebooks=codebooks,
        card=transformer.size("card"),
        delays=_delays(lm_config),
        text_dim=_text_dim(lm_config),
        text_in_prefix=melody,
        chroma_bins=_chroma_bins(lm_config) if melody else 0,
        chroma_frames=1 + int(window_s * codec.sample_rate_hz) // _CHROMA_HOP if melody else 0,
        window_s=window_s,
    )
    return _checked(lm_config.where, lm, codec)


def text_encoder_name(lm_config: Section) -> str:
    """The hub's name of the T5 whose states an audiocraft model was trained on."""
    return _t5(lm_config).choice("name", *T5_DIMS)


def _channels(lm_config: Section) -> int:
    """Stereo is two mono codecs, their codebooks side by side."""
    stereo = lm_config.section("interleave_stereo_codebooks")
    stereo.require(per_timestep=False)
    return 2 if stereo.flag("use") else 1


def _delays(lm_config: Section) -> tuple[int, ...]:
    pattern = lm_config.section("codebooks_pattern")
    pattern.require(modeling="delay")
    delay = pattern.section("delay")
    delay.require(flatten_first=0, empty_initial=0)
    return delay.sizes("delays", at_least=0, most=64)


def _is_melody(lm_config: Section) -> bool:
    """Whether the conditions are chroma and text before the codes, rather than text alone, cross-attended to."""
    conditioners = lm_config.section("conditioners")
    fuser = lm_config.section("fuser")
    fuser.require(sum=[], input_interpolate=[], cross_attention_pos_emb=False)
    melody = bool(fuser.get("prepend"))
    # `args` holds settings of all of them, not a condition.
    known = {"description", "self_wav", "args"} if melody else {"description", "args"}
    if unknown := set(conditioners.values) - known:
        raise refused(lm_config.where, f"the conditions {sorted(map(str, unknown))} are not supported")
    if melody:
        fuser.require(prepend=["self_wav", "description"], cross=[])
    else:
        fuser.require(prepend=[], cross=["description"])
    return melody


def _t5(lm_config: Section) -> Section:
    description = lm_config.section("conditioners").section("description")
    description.require(model="t5")
    t5 = description.section("t5")
    t5.require(normalize_text=False, finetune=False)
    return t5


def _text_dim(lm_config: Section) -> int:
    return T5_DIMS[text_encoder_name(lm_config)]


def _chroma_bins(lm_config: Section) -> int:
    self_wav = lm_config.section("conditioners").section("self_wav")
    self_wav.require(model="chroma_stem")
    chroma = self_wav.section("chroma_stem")
    chroma.require(radix2_exp=_CHROMA_WINDOW_EXPONENT, argmax=True, sample_rate=lm_config.get("sample_rate"))
    chroma.require(nfft=None, winlen=None, winhop=None)
    return chroma.size("n_chroma")


def _audiocraft_codec(config: Section, codebooks: int, channels: int) -> CodecGeometry:
    config.require(compression_model="encodec")
    codec, seanet = config.section("encodec"), config.section("seanet")
    codec.require(autoencoder="seanet", quantizer="rvq", channels=1, causal=False, renormalize=False)
    seanet.require(channels=1, causal=False, activation="ELU", activation_params={"alpha": 1.0}, encoder={})
    seanet.section("decoder").require(final_activation=None, trim_right_ratio=1.0)
    if own := set(seanet.section("decoder").values) - {
        "final_activation",
        "final_activation_params",
        "trim_right_ratio",
    }:
        raise refused(config.where, f"seanet.decoder has settings of its own that are not supported: {sorted(own)}")
    seanet.choice("norm", "weight_norm", "none")
    return CodecGeometry(
        sample_rate_hz=codec.size("sample_rate"),
        channels=channels,
        codebooks=codebooks,
        card=config.section("rvq").size("bins"),
        dim=seanet.size("dimension"),
        filters=seanet.size("n_filters"),
        ratios=seanet.sizes("ratios", at_least=1, most=_MOST_STAGES),
        kernel=seanet.size("kernel_size", at_most=_LONGEST_KERNEL),
        last_kernel=seanet.size("last_kernel_size", at_most=_LONGEST_KERNEL),
        residual_kernel=seanet.size("residual_kernel_size", at_most=_LONGEST_KERNEL),
        residual_layers=seanet.size("n_residual_layers", at_least=0, at_most=_MOST_STAGES),
        dilation_base=seanet.size("dilation_base", at_most=_LONGEST_KERNEL),
        compress=seanet.size("compress"),
        lstm_layers=seanet.size("lstm", at_least=0, at_most=_MOST_STAGES),
        identity_skip=seanet.flag("true_skip"),
        pad_mode=seanet.choice("pad_mode", "constant", "reflect"),
    )


# --- T5 --------------------------------------------------------------------------------------------------------------


def t5(config: Section) -> T5Geometry:
    """The text encoder, from its own configuration or from the part of transformers' that is about it."""
    values = config.section("", T5_DEFAULTS)
    values.require(model_type="t5")
    return T5Geometry(
        vocabulary=values.size("vocab_size"),
        dim=values.size("d_model"),
        head_dim=values.size("d_kv"),
        ffn_dim=values.size("d_ff"),
        layers=values.size("num_layers", at_most=_MOST_LAYERS),
        heads=values.size("num_heads"),
        distance_buckets=(buckets := values.size("relative_attention_num_buckets", at_least=4)),
        farthest_distance=values.size("relative_attention_max_distance", at_least=buckets // 2 + 1),
        norm_epsilon=values.number("layer_norm_epsilon"),
        feed_forward=values.choice("feed_forward_proj", "relu", "gated-gelu"),
    )


def _checked(where: Path, lm: LmGeometry, codec: CodecGeometry) -> tuple[LmGeometry, CodecGeometry]:
    """The two, made sure that they fit together."""
    slowest_hz, fastest_hz = _FRAME_RATES_HZ
    if not slowest_hz <= codec.frame_rate_hz <= fastest_hz:
        raise refused(where, f"a codec of {codec.frame_rate_hz:g} frames a second is none of a MusicGen")
    if lm.window_s > _LONGEST_WINDOW_S:
        raise refused(where, f"a window of {lm.window_s:g} s is longer than {_LONGEST_WINDOW_S:g} s")
    if lm.dim % (2 * lm.heads):
        raise refused(where, f"a width of {lm.dim} cannot be shared by {lm.heads} heads of even width")
    if len(lm.delays) != lm.codebooks or lm.delays[0] != 0 or list(lm.delays) != sorted(lm.delays):
        raise refused(where, f"{lm.codebooks} codebooks cannot lag by {list(lm.delays)}: one each, ascending from 0")
    if lm.codebooks != codec.codebooks * codec.channels or lm.card != codec.card:
        raise refused(
            where,
            f"the language model has {lm.codebooks} codebooks of {lm.card} codes, the codec has {codec.card} codes for"
            f" each of {codec.channels} channels: they are not of one model",
        )
    return lm, codec
