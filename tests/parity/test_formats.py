"""What we read from a checkpoint means what its own library means by it.

Each library runs its own model from its own files, teacher-forced; we run one plain forward pass over the weights and
states that we read from the same files. Equal logits say that every tensor, and the order of the conditions, is right.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import EncodecConfig, MusicgenDecoderConfig, MusicgenMelodyConfig, T5Config, T5Tokenizer
from transformers.models.musicgen.modeling_musicgen import MusicgenForConditionalGeneration
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyForConditionalGeneration

from orchestrion.models.audiocraft.imports import import_audiocraft
from orchestrion.models.audiocraft.loading import find_checkpoint, load_generator
from orchestrion.models.musicgen.checkpoint import geometry as checkpoint_geometry
from orchestrion.models.musicgen.checkpoint.checkpoint import Checkpoint, open_checkpoint
from orchestrion.models.musicgen.conditioning.text import project
from tests.parity.conftest import KINDS

PROMPT = "happy rock song, with an electric guitar"
COLUMNS = 40


def codes(kind: str) -> torch.Tensor:
    """[codebooks, columns], special tokens among them."""
    geometry = KINDS[kind][0]
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, geometry.card + 1, (geometry.codebooks, COLUMNS), generator=generator)


def chroma(kind: str) -> torch.Tensor:
    """[chroma frames, bins], one bin of each."""
    geometry = KINDS[kind][0]
    bins = torch.randint(0, geometry.chroma_bins, (geometry.chroma_frames,), generator=torch.Generator().manual_seed(6))
    return F.one_hot(bins, geometry.chroma_bins).float()


def plain_logits(
    checkpoint: Checkpoint, tokens: torch.Tensor, text: torch.Tensor, prefix: torch.Tensor
) -> torch.Tensor:
    """The whole sequence at once, straight from the paper: [codebooks, columns, card]."""
    geometry, weights = checkpoint.lm, checkpoint.load_lm()

    def normal(x, norm):
        return F.layer_norm(x, (geometry.dim,), norm.weight, norm.bias)

    def attend(query, key, value, *, causal=False):
        heads = [part.unflatten(-1, (geometry.heads, -1)).transpose(0, 1) for part in (query, key, value)]
        return F.scaled_dot_product_attention(*heads, is_causal=causal).transpose(0, 1).flatten(1)

    x = sum(weights.embeddings[q][tokens[q]] for q in range(geometry.codebooks))
    x = torch.cat([prefix, x])
    half = geometry.dim // 2
    phase = torch.arange(len(x))[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / (half - 1))
    x = x + torch.cat([phase.cos(), phase.sin()], -1)
    for layer in weights.layers:
        query, key, value = F.linear(normal(x, layer.attention_norm), layer.qkv).chunk(3, -1)
        x = x + F.linear(attend(query, key, value, causal=True), layer.out)
        if cross := layer.cross:
            query = F.linear(normal(x, cross.norm), cross.query)
            x = x + F.linear(attend(query, F.linear(text, cross.key), F.linear(text, cross.value)), cross.out)
        x = x + F.linear(F.gelu(F.linear(normal(x, layer.feed_forward_norm), layer.up)), layer.down)
    x = normal(x, weights.out_norm)[len(prefix) :]
    return torch.einsum("td,qcd->qtc", x, weights.heads)


def our_logits(checkpoint: Checkpoint, kind: str) -> torch.Tensor:
    weights = checkpoint.load_lm()
    text = torch.from_numpy(project(checkpoint.load_text().encode(PROMPT), weights.text))
    prefix = torch.zeros(0, checkpoint.lm.dim)
    if checkpoint.lm.text_in_prefix:
        prefix = torch.cat([F.linear(chroma(kind), weights.chroma.weight, weights.chroma.bias), text])
    return plain_logits(checkpoint, codes(kind), text, prefix)


def assert_same_logits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_hears_and_answers_the_same(checkpoints, kind):
    folder = checkpoints(kind, "hugging_face")
    family = MusicgenMelodyForConditionalGeneration if kind == "melody" else MusicgenForConditionalGeneration
    model = family.from_pretrained(folder).eval()
    checkpoint = open_checkpoint(str(folder))
    tokens = T5Tokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")
    features = {"input_features": chroma(kind)[None]} if kind == "melody" else {}
    theirs = model(**tokens, **features, decoder_input_ids=codes(kind)).logits[:, -COLUMNS:]
    assert_same_logits(our_logits(checkpoint, kind), theirs)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_audiocraft_hears_and_answers_the_same(checkpoints, kind):
    folder = checkpoints(kind, "audiocraft")
    generator = load_generator(find_checkpoint(str(folder)), "cpu")
    attributes, _ = generator._prepare_tokens_and_attributes([PROMPT], None)
    provider = generator.lm.condition_provider
    if kind == "melody":
        # What it finds in a recording is compared in test_melody.py; here it is given.
        provider.conditioners["self_wav"]._compute_wav_embedding = lambda wave, rate_hz: chroma(kind)[None]
    conditions = provider(provider.tokenize(attributes))
    theirs = generator.lm(codes(kind)[None], [], conditions)[0]
    assert_same_logits(our_logits(open_checkpoint(str(folder)), kind), theirs)


@torch.inference_mode()
def test_audiocrafts_own_loader_takes_what_we_write(checkpoints, tmp_path, monkeypatch):
    """So that a checkpoint of the makers is a checkpoint, not what we think one is."""
    folder = checkpoints("text", "audiocraft")
    audiocraft = import_audiocraft()
    # It asks for its text encoder by a hub's name, which a folder of that name stands in for.
    (tmp_path / "t5-small").symlink_to(folder / "t5")
    monkeypatch.chdir(tmp_path)
    theirs = audiocraft.models.MusicGen.get_pretrained(str(folder), device="cpu")
    again = load_generator(find_checkpoint(str(folder)), "cpu")
    for model in ("lm", "compression_model"):
        loaded, expected = (getattr(generator, model).state_dict() for generator in (theirs, again))
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in loaded)
    theirs.set_generation_params(duration=0.1, use_sampling=False)
    again.set_generation_params(duration=0.1, use_sampling=False)
    assert torch.equal(theirs.generate([PROMPT]), again.generate([PROMPT]))


@torch.inference_mode()
def test_a_prompts_states_are_audiocrafts_bit_by_bit(checkpoints):
    folder = checkpoints("text", "audiocraft")
    conditioner = load_generator(find_checkpoint(str(folder)), "cpu").lm.condition_provider.conditioners["description"]
    checkpoint = open_checkpoint(str(folder))
    encoder, projection = checkpoint.load_text(), checkpoint.load_lm().text
    # Its weights lie where they lie in their file, and on some CPUs the product of one row rounds by where they begin.
    for weight in conditioner.t5.parameters():
        weight.data = weight.data.clone()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for prompt in (PROMPT, "a", " ", "Ünïcode — 音楽 " * 30):
            theirs, mask = conditioner(conditioner.tokenize([prompt]))
            assert mask.all()
            assert np.array_equal(project(encoder.encode(prompt), projection), theirs[0].numpy())
        nothing, _ = conditioner(conditioner.tokenize([""]))
        assert encoder.encode("") is None
        assert not nothing.any()
    finally:
        torch.set_num_threads(threads)


def test_what_a_configuration_leaves_out_is_what_transformers_takes_for_it():
    """transformers writes what differs from its defaults, so ours must be its."""
    for ours, theirs in (
        (checkpoint_geometry.DECODER_DEFAULTS, MusicgenDecoderConfig()),
        (checkpoint_geometry.ENCODEC_DEFAULTS, EncodecConfig()),
        (checkpoint_geometry.T5_DEFAULTS, T5Config()),
        (checkpoint_geometry.MELODY_DEFAULTS, MusicgenMelodyConfig()),
    ):
        for name, value in ours.items():
            default = getattr(theirs, name)
            assert value == (list(default) if isinstance(default, tuple) else default), name


def test_what_transformers_saves_again_is_the_same_model(checkpoints, tmp_path):
    """Its own writer leaves out defaults, orders and names as it likes today."""
    folder = checkpoints("text", "hugging_face")
    model = MusicgenForConditionalGeneration.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before, after = open_checkpoint(str(folder)), open_checkpoint(str(tmp_path))
    assert (after.lm, after.codec) == (before.lm, before.codec)
    assert torch.equal(after.load_lm().layers[1].cross.out, before.load_lm().layers[1].cross.out)
    assert torch.equal(after.load_codec().decoder.last.weight, before.load_codec().decoder.last.weight)
    assert (after.load_text().encode(PROMPT) == before.load_text().encode(PROMPT)).all()
