"""Opening checkpoints: both formats give one model, its info says what it is, and whatever is wrong is told."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint
from tests.musicgen_checkpoints import (
    TINY,
    TINY_CODEC,
    TINY_MELODY,
    TINY_STEREO,
    codec_geometry,
    random_codec,
    random_lm,
    write_audiocraft,
    write_hub_cache,
    write_hugging_face,
)

STEREO_CODEC = codec_geometry(8, channels=2)
KINDS = {"mono": (TINY, TINY_CODEC), "stereo": (TINY_STEREO, STEREO_CODEC), "melody": (TINY_MELODY, TINY_CODEC)}


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory) -> Path:
    return write_hugging_face(tmp_path_factory.mktemp("hf"), TINY, TINY_CODEC)


@pytest.fixture(scope="module")
def audiocraft(tmp_path_factory) -> Path:
    return write_audiocraft(tmp_path_factory.mktemp("audiocraft"), TINY, TINY_CODEC)


@pytest.fixture
def copy(tmp_path):
    """A checkpoint of its own for a test that spoils it."""

    def copied(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copied


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def flat(weights) -> list[torch.Tensor]:
    """All tensors of weights, in the order of their fields."""
    if isinstance(weights, torch.Tensor):
        return [weights]
    if weights is None:
        return []
    parts = weights if isinstance(weights, tuple) else [getattr(weights, f.name) for f in dataclasses.fields(weights)]
    return [tensor for part in parts for tensor in flat(part)]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def edit_tensors(folder: Path, **changes) -> None:
    """Change, add or (None) leave out tensors of transformers' format; `__` in a name is a dot."""
    tensors = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        name = name.replace("__", ".")
        tensors[name] = change(tensors.get(name))
        if tensors[name] is None:
            del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_audiocraft(path: Path, change) -> None:
    """Change the configuration inside one of audiocraft's files."""
    package = torch.load(path, weights_only=True)
    config = yaml.safe_load(package["xp.cfg"])
    change(config)
    torch.save(package | {"xp.cfg": yaml.safe_dump(config)}, path)


class TestBothFormats:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("half", [False, True])
    def test_give_the_model_that_was_written(self, tmp_path, kind, half):
        lm, codec = KINDS[kind]
        here = open_checkpoint(str(write_audiocraft(tmp_path / "ac", lm, codec, half=half)))
        there = open_checkpoint(str(write_hugging_face(tmp_path / "hf", lm, codec, half=half)))

        assert (here.lm, here.codec) == (there.lm, there.codec) == (lm, codec)
        assert same(here.load_lm(), there.load_lm())
        assert same(here.load_codec(), there.load_codec())
        assert all(tensor.dtype == torch.float32 for tensor in flat(here.load_lm()))
        for read, made in zip(flat(there.load_codec()), flat(random_codec(codec)), strict=True):
            torch.testing.assert_close(read, made, rtol=1e-6, atol=0)
        for read, made in zip(flat(there.load_lm()), flat(random_lm(lm)), strict=True):
            assert torch.equal(read, made.half().float() if half else made)

    def test_give_the_same_states_of_a_prompt(self, hugging_face, audiocraft):
        one, other = (open_checkpoint(str(folder)).load_text() for folder in (hugging_face, audiocraft))
        assert (one.encode("slow jazz, with a piano") == other.encode("slow jazz, with a piano")).all()

    def test_a_convolution_is_folded_as_torch_does_it(self, hugging_face):
        tensors = load_file(hugging_face / "model.safetensors")
        name = "audio_encoder.decoder.layers.3.conv"
        conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(128, 64, 16))
        conv.load_state_dict({key: tensors[f"{name}.{key}"] for key in conv.state_dict()})
        assert torch.equal(
            open_checkpoint(str(hugging_face)).load_codec().decoder.stages[0].resample.weight, conv.weight
        )

    def test_every_spelling_of_transformers_is_the_same_model(self, tmp_path, hugging_face):
        expected = open_checkpoint(str(hugging_face))
        old = open_checkpoint(str(write_hugging_face(tmp_path / "old", TINY, TINY_CODEC, old_weight_norm=True)))
        shards = open_checkpoint(str(write_hugging_face(tmp_path / "shards", TINY, TINY_CODEC, shards=3)))
        pickled = Path(shutil.copytree(hugging_face, tmp_path / "pickled"))
        torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
        (pickled / "model.safetensors").unlink()
        for other in (old, shards, open_checkpoint(str(pickled))):
            assert same(other.load_lm(), expected.load_lm())
            assert same(other.load_codec(), expected.load_codec())

    def test_an_audiocraft_model_may_take_its_codec_from_transformers(self, tmp_path):
        folder = write_audiocraft(tmp_path / "x", TINY_STEREO, STEREO_CODEC, codec_from_hub="facebook/encodec_32khz")
        checkpoint = open_checkpoint(str(folder))
        assert checkpoint.codec == STEREO_CODEC
        for read, made in zip(flat(checkpoint.load_codec()), flat(random_codec(STEREO_CODEC)), strict=True):
            torch.testing.assert_close(read, made, rtol=1e-6, atol=0)


