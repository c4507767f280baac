"""A checkpoint is not trusted: what it says is not computed, not fetched, and unpacked within bounds."""

import contextlib
import json
import resource
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from orchestrion.errors import InvalidRequest
from orchestrion.models.audiocraft.loading import find_checkpoint, load_generator
from orchestrion.models.musicgen.checkpoint import files as checkpoint_files
from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_audiocraft, write_hugging_face, write_t5

#: Small, so that hundreds of it can be spoilt and read.
LM, CODEC = replace(TINY, dim=32, ffn_dim=128, heads=2, layers=1, card=16), replace(TINY_CODEC, card=16, filters=2)
OPENERS = {"our own": open_checkpoint, "audiocraft": find_checkpoint}
SECRET = "s3cr3t-0123456789"


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        "audiocraft": write_audiocraft(folder / "audiocraft", LM, CODEC),
        "stereo codec": write_audiocraft(folder / "stereo", LM, CODEC, codec_from_hub="facebook/encodec_32khz"),
        "hugging_face": write_hugging_face(folder / "hugging_face", LM, CODEC),
    }


@pytest.fixture
def copy(originals, tmp_path):
    def copied(name: str) -> Path:
        return Path(shutil.copytree(originals[name], tmp_path / "copy"))

    return copied


@pytest.fixture
def hub(monkeypatch):
    """Answers for the hub with folders, by their names there; keeps what it was asked for."""
    repositories: dict[str, Path] = {}
    asked: list[str] = []

    def snapshot_download(name, **_):
        asked.append(name)
        if name not in repositories:
            raise OSError("there is no such repository")
        return str(repositories[name])

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    return repositories, asked


def edit(file: Path, change) -> None:
    """Change what one of audiocraft's files holds; `change` gets its configuration, too, if it has one."""
    package = torch.load(file, weights_only=True)
    config = yaml.safe_load(package["xp.cfg"]) if "xp.cfg" in package else None
    change(package, config)
    torch.save(package | ({"xp.cfg": yaml.safe_dump(config)} if config else {}), file)


def name_text_encoder(folder: Path, name: object) -> None:
    edit(folder / "state_dict.bin", lambda _, config: config["conditioners"]["description"]["t5"].update(name=name))


class TestWhatItNames:
    @pytest.mark.parametrize("opener", OPENERS)
    @pytest.mark.parametrize("reference", ["${oc.env:AWS_SECRET_ACCESS_KEY}", "${oc.decode:${oc.env:HOME}}"])
    def test_the_environment_is_never_read(self, copy, hub, monkeypatch, opener, reference):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        folder = copy("audiocraft")
        shutil.rmtree(folder / "t5")
        name_text_encoder(folder, f"evil/{reference}")

        with pytest.raises(InvalidRequest) as refusal:
            OPENERS[opener](str(folder))

        assert SECRET not in str(refusal.value)
        assert hub[1] == []

    def test_references_to_other_values_are_followed_and_nothing_is_put_together(self, copy):
        folder = copy("audiocraft")
        edit(folder / "state_dict.bin", lambda _, config: config.update(told="t5-small", twice="${told}${told}"))
        name_text_encoder(folder, "${told}")
        assert find_checkpoint(str(folder)).text_encoder == folder / "t5"
        name_text_encoder(folder, "${twice}")
        shutil.rmtree(folder / "t5")
        with pytest.raises(InvalidRequest, match="trusted to name only"):
            find_checkpoint(str(folder))

    @pytest.mark.parametrize("opener", OPENERS)
    @pytest.mark.parametrize("name", ["evil/t5-base", "/etc", "../elsewhere", 7, ["t5-base"]])
    def test_a_text_encoder_that_nobody_knows_is_not_fetched(self, copy, hub, opener, name):
        folder = copy("audiocraft")
        shutil.rmtree(folder / "t5")
        name_text_encoder(folder, name)
        with pytest.raises(InvalidRequest, match=r"t5-base|cannot be read"):
            OPENERS[opener](str(folder))
        assert hub[1] == []

    @pytest.mark.parametrize("opener", OPENERS)
    @pytest.mark.parametrize("name", ["evil/encodec", "/etc", "../elsewhere", 7])
    def test_a_codec_that_nobody_knows_is_not_fetched_but_may_lie_beside(self, copy, hub, opener, name):
        folder = copy("stereo codec")
        edit(folder / "compression_state_dict.bin", lambda package, _: package.update(pretrained=name))
        OPENERS[opener](str(folder))
        shutil.rmtree(folder / "encodec")
        with pytest.raises(InvalidRequest, match="put its files into a folder encodec"):
            OPENERS[opener](str(folder))
        assert hub[1] == []

    def test_a_folder_of_a_known_name_where_we_happen_to_be_is_not_meant(self, copy, hub, tmp_path, monkeypatch):
        folder = copy("audiocraft")
        shutil.move(folder / "t5", tmp_path / "t5-small")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InvalidRequest, match="hub"):
            find_checkpoint(str(folder))
        assert hub[1] == ["t5-small"]

    @pytest.mark.parametrize("name", ["*", "../../elsewhere.safetensors", ".bin", "a/b.bin", "model.py", ["x"], 7])
    def test_an_index_names_files_of_weights_and_no_patterns(self, copy, name):
        folder = copy("hugging_face")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(InvalidRequest, match="files beside it"):
            open_checkpoint(str(folder))

    def test_a_condition_that_opens_files_is_refused(self, copy):
        folder = copy("audiocraft")
        clap = {"model": "clap", "clap": {"checkpoint": "/etc/passwd"}}
        edit(folder / "state_dict.bin", lambda _, config: config["conditioners"].update(more=clap))
        with pytest.raises(InvalidRequest, match="conditions"):
            find_checkpoint(str(folder))


