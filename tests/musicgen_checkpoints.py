"""Random MusicGens, tiny and of the published sizes, for where no real checkpoint can be had.

In memory (`random_lm`, `random_codec`) and as files in both formats that MusicGen comes in. The same seed gives the
same model in either format. `python -m tests.musicgen_checkpoints out/tiny` writes one to serve.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from orchestrion.models.musicgen.geometry import CodecGeometry, LmGeometry
from orchestrion.models.musicgen.weights import (
    CodecWeights,
    Conv,
    CrossAttentionWeights,
    LayerWeights,
    LmWeights,
    LstmLayer,
    Norm,
    Projection,
    Residual,
    Seanet,
    Stage,
)

MONO_DELAYS = (0, 1, 2, 3)
STEREO_DELAYS = (0, 0, 1, 1, 2, 2, 3, 3)


def lm_geometry(
    dim: int, heads: int, layers: int, *, text_dim: int = 768, stereo: bool = False, melody: bool = False
) -> LmGeometry:
    return LmGeometry(
        dim=dim,
        heads=heads,
        layers=layers,
        ffn_dim=4 * dim,
        codebooks=8 if stereo else 4,
        card=2048,
        delays=STEREO_DELAYS if stereo else MONO_DELAYS,
        text_dim=text_dim,
        text_in_prefix=melody,
        chroma_bins=12 if melody else 0,
        chroma_frames=235 if melody else 0,
        window_s=30.0,
    )


TINY = lm_geometry(64, 4, 2, text_dim=512)
TINY_STEREO = lm_geometry(64, 4, 2, text_dim=512, stereo=True)
TINY_MELODY = lm_geometry(64, 4, 2, text_dim=512, melody=True)
SMALL = lm_geometry(1024, 16, 24)


def codec_geometry(filters: int, channels: int = 1) -> CodecGeometry:
    return CodecGeometry(
        sample_rate_hz=32_000,
        channels=channels,
        codebooks=4,
        card=2048,
        dim=128,
        filters=filters,
        ratios=(8, 5, 4, 4),
        kernel=7,
        last_kernel=7,
        residual_kernel=3,
        residual_layers=1,
        dilation_base=2,
        compress=2,
        lstm_layers=2,
        identity_skip=True,
        pad_mode="constant",
    )


TINY_CODEC = codec_geometry(8)
PUBLISHED_CODEC = codec_geometry(64)


class Draw:
    """Reproducible weights, scaled so that signals neither die nor explode on their way through the layers."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def linear(self, outputs: int, inputs: int) -> torch.Tensor:
        return self.normal(outputs, inputs, scale=inputs**-0.5)

    def norm(self, dim: int) -> Norm:
        return Norm(1 + self.normal(dim, scale=0.1), self.normal(dim, scale=0.1))

    def projection(self, outputs: int, inputs: int) -> Projection:
        return Projection(self.linear(outputs, inputs), self.normal(outputs, scale=0.02))

    def conv(self, outputs: int, inputs: int, kernel: int) -> Conv:
        return Conv(
            self.normal(outputs, inputs, kernel, scale=(inputs * kernel) ** -0.5), self.normal(outputs, scale=0.02)
        )


def random_lm(geometry: LmGeometry, seed: int = 7) -> LmWeights:
    """Weights whose greedy tokens vary from step to step, as a trained model's do."""
    draw, dim = Draw(seed), geometry.dim

    def cross() -> CrossAttentionWeights:
        return CrossAttentionWeights(draw.norm(dim), *(draw.linear(dim, dim) for _ in range(4)))

    layers = tuple(
        LayerWeights(
            attention_norm=draw.norm(dim),
            qkv=draw.linear(3 * dim, dim),
            out=draw.linear(dim, dim),
            cross=None if geometry.text_in_prefix else cross(),
            feed_forward_norm=draw.norm(dim),
            up=draw.linear(geometry.ffn_dim, dim),
            down=draw.linear(dim, geometry.ffn_dim),
        )
        for _ in range(geometry.layers)
    )
    return LmWeights(
        embeddings=draw.normal(geometry.codebooks, geometry.card + 1, dim, scale=2.0),
        layers=layers,
        out_norm=draw.norm(dim),
        heads=draw.normal(geometry.codebooks, geometry.card, dim, scale=0.2),
        text=draw.projection(dim, geometry.text_dim),
        chroma=draw.projection(dim, geometry.chroma_bins) if geometry.chroma_bins else None,
    )


