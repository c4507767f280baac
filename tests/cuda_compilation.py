"""Compiles the kernels for a card that is not there: `python -m tests.cuda_compilation 90`.

Triton brings the compilers along. Ends in one JSON document: for each kernel its registers, spilled bytes, shared
memory and how often it has the instructions that its speed depends on. In a process of its own, for where kernels are
interpreted there are none to compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from orchestrion.models.musicgen.decoder.pytorch import cuda_arithmetic, cuda_kernels
from tests.musicgen_checkpoints import SMALL

BF16, FP8, FP32, INT, LONGS, DOUBLES = "*bf16", "*fp8e4nv", "*fp32", "i32", "*i64", "*fp64"
HEADS, HEAD_DIM, DIM = SMALL.heads, SMALL.head_dim, SMALL.dim
INSTRUCTIONS = {
    "wgmma": r"wgmma\.mma_async",
    "mma": r"mma\.sync",
    "asynchronous copies": r"cp\.async\.c[ag]",
    "waits for the kernel before": r"griddepcontrol\.wait",
    "lets the next one come": r"griddepcontrol\.launch_dependents",
    "fused multiply-adds of float64": r"fma\.rn\.f64",
}


def compiled(
    kernel: Any, arguments: Mapping[str, str], constants: Mapping[str, Any], capability: int, **options: Any
) -> dict[str, Any]:
    """What `kernel` becomes with pointers and sizes as a decoder has them: multiples of 16, but for rows and parts."""
    names = list(arguments)
    free = {names[i] if isinstance(i, int) else i for i in kernel.do_not_specialize}
    free |= {names[i] if isinstance(i, int) else i for i in kernel.do_not_specialize_on_alignment}
    aligned = [name for name in names if name not in free and not arguments[name].startswith(("fp", "bf"))]
    source = ASTSource(
        fn=kernel,
        signature={**arguments, **dict.fromkeys(constants, "constexpr")},
        constexprs=dict(constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = made.asm["ptx"]
    return {
        "shared_bytes": made.metadata.shared,
        "instructions": {name: len(re.findall(pattern, ptx)) for name, pattern in INSTRUCTIONS.items()},
        **resources(made.asm["cubin"]),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """Registers a thread, and bytes of local memory for what did not fit them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", said))
    return {"registers": int(used["REG"]), "spilled_bytes": int(used["STACK"]) + int(used["LOCAL"])}


