"""The text encoder's arithmetic against transformers' own, in both kinds that T5 comes in."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from orchestrion.models.musicgen.checkpoint_files import Tensors
from orchestrion.models.musicgen.checkpoint_geometry import T5Geometry
from orchestrion.models.musicgen.t5 import T5Encoder


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_states_are_transformers(feed_forward, tmp_path):
    torch.manual_seed(5)
    theirs = T5EncoderModel(
        T5Config(
            vocab_size=300, d_model=96, d_kv=16, d_ff=128, num_layers=3, num_heads=4, feed_forward_proj=feed_forward
        )
    ).eval()
    tensors = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in theirs.state_dict().items()}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    theirs.load_state_dict(tensors)
    save_file({name: tensors[name] for name in tensors if "embed_tokens" not in name}, tmp_path / "model.safetensors")
    geometry = T5Geometry(
        vocabulary=300,
        dim=96,
        head_dim=16,
        ffn_dim=128,
        layers=3,
        heads=4,
        distance_buckets=32,
        farthest_distance=128,
        norm_epsilon=1e-6,
        feed_forward=feed_forward,
    )
    ours = T5Encoder(geometry, Tensors.open([tmp_path / "model.safetensors"]), "")

    for count in (1, 9, 300):  # To beyond the farthest distance that it can tell.
        tokens = torch.randint(300, (count,))
        with torch.no_grad():
            expected = theirs(input_ids=tokens[None]).last_hidden_state[0]
            torch.testing.assert_close(ours.states(tokens), expected, rtol=0, atol=2e-5)
