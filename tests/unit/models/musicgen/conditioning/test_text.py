"""What a prompt becomes: transformers' own states, the same beside any other requests and on any number of threads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel, T5Tokenizer

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint import geometry as checkpoint_geometry
from orchestrion.models.musicgen.checkpoint.files import Tensors, read_json
from orchestrion.models.musicgen.checkpoint.geometry import section_of_json
from orchestrion.models.musicgen.conditioning.prompt_tokens import token_ids
from orchestrion.models.musicgen.conditioning.text import TextEncoder, project
from tests.musicgen_checkpoints import Draw, write_t5

PROMPTS = [
    "happy rock song",
    "Slow jazz, with a piano & strings; 1920s crackle — très calme",
    " ",
    "a " * 600,
    "techno\n\ttechno   techno",
    "日本の音楽 🎵 <s> < pad > <extra_id_>",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"), 512)


@pytest.fixture
def encoder(folder) -> TextEncoder:
    return opened(folder)


def opened(folder: Path, **options) -> TextEncoder:
    config = section_of_json(folder / "config.json", read_json(folder / "config.json"))
    tensors = Tensors.open([folder / "model.safetensors"])
    return TextEncoder(checkpoint_geometry.t5(config), tensors, "", folder, **options)


def test_states_are_those_of_transformers_with_the_end_token(folder, encoder):
    tokenizer, model = T5Tokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder)
    for prompt in PROMPTS:
        inputs = tokenizer([prompt], return_tensors="pt", padding=True)
        assert inputs["input_ids"][0, -1] == tokenizer.eos_token_id
        with torch.no_grad():
            expected = model(**inputs).last_hidden_state[0].numpy()
        states = encoder.encode(prompt)
        assert states.dtype == np.float32
        assert states.shape == expected.shape
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("typed", ["</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>", "＜/s＞"])
def test_the_name_of_a_special_token_is_text_like_any_other(folder, typed):
    """Hugging Face and audiocraft take it for the token itself, so what is deliberate here differs from them there."""
    tokenizer = T5Tokenizer.from_pretrained(folder)
    ids = token_ids(tokenizer, f"rock {typed} song")
    tokens = tokenizer.convert_ids_to_tokens(ids)

    # Brackets are not in this vocabulary, so they are unknown, but the letters between them are themselves.
    spelt = [token for token in tokens[1:-2] if token not in ("▁", "<unk>")]
    assert spelt == [letter for letter in typed if letter.isascii() and letter.isalnum()]
    assert (tokens[0], tokens[-2], tokens[-1]) == ("▁rock", "▁song", "</s>")
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.pad_token_id not in ids


def test_prompts_without_such_names_have_transformers_own_tokens(folder):
    tokenizer = T5Tokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        assert token_ids(tokenizer, prompt) == tokenizer(prompt)["input_ids"]


def test_the_empty_prompt_is_no_condition(encoder):
    assert encoder.encode("") is None


def test_states_do_not_depend_on_what_was_asked_before_or_on_threads(folder, encoder):
    alone = {prompt: opened(folder).encode(prompt) for prompt in PROMPTS}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for prompt in reversed(PROMPTS):
            assert np.array_equal(encoder.encode(prompt), alone[prompt])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_states_are_remembered_and_cannot_be_spoilt_by_who_gets_them(encoder):
    first = encoder.encode("happy song")
    assert encoder.encode("happy song") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_the_states_that_were_asked_for_longest_ago_are_forgotten_first(folder):
    # "happy", "slow" and "calm" are a word and the end each: there is room for two of them.
    encoder = opened(folder, remembered_bytes=2 * (2 * 512 * 4))
    happy, slow = encoder.encode("happy"), encoder.encode("slow")
    assert encoder.encode("happy") is happy
    encoder.encode("calm")
    assert encoder.encode("happy") is happy
    again = encoder.encode("slow")
    assert again is not slow
    assert np.array_equal(again, slow)


def test_states_too_large_to_be_remembered_are_given_all_the_same(folder, encoder):
    forgetful = opened(folder, remembered_bytes=0)
    assert np.array_equal(forgetful.encode("happy"), encoder.encode("happy"))


def test_projection_is_torchs_linear(encoder):
    projection = Draw(3).projection(64, 512)
    states = encoder.encode("calm piano")
    projected = project(states, projection)
    expected = torch.nn.functional.linear(torch.tensor(states), projection.weight, projection.bias)
    assert projected.shape == (len(states), 64)
    np.testing.assert_allclose(projected, expected.numpy(), rtol=0, atol=1e-5)


def test_half_precision_files_run_in_float32(folder, tmp_path):
    half = write_t5(tmp_path / "half", 512)
    tensors = {name: tensor.half() for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors")
    states = opened(half).encode("happy song")
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, opened(folder).encode("happy song"), atol=0.02)


def test_the_embedding_may_be_stored_under_its_other_name(folder, tmp_path):
    other = write_t5(tmp_path / "other", 512)
    tensors = load_file(other / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, other / "model.safetensors")
    assert np.array_equal(opened(other).encode("happy song"), opened(folder).encode("happy song"))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model": {"type": "BPE"}}'])
def test_a_missing_or_mangled_tokenizer_is_named(tmp_path, content):
    bare = write_t5(tmp_path / "bare", 512)
    (bare / "tokenizer.json").unlink()
    if content is not None:
        (bare / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidRequest, match=r"tokenizer\.json"):
        opened(bare)


def test_a_sentencepiece_model_that_is_none_is_named(tmp_path):
    bare = write_t5(tmp_path / "bare", 512)
    (bare / "tokenizer.json").rename(bare / "spiece.model")
    with pytest.raises(InvalidRequest, match=r"tokenizer\.json"):
        opened(bare)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    other = write_t5(tmp_path / "other", 512)
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"] += [[f"▁word{n}", -5.0] for n in range(200)]
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InvalidRequest, match="456 words and its text encoder 256"):
        opened(other)


def test_a_missing_tensor_is_named(tmp_path):
    broken = write_t5(tmp_path / "broken", 512)
    tensors = load_file(broken / "model.safetensors")
    del tensors["encoder.block.1.layer.0.SelfAttention.k.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(InvalidRequest, match=r"block\.1\.layer\.0\.SelfAttention\.k\.weight .* is missing"):
        opened(broken)
