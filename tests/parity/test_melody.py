"""Themes as audiocraft and Hugging Face hear them: the same chroma, and the same columns before the codes.

Both look for a melody in a mix with demucs, which is not installed here: what is compared is all that follows.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyForConditionalGeneration

from orchestrion.models.audiocraft.imports import Spectrogram, import_audiocraft
from orchestrion.models.audiocraft.loading import find_checkpoint, load_generator
from orchestrion.models.musicgen.conditioning.melody import FRAME_SAMPLES, Recording, chroma_energy, melody_prefix
from tests.musicgen_checkpoints import TINY_CODEC, TINY_MELODY, random_lm, write_audiocraft, write_hugging_face

RATE_HZ = 32_000
FRAMES = TINY_MELODY.chroma_frames


def tune(seconds: float, seed: int = 0) -> np.ndarray:
    """A voice with overtones over a bass and some noise: [samples]."""
    draw = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    time_s = np.arange(samples) / RATE_HZ
    wave = 0.01 * draw.standard_normal(samples)
    for step, pitch in enumerate(draw.integers(48, 84, size=int(seconds / 0.4) + 1)):
        sounds = (time_s >= 0.4 * step) & (time_s < 0.4 * step + 0.35)
        for partial in range(1, 6):
            wave += sounds * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * partial * time_s) / partial**2
        wave += 0.3 * sounds * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69 - 29) / 12) * time_s)
    return (0.2 * wave).astype(np.float32)


WAVES = {
    "shorter than a frame": tune(0.3),
    "a frame": tune(1)[:FRAME_SAMPLES],
    "odd length": tune(3)[:70_001],
    "a window": tune(30, seed=1),
    "longer than a window": tune(35, seed=2),
    "nearly silent": tune(3, seed=3) * np.float32(1e-6),
    "silence, a tune, silence": np.pad(tune(2, seed=4), RATE_HZ),
    "noise": np.random.default_rng(5).standard_normal(5 * RATE_HZ).astype(np.float32),
}


@pytest.mark.parametrize("name", WAVES)
def test_chroma_is_audiocrafts(name):
    import_audiocraft()
    from audiocraft.modules.chroma import ChromaExtractor

    wave = WAVES[name]
    arguments = {"sample_rate": RATE_HZ, "n_chroma": 12, "radix2_exp": 14}
    with torch.inference_mode():
        strongest = ChromaExtractor(**arguments, argmax=True)(torch.from_numpy(wave)[None, None])[0].numpy()
        loudness = ChromaExtractor(**arguments)(torch.from_numpy(wave)[None, None])[0].numpy()

    energy = chroma_energy(wave, RATE_HZ, 10_000)
    assert np.array_equal(Recording(wave, RATE_HZ).chroma(len(strongest)), strongest)
    assert np.allclose(energy / np.maximum(energy.max(axis=1, keepdims=True), 1e-6), loudness, atol=1e-6)


@pytest.mark.parametrize("name", WAVES)
def test_chroma_is_hugging_faces(name, monkeypatch):
    # It wants torchaudio for this spectrogram alone.
    torchaudio = SimpleNamespace(transforms=SimpleNamespace(Spectrogram=Spectrogram))
    # Not by an import statement: the package gives a stand-in for modules that want what is not installed.
    hugging_face = importlib.import_module("transformers.models.musicgen_melody.feature_extraction_musicgen_melody")
    monkeypatch.setattr(hugging_face, "torchaudio", torchaudio, raising=False)
    wave = WAVES[name][: 30 * RATE_HZ]

    extractor = hugging_face.MusicgenMelodyFeatureExtractor()
    theirs = extractor(wave, sampling_rate=RATE_HZ, return_tensors="np")["input_features"][0]

    assert np.array_equal(Recording(wave, RATE_HZ).chroma(len(theirs)), theirs)


# What comes before the codes

PROMPT = "a string quartet plays this, 90 bpm"
THEMES = {name: WAVES[name] for name in ("shorter than a frame", "odd length", "a window", "longer than a window")}


@pytest.fixture(scope="module")
def audiocrafts(tmp_path_factory):
    """Audiocraft's tiny melody model, and what it puts before the codes of one request."""
    folder = write_audiocraft(tmp_path_factory.mktemp("audiocraft"), TINY_MELODY, TINY_CODEC)
    import_audiocraft()
    generator = load_generator(find_checkpoint(str(folder)), "cpu")

    def prefixes(prompt: str, wave: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout

        melody = None if wave is None else [torch.from_numpy(wave)[None]]
        with torch.inference_mode():
            attributes, _ = generator._prepare_tokens_and_attributes([prompt], None, melody)
            both = attributes + ClassifierFreeGuidanceDropout(p=1.0)(attributes)
            provider = generator.lm.condition_provider
            conditions = provider(provider.tokenize(both))
            joined, _ = generator.lm.fuser(torch.zeros(2, 0, TINY_MELODY.dim), conditions)
        states = conditions["description"][0][0].numpy() if prompt else None
        return joined[0].numpy(), joined[1].numpy(), states

    return generator, prefixes


@pytest.mark.parametrize("prompt", [PROMPT, ""])
@pytest.mark.parametrize("theme", [*THEMES, None])
def test_the_prefix_is_audiocrafts(audiocrafts, prompt, theme):
    wave = THEMES[theme] if theme else None
    expected, expected_null, states = audiocrafts[1](prompt, wave)
    chroma = None if wave is None else Recording(wave, RATE_HZ).chroma(FRAMES)

    prefix, null_prefix = melody_prefix(chroma, states, None, random_lm(TINY_MELODY).chroma, FRAMES)

    assert np.array_equal(prefix, expected)
    assert np.array_equal(null_prefix, expected_null)


def test_each_window_of_a_long_piece_hears_the_part_of_the_theme_that_audiocraft_plays_there(audiocrafts, monkeypatch):
    generator, _ = audiocrafts
    wave, heard = tune(7, seed=6), []

    def generate(prompt, conditions, max_gen_len, **_):
        """Stands in for the language model: keeps what it would hear, and makes silence of the right length."""
        heard.append(conditions[0].wav["self_wav"].wav[0, 0].numpy())
        return torch.zeros(1, 4, max_gen_len, dtype=torch.long)

    monkeypatch.setattr(generator.lm, "generate", generate)
    generator.set_generation_params(duration=70.0)
    attributes, _ = generator._prepare_tokens_and_attributes([PROMPT], None, [torch.from_numpy(wave)[None]])
    generator._generate_tokens(attributes, None)

    windows = [Recording(wave, RATE_HZ).window(18.0 * index, 30.0) for index in range(4)]
    assert len(heard) == 4
    for window, expected in zip(windows, heard, strict=True):
        assert np.array_equal(window.wave, expected)


@pytest.fixture(scope="module")
def hugging_faces(tmp_path_factory):
    folder = write_hugging_face(tmp_path_factory.mktemp("hugging-face"), TINY_MELODY, TINY_CODEC)
    return MusicgenMelodyForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("theme", [*THEMES, None])
def test_the_prefix_is_hugging_faces(hugging_faces, theme):
    model = hugging_faces
    tokens = torch.tensor([[9, 17, 4, 1]])
    chroma = None if theme is None else Recording(THEMES[theme], RATE_HZ).chroma(FRAMES)
    arguments = {"attention_mask": torch.ones_like(tokens), "guidance_scale": 3.0}
    if chroma is not None:
        arguments["input_features"] = torch.from_numpy(chroma)[None]
    with torch.inference_mode():
        states = model.enc_to_dec_proj(model.text_encoder(tokens).last_hidden_state)[0].numpy()
        made = model._prepare_encoder_hidden_states_kwargs_for_generation(
            tokens, arguments, "input_ids", model.generation_config
        )["encoder_hidden_states"].numpy()

    prefix, null_prefix = melody_prefix(chroma, states, None, random_lm(TINY_MELODY).chroma, FRAMES)

    assert np.array_equal(prefix, made[0])
    assert np.array_equal(null_prefix, made[1])