class TestRevision:
    def test_is_of_the_content_wherever_it_lies(self, hugging_face, audiocraft, tmp_path):
        for folder in (hugging_face, audiocraft):
            elsewhere = shutil.copytree(folder, tmp_path / folder.name / "another name")
            assert open_checkpoint(str(folder)).revision == open_checkpoint(str(elsewhere)).revision
        assert open_checkpoint(str(hugging_face)).revision != open_checkpoint(str(audiocraft)).revision

    @pytest.mark.parametrize(
        "file",
        ["state_dict.bin", "compression_state_dict.bin", "t5/model.safetensors", "t5/tokenizer.json", "t5/config.json"],
    )
    def test_one_bit_makes_another(self, audiocraft, copy, file):
        folder = copy(audiocraft)
        content = bytearray((folder / file).read_bytes())
        if file.endswith("json"):
            content += b"\n"
        else:
            content[len(content) // 2] ^= 1
        (folder / file).write_bytes(content)
        assert open_checkpoint(str(folder)).revision != open_checkpoint(str(audiocraft)).revision

    def test_a_readme_is_no_music(self, hugging_face, copy):
        folder = copy(hugging_face)
        (folder / "README.md").write_text("another text")
        assert open_checkpoint(str(folder)).revision == open_checkpoint(str(hugging_face)).revision


class TestHub:
    def test_a_name_is_found_in_the_cache(self, hugging_face, tmp_path, offline):
        cache = write_hub_cache(tmp_path, "facebook/musicgen-tiny", hugging_face, commit="c0ffee" + "0" * 34)
        checkpoint = open_checkpoint("facebook/musicgen-tiny", cache)
        assert checkpoint.name == "facebook/musicgen-tiny"
        assert checkpoint.commit == "c0ffee" + "0" * 34
        assert checkpoint.revision == open_checkpoint(str(hugging_face)).revision
        assert same(checkpoint.load_lm(), random_lm(TINY))
        pinned = open_checkpoint(f"facebook/musicgen-tiny@{checkpoint.commit}", cache)
        assert pinned == checkpoint

    def test_what_audiocraft_takes_from_elsewhere_is_found_there_too(self, tmp_path, offline):
        folder = write_audiocraft(tmp_path / "x", TINY, TINY_CODEC, codec_from_hub="facebook/encodec_32khz")
        complete = open_checkpoint(str(folder))
        codec, text = complete.load_codec(), complete.load_text()
        cache = write_hub_cache(tmp_path, "t5-small", folder / "t5")
        write_hub_cache(tmp_path, "facebook/encodec_32khz", folder / "encodec")
        shutil.rmtree(folder / "t5")
        shutil.rmtree(folder / "encodec")
        write_hub_cache(tmp_path, "someone/finetuned", folder)
        checkpoint = open_checkpoint("someone/finetuned", cache)
        assert checkpoint.revision == complete.revision
        assert same(checkpoint.load_codec(), codec)
        assert (checkpoint.load_text().encode("happy song") == text.encode("happy song")).all()

    @pytest.mark.parametrize("name", ["facebook/musicgen-small", "facebook/musicgen-small@v2"])
    def test_what_cannot_be_had_is_named_with_the_remedies(self, tmp_path, offline, name):
        with pytest.raises(InvalidRequest) as refusal:
            open_checkpoint(name, tmp_path)
        for part in (name, "local folder", "hf download facebook/musicgen-small", "HF_HOME", "HF_TOKEN"):
            assert part in str(refusal.value)

    def test_a_missing_text_encoder_is_named(self, audiocraft, copy, tmp_path, offline):
        folder = copy(audiocraft)
        shutil.rmtree(folder / "t5")
        with pytest.raises(InvalidRequest, match="t5-small"):
            open_checkpoint(str(folder), tmp_path)

    @pytest.mark.parametrize("source", ["/no/such/folder", "https://example.org/model", "", "a/b/c", "../x y"])
    def test_what_is_neither_folder_nor_name_is_refused(self, source):
        with pytest.raises(InvalidRequest, match="no such folder"):
            open_checkpoint(source)

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        with pytest.raises(InvalidRequest, match="neither config"):
            open_checkpoint(str(tmp_path))


class Hostile:
    """Unpickling this runs code."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return (Path.touch, (self.proof,))


class TestUntrustedFiles:
    @pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
    def test_code_in_an_audiocraft_file_is_not_run(self, audiocraft, copy, tmp_path, file):
        folder = copy(audiocraft)
        torch.save({"best_state": Hostile(tmp_path / "ran"), "xp.cfg": ""}, folder / file)
        with pytest.raises(InvalidRequest, match="can run code, so it is not opened"):
            open_checkpoint(str(folder))
        assert not (tmp_path / "ran").exists()

    def test_code_in_a_transformers_file_is_not_run(self, hugging_face, copy, tmp_path):
        folder = copy(hugging_face)
        (folder / "model.safetensors").unlink()
        torch.save({"decoder.lm_heads.0.weight": Hostile(tmp_path / "ran")}, folder / "pytorch_model.bin")
        with pytest.raises(InvalidRequest, match="can run code, so it is not opened"):
            open_checkpoint(str(folder)).load_lm()
        assert not (tmp_path / "ran").exists()

    def test_a_bare_pickle_is_not_run(self, audiocraft, copy, tmp_path):
        folder = copy(audiocraft)
        (folder / "state_dict.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
        with pytest.raises(InvalidRequest):
            open_checkpoint(str(folder))
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
    def test_a_file_cut_short_is_refused(self, audiocraft, hugging_face, tmp_path, part):
        for folder, file in ((audiocraft, "state_dict.bin"), (hugging_face, "model.safetensors")):
            cut = Path(shutil.copytree(folder, tmp_path / file))
            whole = (cut / file).read_bytes()
            (cut / file).write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(InvalidRequest, match="download it again"):
                open_checkpoint(str(cut)).load_lm()

    def test_an_index_that_leads_out_of_the_folder_is_refused(self, hugging_face, copy):
        folder = copy(hugging_face)
        places = {"weight_map": {"decoder.lm_heads.0.weight": "../../elsewhere.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(places))
        with pytest.raises(InvalidRequest, match="files beside it"):
            open_checkpoint(str(folder))

    def test_a_missing_shard_is_named(self, tmp_path):
        folder = write_hugging_face(tmp_path / "x", TINY, TINY_CODEC, shards=3)
        (folder / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(InvalidRequest, match="model-00002-of-00003"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000])
    def test_a_configuration_that_is_none_is_refused(self, hugging_face, copy, text):
        folder = copy(hugging_face)
        (folder / "config.json").write_text(text)
        with pytest.raises(InvalidRequest, match="JSON"):
            open_checkpoint(str(folder))


class TestWrongWeights:
    """The info can be read all the same: nothing is loaded for it."""

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("decoder__lm_heads__1__weight", lambda t: None, "lm_heads.1.weight .* is missing"),
            ("decoder__lm_heads__1__weight", lambda t: t[:-1], "2047, 64.* should be .*2048, 64"),
            ("enc_to_dec_proj__bias", lambda t: t * float("nan"), "no numbers"),
            ("enc_to_dec_proj__bias", lambda t: t / 0, "no numbers"),
            ("enc_to_dec_proj__bias", lambda t: t.long(), "floating point"),
            ("decoder__model__decoder__layers__0__fc1__bias", lambda t: torch.zeros(256), "not supported: .*fc1.bias"),
            ("decoder__model__decoder__layers__0__self_attn__q_norm__weight", lambda t: torch.ones(64), "q_norm"),
        ],
    )
    def test_of_the_language_model(self, hugging_face, copy, name, change, message):
        folder = copy(hugging_face)
        edit_tensors(folder, **{name: change})
        checkpoint = open_checkpoint(str(folder))
        with pytest.raises(InvalidRequest, match=message):
            checkpoint.load_lm()

    def test_of_an_audiocraft_layer_with_parts_we_do_not_know(self, audiocraft, copy):
        folder = copy(audiocraft)
        package = torch.load(folder / "state_dict.bin", weights_only=True)
        package["best_state"]["transformer.layers.0.self_attn.in_proj_bias"] = torch.zeros(192)
        torch.save(package, folder / "state_dict.bin")
        with pytest.raises(InvalidRequest, match="in_proj_bias"):
            open_checkpoint(str(folder)).load_lm()

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("audio_encoder__decoder__layers__1__lstm__weight_hh_l1", lambda t: None, "weight_hh_l1 .* is missing"),
            ("audio_encoder__quantizer__layers__3__codebook__embed", lambda t: t * float("inf"), "no numbers"),
            ("audio_encoder__encoder__layers__0__norm__weight", lambda t: torch.ones(8), "norm.weight"),
        ],
    )
    def test_of_the_codec(self, hugging_face, copy, name, change, message):
        folder = copy(hugging_face)
        edit_tensors(folder, **{name: change})
        checkpoint = open_checkpoint(str(folder))
        with pytest.raises(InvalidRequest, match=message):
            checkpoint.load_codec()


class TestUnsupportedArchitectures:
    @pytest.mark.parametrize(
        ("part", "setting", "value"),
        [
            ("", "model_type", "bark"),
            ("decoder", "activation_function", "relu"),
            ("decoder", "scale_embedding", True),
            ("decoder", "hidden_size", "64"),
            ("decoder", "hidden_size", 10**12),
            ("decoder", "num_hidden_layers", -1),
            ("decoder", "num_attention_heads", 7),
            ("decoder", "num_codebooks", 65),
            ("decoder", "audio_channels", 3),
            ("decoder", "vocab_size", 1024),
            ("audio_encoder", "model_type", "dac"),
            ("audio_encoder", "norm_type", "time_group_norm"),
            ("audio_encoder", "use_causal_conv", True),
            ("audio_encoder", "normalize", True),
            ("audio_encoder", "upsampling_ratios", [8, "5"]),
            ("audio_encoder", "upsampling_ratios", [8, 0, 4, 4]),
            ("audio_encoder", "upsampling_ratios", []),
            ("audio_encoder", "pad_mode", "replicate"),
            ("text_encoder", "model_type", "bert"),
            ("text_encoder", "feed_forward_proj", "gated-silu"),
            ("", "decoder", 4),
        ],
    )
    def test_of_transformers_are_named(self, hugging_face, copy, part, setting, value):
        folder = copy(hugging_face)
        edit_json(folder / "config.json", lambda config: (config[part] if part else config).update({setting: value}))
        with pytest.raises(InvalidRequest, match=f"{setting}|codebooks|heads"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize(
        ("part", "setting", "value"),
        [
            ("", "lm_model", "transformer_lm_magnet"),
            ("transformer_lm", "positional_embedding", "rope"),
            ("transformer_lm", "norm_first", False),
            ("transformer_lm", "bias_ff", True),
            ("transformer_lm", "qk_layer_norm", True),
            ("transformer_lm", "layer_scale", 0.1),
            ("transformer_lm", "kv_repeat", 2),
            ("transformer_lm", "past_context", 500),
            ("codebooks_pattern", "modeling", "parallel"),
            ("fuser", "sum", ["description"]),
            ("fuser", "cross_attention_pos_emb", True),
            ("conditioners", "style", {"model": "style"}),
            ("conditioners", "description", {"model": "clap"}),
            ("conditioners", "description", {"model": "t5", "t5": {"name": "t5-11b"}}),
            ("interleave_stereo_codebooks", "per_timestep", True),
            ("dataset", "segment_duration", None),
            ("", "fuser", {"sum": [], "prepend": ["description"], "cross": [], "input_interpolate": []}),
            ("transformer_lm", "dim", "${transformer_lm.dim}"),
        ],
    )
    def test_of_audiocraft_are_named(self, audiocraft, copy, part, setting, value):
        folder = copy(audiocraft)
        change = {setting: value}
        edit_audiocraft(folder / "state_dict.bin", lambda config: (config[part] if part else config).update(change))
        with pytest.raises(InvalidRequest, match=r"supported|heads"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize(
        ("part", "setting", "value"),
        [
            ("", "compression_model", "dac"),
            ("encodec", "causal", True),
            ("encodec", "renormalize", True),
            ("encodec", "quantizer", "no_quant"),
            ("seanet", "activation", "ReLU"),
            ("seanet", "norm", "time_group_norm"),
            ("seanet", "decoder", {"final_activation": "Tanh"}),
            ("seanet", "decoder", {"n_filters": 4}),
            ("seanet", "true_skip", 1),
        ],
    )
    def test_of_audiocrafts_codecs_are_named(self, audiocraft, copy, part, setting, value):
        folder = copy(audiocraft)
        change = {setting: value}
        edit_audiocraft(
            folder / "compression_state_dict.bin", lambda config: (config[part] if part else config).update(change)
        )
        with pytest.raises(InvalidRequest, match="supported"):
            open_checkpoint(str(folder))

    def test_an_export_without_tensors_is_refused(self, audiocraft, copy):
        folder = copy(audiocraft)
        package = torch.load(folder / "state_dict.bin", weights_only=True)
        torch.save(package | {"best_state": 5}, folder / "state_dict.bin")
        with pytest.raises(InvalidRequest, match="best_state"):
            open_checkpoint(str(folder)).load_lm()

    def test_other_exports_of_audiocraft_are_refused(self, audiocraft, copy):
        folder = copy(audiocraft)
        torch.save({"best_state": {}}, folder / "state_dict.bin")
        with pytest.raises(InvalidRequest, match=r"xp\.cfg"):
            open_checkpoint(str(folder))


class TestLicence:
    @pytest.mark.parametrize(
        ("readme", "text", "licence", "commercial_use"),
        [
            ("---\nlicense: cc-by-nc-4.0\n---\n", None, "CC-BY-NC-4.0", False),
            ("---\nlicense: Apache-2.0\n---\n", None, "Apache-2.0", True),
            ("---\nlicense: cc-by-nc-4.0\n---\n", "MIT License", "CC-BY-NC-4.0", False),
            ("Licence: do what you like", "MIT License\n\nCopyright (c)", "MIT", True),
            ("", "Attribution-NonCommercial 4.0 International\n\n====", "CC-BY-NC-4.0", False),
            ("", "You may use this on Sundays", "unknown", False),
            ("---\nlicense: openrail\n---\n", None, "openrail", False),
            ("---\nlicense: [a, b]\n---\n", None, "unknown", False),
            ("---\n{: broken\n---\n", None, "unknown", False),
            (None, None, "unknown", False),
        ],
    )
    def test_is_read_from_the_folder_and_unknown_ones_forbid(
        self, audiocraft, copy, readme, text, licence, commercial_use
    ):
        folder = copy(audiocraft)
        (folder / "README.md").unlink()
        for name, content in (("README.md", readme), ("LICENSE", text)):
            if content is not None:
                (folder / name).write_text(content)
        checkpoint = open_checkpoint(str(folder))
        assert (checkpoint.licence, checkpoint.commercial_use) == (licence, commercial_use)

    def test_a_codec_from_the_hub_has_its_own(self, tmp_path, offline):
        folder = write_audiocraft(
            tmp_path / "x", TINY, TINY_CODEC, codec_from_hub="facebook/encodec_32khz", licence="mit"
        )
        assert open_checkpoint(str(folder)).commercial_use
        cache = write_hub_cache(tmp_path, "facebook/encodec_32khz", folder / "encodec")
        shutil.rmtree(folder / "encodec")
        checkpoint = open_checkpoint(str(folder), cache)
        assert (checkpoint.licence, checkpoint.commercial_use) == ("MIT AND unknown", False)