def random_codec(geometry: CodecGeometry, seed: int = 11) -> CodecWeights:
    draw = Draw(seed)

    def residual(width: int) -> Residual:
        inner = width // geometry.compress
        return Residual(draw.conv(inner, width, geometry.residual_kernel), draw.conv(width, inner, 1), None)

    def lstm(width: int) -> tuple[LstmLayer, ...]:
        return tuple(
            LstmLayer(
                draw.linear(4 * width, width),
                draw.linear(4 * width, width),
                draw.normal(4 * width, scale=0.02),
                draw.normal(4 * width, scale=0.02),
            )
            for _ in range(geometry.lstm_layers)
        )

    widest = geometry.filters * 2 ** len(geometry.ratios)
    down, up, width = [], [], geometry.filters
    for ratio in reversed(geometry.ratios):
        residuals = tuple(residual(width) for _ in range(geometry.residual_layers))
        down.append(Stage(draw.conv(2 * width, width, 2 * ratio), residuals))
        width *= 2
    for ratio in geometry.ratios:
        width //= 2
        # A transposed convolution sums two taps per output, whatever its kernel.
        transposed = Conv(
            draw.normal(2 * width, width, 2 * ratio, scale=(4 * width) ** -0.5), draw.normal(width, scale=0.02)
        )
        up.append(Stage(transposed, tuple(residual(width) for _ in range(geometry.residual_layers))))
    return CodecWeights(
        codebooks=draw.normal(geometry.codebooks, geometry.card, geometry.dim, scale=1.0),
        encoder=Seanet(
            draw.conv(geometry.filters, 1, geometry.kernel),
            lstm(widest),
            tuple(down),
            draw.conv(geometry.dim, widest, geometry.last_kernel),
        ),
        decoder=Seanet(
            draw.conv(widest, geometry.dim, geometry.kernel),
            lstm(widest),
            tuple(up),
            without_offset(draw.conv(1, geometry.filters, geometry.last_kernel)),
        ),
    )


def without_offset(conv: Conv) -> Conv:
    """Its taps sum to nothing: like music, what comes out swings around zero, and the quality gate lets it pass."""
    return Conv(conv.weight - conv.weight.mean(dim=2, keepdim=True), torch.zeros_like(conv.bias))


# --- Files ---------------------------------------------------------------------------------------------------------

#: Words of the made-up tokenizer; whatever else a prompt has is spelt by characters.
WORDS = [
    "happy", "sad", "slow", "fast", "dark", "bright", "warm", "calm", "ambient", "rock", "pop", "jazz", "lofi",
    "techno", "reggae", "house", "folk", "funk", "metal", "blues", "song", "beat", "track", "loop", "piano",
    "guitar", "electric", "bass", "drums", "strings", "choir", "synth", "violin", "flute", "organ", "with", "and",
    "a", "the", "of", "in", "80s", "90s", "minor", "major",
]  # fmt: skip
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"

