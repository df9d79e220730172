"""Compiling for a topology, with a word on stderr: it takes minutes."""

import contextlib
import time

import jax
from rich.console import Console

from mdp_jax.planning.memory import Exhausted, exhausted

_STDERR = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

# Of the optimisation for speed, which is most of the compiler's time; collectives and FLOPs do not depend on it.
_LITTLE_EFFORT = {"exec_time_optimization_effort": -1.0}


def compile_for(
    what: str, lowered: jax.stages.Lowered, quick: bool = False
) -> tuple[jax.stages.Compiled | Exhausted, float]:
    """The compiled program, or what it needs where that is more than a device has, and the seconds that it took.

    Args:
      what: is said on stderr.
      lowered: for devices that need not be here.
      quick: with little effort, in a tenth of the time for a ResNet-50; the memory comes out higher.
    """
    began = time.monotonic()
    _STDERR.print(f"compiling {what}")
    with _STDERR.status(f"compiling {what}") if _STDERR.is_terminal else contextlib.nullcontext():
        try:
            outcome = lowered.compile(compiler_options=_LITTLE_EFFORT if quick else None)
        except jax.errors.JaxRuntimeError as error:
            outcome = exhausted(str(error))
            if outcome is None:
                raise
    seconds = time.monotonic() - began
    _STDERR.print(f"  {'does not fit' if isinstance(outcome, Exhausted) else 'done'} after {seconds:.0f} s")
    return outcome, seconds


def needed(compiled: jax.stages.Compiled) -> int:
    """Bytes on a device: arguments, results that take no argument's place, temporaries and code."""
    stats = compiled.memory_analysis()
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.argument_size_in_bytes + results + stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
