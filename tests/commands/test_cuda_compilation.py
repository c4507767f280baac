"""The kernels become what they are meant to be on a card of the Hopper generation, which need not be there for that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: 32 KiB of shared memory less than a program of Hopper may take, so that others fit beside it.
SHARED_BYTES = 196 << 10

if sys.platform == "linux":

    @pytest.fixture(scope="module")
    def kernels():
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        made = subprocess.run(
            [sys.executable, "-m", "tests.cuda_compilation", "90"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT)},
        )
        assert made.returncode == 0, made.stderr
        return json.loads(made.stdout)

    def test_each_fits_the_registers_and_the_shared_memory(kernels):
        assert len(kernels) == 12
        assert {name for name, made in kernels.items() if made["spilled_bytes"]} == set()
        assert {name for name, made in kernels.items() if made["shared_bytes"] > SHARED_BYTES} == set()

    def test_products_of_narrow_numbers_are_hopper_s_and_load_ahead(kernels):
        for name, made in kernels.items():
            if name.startswith("product"):
                assert (made["instructions"]["wgmma"] > 0) == ("fp32" not in name), name
                assert made["instructions"]["mma"] == 0, name  # Of Ampere: other bits.
                assert made["instructions"]["asynchronous copies"] > 0, name

    def test_attention_fetches_keys_and_values_while_it_uses_those_before(kernels):
        for name in ("attend, partial", "attend, whole"):
            assert kernels[name]["instructions"]["asynchronous copies"] > 0, name

    def test_each_is_launched_before_the_one_before_has_ended_and_waits_for_it_once(kernels):
        for name, made in kernels.items():
            counts = made["instructions"]
            expected = 0 if name == "draw" else 1
            assert counts["waits for the kernel before"] == expected, name
            assert counts["lets the next one come"] == expected, name

    def test_a_draw_rounds_every_product_as_numpy_does(kernels):
        assert kernels["draw"]["instructions"]["fused multiply-adds of float64"] == 0