class TestLicence:
    """The strictest of all parts counts, through whichever of the two doors."""

    @pytest.mark.parametrize("opener", OPENERS)
    @pytest.mark.parametrize(
        ("own", "codec", "text", "expected"),
        [
            ("mit", "cc-by-nc-4.0", "apache-2.0", ("MIT AND Apache-2.0 AND CC-BY-NC-4.0", False)),
            ("mit", None, "apache-2.0", ("MIT AND Apache-2.0 AND unknown", False)),
            ("mit", "mit", None, ("MIT AND Apache-2.0", True)),
            ("mit", "mit", "cc-by-nc-4.0", ("MIT AND CC-BY-NC-4.0", False)),
            ("cc-by-nc-4.0", "mit", "mit", ("CC-BY-NC-4.0 AND MIT", False)),
            ("something else", "mit", "mit", ("unknown AND MIT", False)),
        ],
    )
    def test_of_parts_from_the_hub(self, copy, hub, opener, own, codec, text, expected):
        folder = copy("stereo codec")
        (folder / "README.md").write_text(f"---\nlicense: {own}\n---\n")
        hub[0].update({"facebook/encodec_32khz": folder / "a", "t5-small": folder / "b"})
        for part, place, licence in (("encodec", "a", codec), ("t5", "b", text)):
            shutil.move(folder / part, folder / place)
            if licence:
                (folder / place / "README.md").write_text(f"---\nlicense: {licence}\n---\n")

        found = OPENERS[opener](str(folder))

        assert sorted(found.licence.split(" AND ")) == sorted(expected[0].split(" AND "))
        assert found.licence.split(" AND ")[0] == expected[0].split(" AND ")[0]
        assert found.commercial_use == expected[1]

    @pytest.mark.parametrize("opener", OPENERS)
    def test_of_parts_beside_it(self, copy, opener):
        folder = copy("stereo codec")
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        assert OPENERS[opener](str(folder)).commercial_use
        (folder / "encodec" / "LICENSE").write_text("Attribution-NonCommercial 4.0 International")
        found = OPENERS[opener](str(folder))
        assert (found.licence, found.commercial_use) == ("MIT AND CC-BY-NC-4.0", False)


def zip_of(file: Path, name: str, content: bytes, compression=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"archive/{name}", content)
        archive.writestr("archive/version", "3\n")