def all_kernels(capability: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kernel in each form that decoders of the small model launch on such a card."""
    early = {"EARLY": capability >= 90}
    launch = {"launch_pdl": capability >= 90, "enable_fp_fusion": True}

    def product(inputs: str, weight: str, outputs: str, *, gelu: bool = False) -> dict[str, Any]:
        scaled = weight == FP8
        pointers = {"inputs": inputs, "input_scale": FP32, "weight": weight, "weight_scale": FP32, "outputs": outputs}
        sizes = dict.fromkeys(("rows", "outs", "ins", "span", "parts"), INT)
        depth = cuda_arithmetic.TILE_BYTES // {BF16: 2, FP8: 1, FP32: 4}[weight]
        constants = {
            "SCALED": scaled,
            "GELU": gelu,
            "ROWS": cuda_arithmetic.TILE_ROWS,
            "OUTPUTS": cuda_arithmetic.TILE_OUTPUTS,
        }
        options = launch | {"num_warps": 4, "num_stages": cuda_arithmetic.STAGES, "enable_fp_fusion": not scaled}
        return compiled(
            cuda_kernels.product_kernel,
            pointers | sizes,
            constants | {"DEPTH": depth} | early,
            capability,
            **options,
        )

    yield "product bf16", product(BF16, BF16, BF16)
    yield "product bf16, gelu", product(BF16, BF16, BF16, gelu=True)
    yield "product bf16, parts", product(BF16, BF16, FP32)
    yield "product fp32", product(FP32, FP32, FP32)
    if capability >= 89:
        yield "product fp8", product(FP8, FP8, BF16)
        yield (
            "quantise",
            compiled(
                cuda_kernels.quantise_kernel,
                {"inputs": BF16, "outputs": FP8, "scales": FP32, "ins": INT},
                {"MAX": cuda_arithmetic.FP8_MAX, "LEAST": cuda_arithmetic.LEAST_SCALE, "BLOCK": DIM} | early,
                capability,
                **launch,
            ),
        )
    yield (
        "norm",
        compiled(
            cuda_kernels.norm_kernel,
            {"x": FP32, "added": FP32, "weight": FP32, "bias": FP32, "outputs": BF16}
            | dict.fromkeys(("dim", "parts", "part_rows"), INT),
            {"EPSILON": cuda_arithmetic.NORM_EPSILON, "BLOCK": DIM} | early,
            capability,
            **launch,
        ),
    )
    heads = {"HEADS": HEADS, "HEAD_DIM": HEAD_DIM}
    yield (
        "remember",
        compiled(
            cuda_kernels.remember_kernel,
            {"qkv": BF16, "cache": BF16, "streams": LONGS, "at": LONGS, "kind_stride": INT, "places": INT},
            heads | {"BLOCK": DIM} | early,
            capability,
            **launch,
        ),
    )
    for partial, outputs in ((True, FP32), (False, BF16)):
        yield (
            f"attend, {'partial' if partial else 'whole'}",
            compiled(
                cuda_kernels.attend_kernel,
                {"queries": BF16, "cache": BF16, "streams": LONGS, "lengths": LONGS, "outputs": outputs}
                | dict.fromkeys(("query_stride", "kind_stride", "places"), INT)
                | {"scale": "fp32"},
                heads
                | {
                    "BLOCK": HEAD_DIM,
                    "SPAN": cuda_arithmetic.CHUNK,
                    "PLACES": cuda_arithmetic.TILE_PLACES,
                    "LOADS": cuda_arithmetic.ATTEND_LOADS,
                    "PARTIAL": partial,
                }
                | early,
                capability,
                **launch,
            ),
        )
    yield (
        "combine",
        compiled(
            cuda_kernels.combine_kernel,
            {"partial": FP32, "lengths": LONGS, "outputs": BF16, "chunks": INT},
            heads | {"BLOCK": HEAD_DIM, "SPAN": cuda_arithmetic.CHUNK} | early,
            capability,
            num_warps=1,
            **launch,
        ),
    )
    yield (
        "draw",
        compiled(
            cuda_kernels.draw_kernel,
            {"logits": FP32, "seeds": LONGS, "columns": LONGS, "temperatures": DOUBLES, "top_ks": LONGS}
            | {"top_ps": DOUBLES, "codes": LONGS, "card": INT},
            {
                "LOG": cuda_arithmetic.LOG_SERIES,
                "EXP": cuda_arithmetic.EXP_SERIES,
                "SQRT_HALF": cuda_arithmetic.SQRT_HALF_BITS,
                "BITS": cuda_arithmetic.MANTISSA_BITS,
                "BIAS": cuda_arithmetic.EXPONENT_BIAS,
                "LN2": cuda_arithmetic.LN_2,
                "LOG2E": cuda_arithmetic.LOG2_E,
                "LOWEST": cuda_arithmetic.LOWEST_EXPONENT,
                "UNIT": cuda_arithmetic.WEIGHT_UNIT,
                "HALF_STEP_": cuda_arithmetic.HALF_STEP,
                "DOMAIN": cuda_arithmetic.CODES_DOMAIN,
                "NONE": cuda_arithmetic.NO_CODE,
                "BLOCK": SMALL.card,
            },
            capability,
            num_warps=8,
            enable_fp_fusion=False,
        ),
    )


if __name__ == "__main__":
    print(json.dumps(dict(all_kernels(int(sys.argv[1]))), indent=2))
