"""Kernels fit the CPU that they are compiled for, and a CPU that cannot run them is refused instead of ending us."""

import re
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

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


def test_this_machine_is_good_enough_for_the_tests():
    assert numba_target().missing_functions() == frozenset()