class TestBounds:
    def test_a_file_that_unpacks_to_more_than_it_is_is_not_unpacked(self, copy):
        folder = copy("audiocraft")
        zip_of(folder / "state_dict.bin", "data.pkl", b"N0" * (64 << 20), zipfile.ZIP_DEFLATED)
        assert (folder / "state_dict.bin").stat().st_size < 1 << 20
        for opener in OPENERS.values():
            with pytest.raises(InvalidRequest, match="compressed"):
                opener(str(folder))

    def test_entries_that_share_their_bytes_are_refused(self, copy):
        folder = copy("audiocraft")
        file = folder / "state_dict.bin"
        zip_of(file, "data.pkl", b"N" * 100_000)
        whole = file.read_bytes()
        start, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
        first = whole[start : whole.index(b"PK\1\2", start + 4)]
        # Five more names for the same bytes, and an end that counts them.
        _, *numbers, size, at, _ = struct.unpack("<4s4HLLH", whole[end:])
        numbers[2:] = [7, 7]
        directory = whole[start:end] + 5 * first
        file.write_bytes(
            whole[:start] + directory + struct.pack("<4s4HLLH", b"PK\5\6", *numbers, size + 5 * len(first), at, 0)
        )
        with pytest.raises(InvalidRequest, match="larger than itself"):
            open_checkpoint(str(folder))

    def test_a_pickle_as_large_as_weights_is_refused(self, copy):
        folder = copy("audiocraft")
        zip_of(folder / "state_dict.bin", "data.pkl", b"N0" * (10 << 20))
        with pytest.raises(InvalidRequest, match="pickle is larger"):
            open_checkpoint(str(folder))

    def test_an_archive_with_two_ends_is_refused(self, copy):
        folder = copy("audiocraft")
        file = folder / "state_dict.bin"
        file.write_bytes(file.read_bytes() + b"comment")
        with pytest.raises(InvalidRequest, match="no archive"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize("precision", [torch.float32, torch.float16])
    def test_a_number_that_stands_for_a_matrix_is_refused(self, copy, precision):
        folder = copy("audiocraft")

        def repeat(package, config):
            name = "transformer.layers.0.linear1.weight"
            shape = (1 << 18, 1 << 16)
            config["transformer_lm"].update(dim=shape[1], hidden_scale=4, num_heads=4)
            state = {"emb.0.weight": torch.ones(1, dtype=precision).expand(17, shape[1])}
            package["best_state"] = state | {name: torch.ones(1, dtype=precision).expand(shape)}

        edit(folder / "state_dict.bin", repeat)
        with pytest.raises(InvalidRequest, match="larger than the file"):
            open_checkpoint(str(folder)).load_lm()
        with pytest.raises(InvalidRequest, match="too small for so many"):
            load_generator(find_checkpoint(str(folder)), "cpu")

    def test_a_header_of_gigabytes_is_refused(self, copy):
        folder = copy("hugging_face")
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", 90 << 20) + content[8:])
        with pytest.raises(InvalidRequest, match="header"):
            open_checkpoint(str(folder)).load_lm()

    @pytest.mark.parametrize(
        ("file", "megabytes"), [("config.json", 2), ("README.md", 2), ("tokenizer.json", 20), ("LICENSE", 2)]
    )
    def test_texts_have_the_size_of_texts(self, copy, file, megabytes):
        folder = copy("hugging_face")
        with (folder / file).open("wb") as opened:
            opened.truncate(megabytes << 20)
        with pytest.raises(InvalidRequest, match="such a file has at most"):
            open_checkpoint(str(folder))

    def test_what_the_tokenizers_own_code_finds_is_bounded_too(self, copy):
        folder = copy("hugging_face")
        with (folder / "chat_template.jinja").open("wb") as opened:
            opened.truncate(2 << 20)
        with pytest.raises(InvalidRequest, match="such a file has at most"):
            open_checkpoint(str(folder)).load_text()

    @pytest.mark.parametrize("merge", ["[*{0}, *{0}]", "{{<<: [*{0}, *{0}]}}"])
    def test_a_few_lines_of_yaml_are_a_few_values(self, copy, merge):
        folder = copy("audiocraft")
        laughs = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {merge.format(f'a{n - 1}')}\n" for n in range(1, 60))
        package = torch.load(folder / "state_dict.bin", weights_only=True)
        torch.save(package | {"xp.cfg": laughs + package["xp.cfg"]}, folder / "state_dict.bin")
        for opener in OPENERS.values():
            with pytest.raises(InvalidRequest, match="alias"):
                opener(str(folder))
        (folder / "state_dict.bin").unlink()
        shutil.copy(folder / "compression_state_dict.bin", folder / "state_dict.bin")

    def test_a_model_card_is_data_too(self, copy):
        folder = copy("hugging_face")
        for card in ("[" * 100_000, "license: &a mit\nx: *a", "license: [mit]", "\0"):
            (folder / "README.md").write_text(f"---\n{card}\n---\n")
            assert not open_checkpoint(str(folder)).commercial_use

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("decoder", "num_hidden_layers"), 1 << 19),
            (("text_encoder", "num_layers"), 1 << 19),
            (("audio_encoder", "upsampling_ratios"), [1 << 19] * 8),
            (("audio_encoder", "upsampling_ratios"), [8] * 60),
            (("audio_encoder", "num_lstm_layers"), 1 << 19),
            (("audio_encoder", "sampling_rate"), 1),
            (("text_encoder", "relative_attention_max_distance"), 1),
        ],
    )
    def test_a_configuration_of_no_model_is_refused_before_anything_is_made_of_it(self, copy, path, value):
        folder = copy("hugging_face")
        config = json.loads((folder / "config.json").read_text())
        config[path[0]][path[1]] = value
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(InvalidRequest):
            open_checkpoint(str(folder))

    def test_a_window_of_hours_is_refused(self, copy):
        folder = copy("hugging_face")
        (folder / "generation_config.json").write_text('{"max_length": 1000000}')
        with pytest.raises(InvalidRequest, match="window"):
            open_checkpoint(str(folder))