#: The published text encoder of each width that audiocraft knows, and the sizes we make it with.
T5_NAMES = {512: "t5-small", 768: "t5-base"}
T5_SIZES = {
    512: {"vocab_size": 256, "d_model": 512, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2},
    768: {"vocab_size": 32128, "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12, "num_layers": 12},
}
MODEL_CARD = "---\nlicense: {licence}\ntags:\n- musicgen\n---\nRandom weights: a test's stand-in for a MusicGen.\n"

Tensors = dict[str, torch.Tensor]


def random_t5(text_dim: int, seed: int = 13) -> Tensors:
    """A T5 encoder's tensors by transformers' names."""
    draw, size = Draw(seed), T5_SIZES[text_dim]
    dim, inner = size["d_model"], size["num_heads"] * size["d_kv"]
    tensors = {"shared.weight": draw.normal(size["vocab_size"], dim, scale=1.0)}
    for n in range(size["num_layers"]):
        attention, feed_forward = f"encoder.block.{n}.layer.0", f"encoder.block.{n}.layer.1"
        # T5 does not divide the scores by the root of the width: its queries are that much smaller.
        tensors[f"{attention}.SelfAttention.q.weight"] = draw.linear(inner, dim) * size["d_kv"] ** -0.5
        for name in "kv":
            tensors[f"{attention}.SelfAttention.{name}.weight"] = draw.linear(inner, dim)
        tensors[f"{attention}.SelfAttention.o.weight"] = draw.linear(dim, inner)
        tensors[f"{attention}.layer_norm.weight"] = 1 + draw.normal(dim, scale=0.1)
        tensors[f"{feed_forward}.DenseReluDense.wi.weight"] = draw.linear(size["d_ff"], dim)
        tensors[f"{feed_forward}.DenseReluDense.wo.weight"] = draw.linear(dim, size["d_ff"])
        tensors[f"{feed_forward}.layer_norm.weight"] = 1 + draw.normal(dim, scale=0.1)
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    tensors[bias] = draw.normal(32, size["num_heads"], scale=0.5)
    tensors["encoder.final_layer_norm.weight"] = 1 + draw.normal(dim, scale=0.1)
    return tensors


def t5_config(text_dim: int) -> dict:
    return {
        "model_type": "t5",
        "architectures": ["T5EncoderModel"],
        **T5_SIZES[text_dim],
        "num_decoder_layers": T5_SIZES[text_dim]["num_layers"],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "relu",
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.1,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "is_encoder_decoder": False,
        "use_cache": False,
        "tie_word_embeddings": True,
    }


def write_tokenizer(folder: Path, text_dim: int) -> None:
    """A T5 tokenizer that knows `WORDS` whole and everything else by its letters, filled up to its model's size."""
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    words = [(f"▁{word}", -3.0) for word in WORDS]
    letters = [(letter, -6.0) for letter in CHARACTERS]
    known, marks = special + words + letters, 100
    filling = [(f"▁nonsense{n}", -20.0) for n in range(T5_SIZES[text_dim]["vocab_size"] - len(known) - marks)]
    T5Tokenizer(vocab=known + filling, extra_ids=marks, model_max_length=512).save_pretrained(folder)


def write_t5(folder: Path, text_dim: int, seed: int = 13) -> Path:
    """A text encoder with its tokenizer, as the hub has `t5-base`; `folder` itself is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", t5_config(text_dim))
    save_file(random_t5(text_dim, seed), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, text_dim)
    return folder


def write_hub_cache(home: Path, name: str, snapshot: Path, commit: str = "0" * 40) -> Path:
    """Put the files of `snapshot` where the hub's client looks for `name` under HF_HOME=`home`; gives the cache."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    target = repository / "snapshots" / commit
    shutil.copytree(snapshot, target)
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return home / "hub"


def write_audiocraft(
    folder: Path,
    lm: LmGeometry,
    codec: CodecGeometry,
    seed: int = 7,
    *,
    half: bool = False,
    codec_from_hub: str | None = None,
    licence: str = "cc-by-nc-4.0",
) -> Path:
    """A checkpoint as audiocraft exports it, its text encoder beside it in `t5`.

    Published ones are `half` and, if stereo, take their codec from the hub (`codec_from_hub`, then in `encodec`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = audiocraft_lm(random_lm(lm, seed))
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    about = {"version": "1.3.0", "exported": True}
    torch.save(
        {"best_state": state, "xp.cfg": yaml.safe_dump(_lm_config(lm, codec)), **about}, folder / "state_dict.bin"
    )
    weights = random_codec(codec, seed + 4)
    if codec_from_hub:
        torch.save({"pretrained": codec_from_hub, **about}, folder / "compression_state_dict.bin")
        write_encodec(folder / "encodec", weights, codec)
    else:
        package = {"best_state": audiocraft_codec(weights), "xp.cfg": yaml.safe_dump(_codec_config(codec)), **about}
        torch.save(package, folder / "compression_state_dict.bin")
    write_t5(folder / "t5", lm.text_dim, seed + 6)
    (folder / "README.md").write_text(MODEL_CARD.format(licence=licence))
    return folder


def write_encodec(folder: Path, weights: CodecWeights, codec: CodecGeometry) -> Path:
    """The codec alone, as the hub has `facebook/encodec_32khz`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", {"architectures": ["EncodecModel"], **_encodec_config(codec)})
    save_file(hugging_face_codec(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_hugging_face(
    folder: Path,
    lm: LmGeometry,
    codec: CodecGeometry,
    seed: int = 7,
    *,
    half: bool = False,
    old_weight_norm: bool = False,
    shards: int = 1,
    licence: str = "cc-by-nc-4.0",
) -> Path:
    """The same model as `write_audiocraft` of this seed makes, as transformers saves it.

    `old_weight_norm` names the codec's tensors as transformers did until 4.38, which the published files still have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = hugging_face_lm(random_lm(lm, seed))
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    codec_tensors = hugging_face_codec(random_codec(codec, seed + 4), old_weight_norm=old_weight_norm)
    tensors |= {f"audio_encoder.{name}": tensor for name, tensor in codec_tensors.items()}
    tensors |= {f"text_encoder.{name}": tensor for name, tensor in random_t5(lm.text_dim, seed + 6).items()}
    _write_safetensors(folder, tensors, shards)
    _write_json(folder / "config.json", _hugging_face_config(lm, codec))
    generation = {
        "bos_token_id": lm.card,
        "pad_token_id": lm.card,
        "decoder_start_token_id": lm.card,
        "do_sample": True,
        "guidance_scale": 3.0,
        "max_length": round(lm.window_s * codec.frame_rate_hz),
    }
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(lm, codec))
    write_tokenizer(folder, lm.text_dim)
    (folder / "README.md").write_text(MODEL_CARD.format(licence=licence))
    return folder


# --- Tensors by the two formats' names -----------------------------------------------------------------------------


def audiocraft_lm(weights: LmWeights) -> Tensors:
    tensors = _norm("out_norm", weights.out_norm)
    tensors |= _projection("condition_provider.conditioners.description.output_proj", weights.text)
    if weights.chroma is not None:
        tensors |= _projection("condition_provider.conditioners.self_wav.output_proj", weights.chroma)
        # torchaudio's spectrogram is part of the exported model.
        tensors["condition_provider.conditioners.self_wav.chroma.spec.window"] = torch.hann_window(2**14)
    for q, (embedding, head) in enumerate(zip(weights.embeddings, weights.heads, strict=True)):
        tensors |= {f"emb.{q}.weight": embedding.clone(), f"linears.{q}.weight": head.clone()}
    for n, layer in enumerate(weights.layers):
        at = f"transformer.layers.{n}"
        tensors |= _norm(f"{at}.norm1", layer.attention_norm) | _norm(f"{at}.norm2", layer.feed_forward_norm)
        tensors[f"{at}.self_attn.in_proj_weight"] = layer.qkv
        tensors[f"{at}.self_attn.out_proj.weight"] = layer.out
        tensors |= {f"{at}.linear1.weight": layer.up, f"{at}.linear2.weight": layer.down}
        if layer.cross is not None:
            tensors |= _norm(f"{at}.norm_cross", layer.cross.norm)
            fused = torch.cat([layer.cross.query, layer.cross.key, layer.cross.value])
            tensors[f"{at}.cross_attention.in_proj_weight"] = fused
            tensors[f"{at}.cross_attention.out_proj.weight"] = layer.cross.out
    return tensors


def hugging_face_lm(weights: LmWeights) -> Tensors:
    tensors = _norm("decoder.model.decoder.layer_norm", weights.out_norm)
    tensors |= _projection("enc_to_dec_proj", weights.text)
    if weights.chroma is not None:
        tensors |= _projection("audio_enc_to_dec_proj", weights.chroma)
    for q, (embedding, head) in enumerate(zip(weights.embeddings, weights.heads, strict=True)):
        tensors[f"decoder.model.decoder.embed_tokens.{q}.weight"] = embedding.clone()
        tensors[f"decoder.lm_heads.{q}.weight"] = head.clone()
    for n, layer in enumerate(weights.layers):
        at = f"decoder.model.decoder.layers.{n}"
        tensors |= _norm(f"{at}.self_attn_layer_norm", layer.attention_norm)
        tensors |= _norm(f"{at}.final_layer_norm", layer.feed_forward_norm)
        tensors |= _attention(f"{at}.self_attn", *layer.qkv.chunk(3), layer.out)
        tensors |= {f"{at}.fc1.weight": layer.up, f"{at}.fc2.weight": layer.down}
        if layer.cross is not None:
            cross = layer.cross
            tensors |= _norm(f"{at}.encoder_attn_layer_norm", cross.norm)
            tensors |= _attention(f"{at}.encoder_attn", cross.query, cross.key, cross.value, cross.out)
    return tensors


def audiocraft_codec(weights: CodecWeights) -> Tensors:
    tensors = _seanets(weights, "model", "conv.conv", "convtr.convtr", ("weight_g", "weight_v"))
    return tensors | _codebooks("quantizer.vq.layers.{}._codebook", weights)


def hugging_face_codec(weights: CodecWeights, *, old_weight_norm: bool = False) -> Tensors:
    new = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    tensors = _seanets(weights, "layers", "conv", "conv", ("weight_g", "weight_v") if old_weight_norm else new)
    return tensors | _codebooks("quantizer.layers.{}.codebook", weights)


def _norm(name: str, norm: Norm) -> Tensors:
    return {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}


def _projection(name: str, projection: Projection) -> Tensors:
    return {f"{name}.weight": projection.weight, f"{name}.bias": projection.bias}


def _attention(name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> Tensors:
    parts = {"q_proj": query, "k_proj": key, "v_proj": value, "out_proj": out}
    return {f"{name}.{part}.weight": tensor.clone() for part, tensor in parts.items()}


def _codebooks(name: str, weights: CodecWeights) -> Tensors:
    tensors = {}
    for q, codebook in enumerate(weights.codebooks):
        at = name.format(q)
        tensors |= {f"{at}.embed": codebook.clone(), f"{at}.embed_avg": codebook.clone()}
        tensors |= {f"{at}.inited": torch.ones(1), f"{at}.cluster_size": torch.ones(len(codebook))}
    return tensors


def _seanets(weights: CodecWeights, body: str, conv: str, transposed: str, norm: tuple[str, str]) -> Tensors:
    """Both halves, numbered as the modules lie in their sequence (activations count, though they hold nothing)."""
    tensors: Tensors = {}

    def put_conv(name: str, weight: Conv) -> None:
        length = torch.linalg.vector_norm(weight.weight, dim=(1, 2), keepdim=True)
        tensors.update({f"{name}.{norm[0]}": length, f"{name}.{norm[1]}": weight.weight, f"{name}.bias": weight.bias})

    def put_lstm(name: str, layers: tuple[LstmLayer, ...]) -> None:
        for n, layer in enumerate(layers):
            tensors[f"{name}.lstm.weight_ih_l{n}"] = layer.input_weight
            tensors[f"{name}.lstm.weight_hh_l{n}"] = layer.hidden_weight
            tensors[f"{name}.lstm.bias_ih_l{n}"] = layer.input_bias
            tensors[f"{name}.lstm.bias_hh_l{n}"] = layer.hidden_bias

    def put_residual(name: str, residual: Residual) -> None:
        put_conv(f"{name}.block.1.{conv}", residual.inner)
        put_conv(f"{name}.block.3.{conv}", residual.outer)
        if residual.skip is not None:
            put_conv(f"{name}.shortcut.{conv}", residual.skip)

    encoder, place = weights.encoder, 1
    put_conv(f"encoder.{body}.0.{conv}", encoder.first)
    for stage in encoder.stages:
        for residual in stage.residuals:
            put_residual(f"encoder.{body}.{place}", residual)
            place += 1
        put_conv(f"encoder.{body}.{place + 1}.{conv}", stage.resample)
        place += 2
    put_lstm(f"encoder.{body}.{place}", encoder.lstm)
    put_conv(f"encoder.{body}.{place + 2}.{conv}", encoder.last)

    decoder, place = weights.decoder, 2
    put_conv(f"decoder.{body}.0.{conv}", decoder.first)
    put_lstm(f"decoder.{body}.1", decoder.lstm)
    for stage in decoder.stages:
        put_conv(f"decoder.{body}.{place + 1}.{transposed}", stage.resample)
        place += 2
        for residual in stage.residuals:
            put_residual(f"decoder.{body}.{place}", residual)
            place += 1
    put_conv(f"decoder.{body}.{place + 1}.{conv}", decoder.last)
    return tensors


# --- Configurations ------------------------------------------------------------------------------------------------


def _lm_config(lm: LmGeometry, codec: CodecGeometry) -> dict:
    """What audiocraft needs of the training configuration to build the language model."""
    conditioners = {
        "description": {
            "model": "t5",
            "t5": {
                "name": T5_NAMES[lm.text_dim],
                "finetune": False,
                "word_dropout": 0.3,
                "normalize_text": False,
            },
        }
    }
    fuser = {"cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1, "sum": [], "input_interpolate": []}
    if lm.text_in_prefix:
        chroma = {
            "sample_rate": "${sample_rate}",
            "n_chroma": lm.chroma_bins,
            "radix2_exp": 14,
            "argmax": True,
            "match_len_on_eval": False,
            "eval_wavs": None,
            "n_eval_wavs": 100,
            "cache_path": None,
        }
        conditioners = {"self_wav": {"model": "chroma_stem", "chroma_stem": chroma}} | conditioners
        fuser |= {"prepend": ["self_wav", "description"], "cross": []}
    else:
        fuser |= {"prepend": [], "cross": ["description"]}
    return {
        "device": "cuda",
        "dtype": "float16",
        "lm_model": "transformer_lm",
        "sample_rate": codec.sample_rate_hz,
        "channels": codec.channels,
        "dataset": {"segment_duration": round(lm.window_s)},
        "compression_model_n_q": None,
        "interleave_stereo_codebooks": {"use": codec.channels == 2, "per_timestep": False},
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": list(lm.delays), "flatten_first": 0, "empty_initial": 0},
        },
        "transformer_lm": {
            "dim": lm.dim, "num_heads": lm.heads, "num_layers": lm.layers, "hidden_scale": lm.ffn_dim // lm.dim,
            "n_q": lm.codebooks, "card": lm.card, "dropout": 0.0, "emb_lr": None, "activation": "gelu",
            "norm_first": True, "bias_ff": False, "bias_attn": False, "bias_proj": False, "past_context": None,
            "causal": True, "custom": False, "memory_efficient": True, "attention_as_float32": False,
            "layer_scale": None, "positional_embedding": "sin", "xpos": False, "checkpointing": "none",
            # What the training drew its first weights from: takes a minute to draw at full size, and is overwritten.
            "weight_init": None, "depthwise_init": None, "zero_bias_init": False, "norm": "layer_norm",
            "cross_attention": False, "qk_layer_norm": False, "qk_layer_norm_cross": False, "attention_dropout": None,
            "kv_repeat": 1, "two_step_cfg": False,
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
        "fuser": fuser,
        "conditioners": conditioners,
    }  # fmt: skip


def _codec_config(codec: CodecGeometry) -> dict:
    return {
        "device": "cuda",
        "compression_model": "encodec",
        "sample_rate": codec.sample_rate_hz,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet", "quantizer": "rvq", "sample_rate": "${sample_rate}", "channels": "${channels}",
            "causal": False, "renormalize": False,
        },
        "seanet": {
            "dimension": codec.dim, "channels": "${channels}", "causal": "${encodec.causal}",
            "n_filters": codec.filters, "n_residual_layers": codec.residual_layers, "ratios": list(codec.ratios),
            "activation": "ELU", "activation_params": {"alpha": 1.0}, "norm": "weight_norm", "norm_params": {},
            "kernel_size": codec.kernel, "residual_kernel_size": codec.residual_kernel,
            "last_kernel_size": codec.last_kernel, "dilation_base": codec.dilation_base, "pad_mode": codec.pad_mode,
            "true_skip": codec.identity_skip, "compress": codec.compress, "lstm": codec.lstm_layers,
            "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
        "rvq": {
            "n_q": codec.codebooks, "q_dropout": False, "bins": codec.card, "decay": 0.99, "kmeans_init": False,
            "kmeans_iters": 50, "threshold_ema_dead_code": 2, "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }  # fmt: skip


def _hugging_face_config(lm: LmGeometry, codec: CodecGeometry) -> dict:
    kind = "musicgen_melody" if lm.text_in_prefix else "musicgen"
    architecture = "MusicgenMelodyForConditionalGeneration" if lm.text_in_prefix else "MusicgenForConditionalGeneration"
    decoder = {
        "model_type": f"{kind}_decoder", "hidden_size": lm.dim, "num_attention_heads": lm.heads,
        "num_hidden_layers": lm.layers, "ffn_dim": lm.ffn_dim, "vocab_size": lm.card, "num_codebooks": lm.codebooks,
        "audio_channels": codec.channels, "activation_function": "gelu", "scale_embedding": False, "dropout": 0.1,
        "max_position_embeddings": 2048, "pad_token_id": lm.card, "bos_token_id": lm.card, "is_decoder": True,
        "add_cross_attention": not lm.text_in_prefix,
    }  # fmt: skip
    melody = {"num_chroma": lm.chroma_bins, "chroma_length": lm.chroma_frames} if lm.text_in_prefix else {}
    return {
        "architectures": [architecture],
        "model_type": kind,
        "is_encoder_decoder": True,
        "text_encoder": t5_config(lm.text_dim),
        "audio_encoder": _encodec_config(codec),
        "decoder": decoder,
        **melody,
    }


def _encodec_config(codec: CodecGeometry) -> dict:
    bits_per_frame = codec.codebooks * (codec.card - 1).bit_length()
    return {
        "model_type": "encodec", "sampling_rate": codec.sample_rate_hz, "audio_channels": 1, "normalize": False,
        "target_bandwidths": [bits_per_frame * codec.frame_rate_hz / 1000], "hidden_size": codec.dim,
        "codebook_dim": codec.dim, "codebook_size": codec.card, "num_filters": codec.filters,
        "num_residual_layers": codec.residual_layers, "upsampling_ratios": list(codec.ratios),
        "norm_type": "weight_norm", "kernel_size": codec.kernel, "last_kernel_size": codec.last_kernel,
        "residual_kernel_size": codec.residual_kernel, "dilation_growth_rate": codec.dilation_base,
        "use_causal_conv": False, "pad_mode": codec.pad_mode, "compress": codec.compress,
        "num_lstm_layers": codec.lstm_layers, "trim_right_ratio": 1.0, "use_conv_shortcut": not codec.identity_skip,
    }  # fmt: skip


def _preprocessor_config(lm: LmGeometry, codec: CodecGeometry) -> dict:
    common = {"sampling_rate": codec.sample_rate_hz, "padding_value": 0.0, "return_attention_mask": True}
    if lm.text_in_prefix:
        return common | {
            "feature_extractor_type": "MusicgenMelodyFeatureExtractor", "processor_class": "MusicgenMelodyProcessor",
            "feature_size": lm.chroma_bins, "num_chroma": lm.chroma_bins, "n_fft": 16384, "hop_length": 4096,
            "chunk_length": round(lm.window_s), "padding_side": "right",
        }  # fmt: skip
    return common | {
        "feature_extractor_type": "EncodecFeatureExtractor", "processor_class": "MusicgenProcessor",
        "feature_size": codec.channels, "padding_side": "left", "chunk_length_s": None, "overlap": None,
    }  # fmt: skip


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_safetensors(folder: Path, tensors: Tensors, shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    files = {name: f"model-{n % shards + 1:05}-of-{shards:05}.safetensors" for n, name in enumerate(tensors)}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})


# --- Command -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to write, e.g. out/tiny-musicgen")
    parser.add_argument("--size", choices=["tiny", "small"], default="tiny", help="small: as facebook/musicgen-small")
    parser.add_argument("--format", choices=["hf", "audiocraft"], default="hf")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--stereo", action="store_true")
    kind.add_argument("--melody", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args(arguments)
    dim, heads, layers, text_dim = (64, 4, 2, 512) if chosen.size == "tiny" else (1024, 16, 24, 768)
    lm = lm_geometry(dim, heads, layers, text_dim=text_dim, stereo=chosen.stereo, melody=chosen.melody)
    codec = codec_geometry(8 if chosen.size == "tiny" else 64, channels=2 if chosen.stereo else 1)
    write = write_hugging_face if chosen.format == "hf" else write_audiocraft
    write(chosen.folder, lm, codec, chosen.seed, half=chosen.size == "small")
    size_mb = sum(file.stat().st_size for file in chosen.folder.rglob("*") if file.is_file()) / 1e6
    print(
        f"{chosen.folder}: {size_mb:,.0f} MB of random weights. Serve it: ORCHESTRION_MODEL={chosen.folder} make serve"
    )


if __name__ == "__main__":
    main()
