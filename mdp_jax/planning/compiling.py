"""Compiles for a topology, and says so on stderr, since it takes minutes."""

import contextlib
import time
from typing import Any

import jax
from rich.console import Console

from mdp_jax.planning.memory import Exhausted, exhausted

_STDERR = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

# Of the optimisation for speed, which is most of the compiler's time; collectives and FLOPs do not depend on it.
_LITTLE_EFFORT: dict[str, Any] = {"exec_time_optimization_effort": -1.0}


def compile_for(
    what: str, lowered: jax.stages.Lowered, quick: bool = False
) -> tuple[jax.stages.Compiled | Exhausted, float]:
    """Compiles a program.

    Args:
      what: name of the program, for stderr.
      lowered: for devices that need not be present.
      quick: with little effort, in a tenth of the time for a ResNet-50; the memory comes out higher.

    Returns:
      The compiled program, or what it needs where that is more than a device has; and the seconds that it took.
    """
    began = time.monotonic()
    _STDERR.print(f"compiling {what}")
    with _STDERR.status(f"compiling {what}") if _STDERR.is_terminal else contextlib.nullcontext():
        outcome: jax.stages.Compiled | Exhausted
        try:
            outcome = lowered.compile(compiler_options=_LITTLE_EFFORT if quick else None)
        except jax.errors.JaxRuntimeError as error:
            found = exhausted(str(error))
            if found is None:
                raise
            outcome = found
    seconds = time.monotonic() - began
    _STDERR.print(f"  {'does not fit' if isinstance(outcome, Exhausted) else 'done'} after {seconds:.0f} s")
    return outcome, seconds


def needed(compiled: jax.stages.Compiled) -> int:
    """The bytes that a program needs on a device: arguments, results without donated ones, temporaries and code.

    Args:
      compiled: for a backend that analyses memory, as those of CPU, GPU and TPU do.
    """
    stats = compiled.memory_analysis()
    assert stats is not None
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.argument_size_in_bytes + results + stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