def spoilt(content: bytes, chance: np.random.Generator) -> bytes:
    """`content` cut short, with bytes changed, or with a part of it repeated or left out."""
    kind, at = chance.integers(4), int(chance.integers(len(content)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed = bytearray(content)
        # Where headers and directories are, half of the time: nearly all of a file is numbers.
        for place in chance.integers(len(content), size=5):
            near = (place, place % 2000, -1 - place % 4000)[int(chance.integers(3))]
            changed[max(near, -len(content))] = int(chance.integers(256))
        return bytes(changed)
    length = int(chance.integers(1, 5000))
    return content[:at] + (content[at : at + length] * 2 if kind == 2 else b"") + content[at + length :]


def memory_bytes() -> int:
    """The most that this process ever held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


FILES = {
    "audiocraft": ["state_dict.bin", "compression_state_dict.bin", "t5/config.json", "t5/model.safetensors"],
    "hugging_face": ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"],
}


@pytest.mark.parametrize("file", [f"{kind}/{name}" for kind, names in FILES.items() for name in names])
def test_a_spoilt_file_is_refused_or_read_and_nothing_else(copy, file):
    kind, _, name = file.partition("/")
    folder = copy(kind)
    original = (folder / name).read_bytes()
    reads_text = name.startswith(
        ("t5", "tokenizer")
    )  # The text encoder's own files; reading it takes most of the time.
    open_checkpoint(str(folder)).load_text()  # What is imported for it counts to nobody.
    before = memory_bytes()
    chance = np.random.default_rng(len(file))
    outcomes = {"refused": 0, "read": 0}
    for _ in range(40):
        (folder / name).write_bytes(spoilt(original, chance))
        try:
            checkpoint = open_checkpoint(str(folder))
            # The card is read when it is opened; nothing that is loaded afterwards depends on it.
            if name != "README.md":
                checkpoint.load_text() if reads_text else (checkpoint.load_lm(), checkpoint.load_codec())
            outcomes["read"] += 1
        except InvalidRequest:
            outcomes["refused"] += 1
        if kind == "audiocraft":
            with contextlib.suppress(InvalidRequest):
                find_checkpoint(str(folder))

    assert memory_bytes() - before < 200 << 20
    assert outcomes["refused"] >= (0 if name == "README.md" else 10)


@pytest.mark.parametrize("seed", range(3))
def test_a_spoilt_configuration_is_refused_or_read_and_nothing_else(copy, seed):
    """Valid files with wrong values in them: of another type, absent, or very large."""
    folder, chance = copy("hugging_face"), np.random.default_rng(seed)
    wrong = [None, "", "${oc.env:HOME}", -1, 0, 1, 3, 2**19, 10**30, 1e308, float("nan"), True, [], [[]], {}, {"a": 1}]
    original = json.loads((folder / "config.json").read_text())
    for _ in range(40):
        config = json.loads(json.dumps(original))
        for _ in range(int(chance.integers(1, 4))):
            place = config
            while True:
                key = str(chance.choice(list(place)))
                if isinstance(place[key], dict) and place[key] and chance.random() < 0.9:
                    place = place[key]
                    continue
                place[key] = wrong[int(chance.integers(len(wrong)))]
                break
        (folder / "config.json").write_text(json.dumps(config))
        with contextlib.suppress(InvalidRequest):
            checkpoint = open_checkpoint(str(folder))
            checkpoint.load_lm(), checkpoint.load_codec(), checkpoint.load_text()


def test_what_is_sound_is_read_as_before(originals, tmp_path):
    for folder in originals.values():
        checkpoint = open_checkpoint(str(folder))
        assert checkpoint.load_lm().heads.shape == (4, LM.card, LM.dim)
    # Numbers of 8 bits become four times as many bytes, and one tensor may have two names.
    folder = Path(shutil.copytree(originals["hugging_face"], tmp_path / "8 bits"))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(torch.float8_e5m2) for name, tensor in tensors.items()}, folder / "model.safetensors")
    open_checkpoint(str(folder)).load_lm()
    assert write_t5(tmp_path / "t5", 512).is_dir()
