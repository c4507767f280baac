"""What the CPU that numba compiles for can do; everything that depends on it is chosen from here.

That need not be the CPU of this machine: `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` name another one. LLVM ends the
whole process when it is given an instruction, or needs a function, that its target lacks; so both are looked at first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

from orchestrion.errors import InvalidRequest

#: What every kernel does in one instruction. Without it LLVM calls functions, of which not all exist.
_NEEDED: Final = """
define <16 x float> @needed(<16 x half> %narrow, <16 x float> %a, ptr %out) {
  %wide = fpext <16 x half> %narrow to <16 x float>
  %sum = call <16 x float> @llvm.fma.v16f32(<16 x float> %wide, <16 x float> %a, <16 x float> %a)
  %half = fptrunc <16 x float> %sum to <16 x half>
  store <16 x half> %half, ptr %out
  ret <16 x float> %sum
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""
#: … as they stand in assembly: of libm, of LLVM's runtime and of GCC's.
_FUNCTIONS: Final = re.compile(r"\b_?(fmaf|__extendhfsf2|__truncsfhf2|__gnu_h2f_ieee|__gnu_f2h_ieee)\b")


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A CPU as LLVM is told of it."""

    triple: str
    cpu: str
    #: As LLVM takes them: "+avx2,-avx512f". Those that the name alone implies are missing.
    features: str

    @property
    def is_x86(self) -> bool:
        """Whether it is an x86 of 64 bits."""
        return self.triple.startswith("x86_64")

    @property
    def is_arm(self) -> bool:
        """Whether it is an ARM of 64 bits."""
        return self.triple.startswith(("aarch64", "arm64"))

    def has(self, feature: str) -> bool:
        """Whether `feature` is known to be there."""
        return f"+{feature}" in self.features.split(",")

    def assembly(self, code: str) -> str:
        """The LLVM `code` compiled for this CPU, as text; nothing is linked or run."""
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(code)
        module.triple = self.triple
        machine: Any = llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=2
        )
        text: str = machine.emit_assembly(module)
        return text

    def missing_functions(self) -> frozenset[str]:
        """Functions that the kernels would call for want of an instruction."""
        return frozenset(_FUNCTIONS.findall(self.assembly(_NEEDED)))


@cache
def numba_target() -> CpuTarget:
    """The CPU that numba compiles for in this process.

    Raises:
        InvalidRequest: it has no fused multiply-add or no 16-bit floats.
    """
    target = CpuTarget(*cpu_target.target_context.codegen().magic_tuple())
    if target.missing_functions():
        raise InvalidRequest.of(
            "NUMBA_CPU_NAME",
            target.cpu,
            "this CPU has no fused multiply-add or no 16-bit floats, which MusicGen needs (on x86: Intel's Haswell or "
            "AMD's Zen, or newer); unset NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, or name the CPU that is there",
        )
    return target
