"""Kernels in a process that is told of another CPU: the same integers, or a refusal that says what to do."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from orchestrion.models.musicgen.decoder.cpu.linear import PackedLinear
from orchestrion.models.musicgen.decoder.decoder import Precision

ROOT = Path(__file__).resolve().parents[2]

PRODUCTS = """
import sys
import numpy, torch
from orchestrion.models.musicgen.decoder.cpu.linear import PackedLinear
from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.native import emitter, products
weight, x = (numpy.load(path) for path in sys.argv[1:3])
print(products.dot_for(emitter.TARGET) is products.dot_multiply_add, products.BYTES_ARE_FAST)
layers = [PackedLinear.of(torch.from_numpy(weight), None, p) for p in (Precision.INT8, Precision.INT4)]
numpy.save(sys.argv[3], [layer(x) for layer in layers])
"""


def run(script: str, *arguments: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


if platform.machine() in {"x86_64", "AMD64"}:

    def test_a_cpu_with_avx2_alone_makes_the_same_integers(tmp_path):
        """In a process of its own that is told so; on a machine with VNNI, that is the other kernel's result."""
        generator = np.random.default_rng(1)
        weight, x = generator.normal(size=(200, 333)), generator.normal(size=(7, 333))
        weight[3], x[2] = 1, np.linspace(0, 1, 333)
        weight, x = weight.astype(np.float32), x.astype(np.float32)
        files = [tmp_path / name for name in ("weight.npy", "x.npy", "products.npy")]
        for path, array in zip(files, (weight, x), strict=False):
            np.save(path, array)
        features = "+avx2,+fma,+f16c,+bmi,+bmi2"
        emulated = run(PRODUCTS, *files, NUMBA_CPU_NAME="x86-64-v3", NUMBA_CPU_FEATURES=features)
        assert emulated.stdout.split() == ["True", "True"], emulated.stderr
        here = [PackedLinear.of(torch.from_numpy(weight), None, p)(x) for p in (Precision.INT8, Precision.INT4)]
        assert np.array_equal(np.load(files[2]), here)

    def test_a_cpu_name_without_what_the_kernels_need_is_refused_with_the_remedy():
        refused = run("import orchestrion.models.musicgen.native.products", NUMBA_CPU_NAME="generic")
        assert refused.returncode == 1  # And not -6: LLVM aborts the process.
        assert "InvalidRequest: NUMBA_CPU_NAME" in refused.stderr
        assert "unset NUMBA_CPU_NAME" in refused.stderr
