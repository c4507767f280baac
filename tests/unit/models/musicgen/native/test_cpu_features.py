"""Kernels fit the CPU that they are compiled for, and a CPU that cannot run them is refused instead of ending us."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from llvmlite import ir

from orchestrion.models.musicgen.decoder.cpu.linear import PackedLinear
from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.native import emitter, products
from orchestrion.models.musicgen.native.cpu_features import CpuTarget, numba_target

ROOT = Path(__file__).resolve().parents[5]
X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@pytest.fixture(scope="module", autouse=True)
def _compilers_for_all():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def assembly_of(dot, target: CpuTarget) -> str:
    """What LLVM makes of one dot there."""
    module = ir.Module()
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(emitter.INTS, [emitter.INTS] * 3), "dot")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(dot(emitter.Emitter(builder), *function.args))
    return target.assembly(str(module))


@pytest.mark.parametrize(
    ("triple", "cpu", "feature", "instruction"),
    [
        (X86, "icelake-server", "avx512vnni", r"vpdpbusd\s+%zmm"),
        (X86, "alderlake", "avxvnni", r"vpdpbusd\s+%ymm"),
        (X86, "skylake-avx512", "avx512bw", r"vpmaddwd\s+%zmm"),
        (X86, "znver3", "avx2", r"vpmaddwd\s+%ymm"),
        (X86, "bdver2", "fma", r"vpma|vpmull"),
        (ARM, "neoverse-v1", "i8mm", r"usdot\s+v"),
        (ARM, "cortex-a72", "neon", r"\bmla\s+v"),
    ],
)
def test_each_cpu_multiplies_bytes_with_the_best_that_it_has(triple, cpu, feature, instruction):
    target = CpuTarget(triple, cpu, f"+{feature}")
    assert re.search(instruction, assembly_of(products.dot_for(target), target))


def test_a_feature_that_was_taken_away_is_not_there():
    assert CpuTarget(X86, "znver4", "+avx2,-avx512vnni").has("avx2")
    assert not CpuTarget(X86, "znver4", "+avx2,-avx512vnni").has("avx512vnni")


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "missing"),
    [
        (X86, "generic", "", {"fmaf", "__extendhfsf2", "__truncsfhf2"}),
        (X86, "ivybridge", "", {"fmaf"}),
        (X86, "generic", "+fma", {"__extendhfsf2", "__truncsfhf2"}),
        (X86, "haswell", "", set()),
        (X86, "znver3", "", set()),
        (ARM, "generic", "", set()),
        ("arm64-apple-darwin", "apple-m1", "", set()),
    ],
)
def test_what_a_cpu_cannot_do_is_known_before_anything_is_linked(triple, cpu, features, missing):
    assert CpuTarget(triple, cpu, features).missing_functions() == missing


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


def test_this_machine_is_good_enough_for_the_tests():
    assert numba_target().missing_functions() == frozenset()
