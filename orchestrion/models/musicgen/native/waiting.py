"""Threads that hand work to each other through counters in memory."""

from __future__ import annotations

from typing import Final

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from orchestrion.models.musicgen.native.emitter import INT, LONG, Emitter, compiled, native


def _emit_claim(emit: Emitter, counter: ir.Value) -> ir.Value:
    pointer = emit.builder.inttoptr(counter, LONG.as_pointer())
    return emit.builder.atomic_rmw("add", pointer, emit.number(1), "seq_cst")


def _emit_look(emit: Emitter, counter: ir.Value) -> ir.Value:
    return emit.builder.load_atomic(emit.builder.inttoptr(counter, LONG.as_pointer()), "acquire", 8)


def _emit_pause(emit: Emitter) -> None:
    if "x86" in llvm.get_process_triple():
        emit.call("llvm.x86.sse2.pause", ir.VoidType())
    elif "aarch64" in llvm.get_process_triple() or "arm64" in llvm.get_process_triple():
        emit.call("llvm.aarch64.hint", ir.VoidType(), ir.Constant(INT, 1))


#: The int64 at an address before one is added to it, by one thread at a time.
claim: Final = native(_emit_claim, "counter", result=types.intp)
look: Final = native(_emit_look, "counter", result=types.intp)
pause: Final = native(_emit_pause, "")
give_way: Final = types.ExternalFunction("sched_yield", types.int32())
#: Looks at a counter before the core is offered to others: about 20 µs, far more than threads with a core each need.
LOOKS_BEFORE_YIELD: Final = 1000


@compiled
def wait_for(counter: int, value: int) -> None:
    """Returns when the int64 at `counter` has reached `value`."""
    looks = 0
    while look(counter) < value:
        looks += 1
        if looks < LOOKS_BEFORE_YIELD:
            pause()
        else:
            give_way()
