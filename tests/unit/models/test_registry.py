"""How a line in the list of models becomes a name and a place."""

import pytest

from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.sound import synth
from orchestrion.models.registry import absolute_entry, load_model, load_models, public_name
from orchestrion.models.settings import ModelSettings
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_hugging_face


@pytest.mark.parametrize(
    "entry, name",
    [
        ("composer", "composer"),
        ("facebook/musicgen-small", "facebook/musicgen-small"),
        ("/models/musicgen-small", "musicgen-small"),
        ("audiocraft:facebook/musicgen-small", "audiocraft:facebook/musicgen-small"),
        ("audiocraft:/models/small", "audiocraft:small"),
        ("raw:facebook/musicgen-small", "raw:facebook/musicgen-small"),
        ("raw:/models/small", "raw:small"),
        ("raw:audiocraft:/models/small", "raw:audiocraft:small"),
        ("calm=/models/ours-3", "calm"),
        ("calm=raw:/models/ours-3", "calm"),
        ("calm=audiocraft:/models/ours-3", "calm"),
    ],
)
def test_requests_ask_for_a_model_by_its_public_name(entry, name):
    assert public_name(entry) == name


def test_folders_are_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "ours").mkdir()
    monkeypatch.chdir(tmp_path)

    assert absolute_entry("ours") == str(tmp_path / "ours")
    assert absolute_entry("calm=./ours") == f"calm={tmp_path / 'ours'}"
    assert absolute_entry("audiocraft:ours") == f"audiocraft:{tmp_path / 'ours'}"
    assert absolute_entry("raw:ours") == f"raw:{tmp_path / 'ours'}"
    assert absolute_entry("calm=raw:audiocraft:ours") == f"calm=raw:audiocraft:{tmp_path / 'ours'}"
    for elsewhere in ("composer", "facebook/musicgen-small", "calm=composer", "audiocraft:facebook/x", "/not/there"):
        assert absolute_entry(elsewhere) == elsewhere


@pytest.mark.parametrize(
    "entry", ["musicgen", "", "calm=musicgen", "/not/there", "audiocraft:/not/there", "raw:/not/there", "raw:composer"]
)
def test_what_is_no_model_is_refused_by_its_name(entry):
    with pytest.raises(InvalidRequest) as refused:
        load_model(entry, ModelSettings(device="cpu"), clock=None)

    assert entry.rpartition("=")[2].removeprefix("audiocraft:").removeprefix("raw:") in str(refused.value)


def test_the_same_checkpoint_can_be_had_with_captions_and_with_raw_prompts(tmp_path):
    folder = write_hugging_face(tmp_path / "tiny", TINY, TINY_CODEC)
    settings = ModelSettings(precision="int8", device="cpu", slots=1)
    for resident in (None, 1):
        models = load_models([str(folder), f"raw:{folder}"], settings, SystemClock(), resident)

        assert list(models) == ["tiny", "raw:tiny"]
        assert "+intent-" in models["tiny"].info.revision
        assert "+raw-" in models["raw:tiny"].info.revision
        for model in models.values():
            if resident is None:
                model.close()


def test_a_composer_without_its_sound_font_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "SOUND_FONT", tmp_path / "none.sf3")

    with pytest.raises(InvalidRequest, match="install orchestrion-soundfont"):
        load_model("composer", ModelSettings(), SystemClock())
