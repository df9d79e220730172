"""Depthwise convolutions of ConvNeXt-T on one core of a CPU: XLA's own form beside that of models/depthwise.py.

    taskset -c 1 python docs/measure_depthwise.py

Prints the table of docs/performance.md. Times are processor time, medians of calls that take turns.
"""

import argparse
import os
import time
from collections.abc import Callable

from mdp_jax import runtime

if "GLIBC_TUNABLES" not in os.environ:
    runtime.restart_with_malloc()  # as `mdp` does
runtime.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from mdp_jax.models import depthwise  # noqa: E402

Form = Callable[[jax.Array, jax.Array], jax.Array]


def of_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [B,H,W,C] and a kernel [7,7,1,C] to images of the same size."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=x.shape[-1]
    )


def of_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same."""
    return depthwise.convolution(x, kernel, 1)


def with_gradients(form: Form) -> Callable:
    """(x, kernel, gradient of the output) -> output, and the gradients of x and kernel."""

    def run(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(form, x, kernel)
        return y, *pull(g)

    return run


def taken(function: Callable, *arrays: jax.Array) -> float:
    """Processor milliseconds of a call."""
    start = time.process_time()
    jax.block_until_ready(function(*arrays))
    return 1000 * (time.process_time() - start)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="depthwise convolutions of ConvNeXt-T on a CPU")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number, about")
    seconds = parser.parse_args().seconds
    jax.config.update("jax_enable_compilation_cache", False)
    random = np.random.default_rng(0)
    print("| image, features | forward: XLA's | ours | with gradients: XLA's | ours | compiled: XLA's | ours |")
    print("| --- " + 6 * "| ---: " + "|")
    for pixels in (64, 128):
        for stage in range(4):
            side, channels = pixels // 4 // 2**stage, 96 * 2**stage
            shapes = (8, side, side, channels), (7, 7, 1, channels), (8, side, side, channels)
            x, kernel, g = (jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes)
            cells, compiled = [], []
            for wrap, arrays in ((lambda form: form, (x, kernel)), (with_gradients, (x, kernel, g))):
                programs = []
                for form in (of_xla, of_products):
                    start = time.process_time()
                    programs.append(jax.jit(wrap(form)).lower(*arrays).compile())
                    compiled.append(time.process_time() - start)
                turns: list[list[float]] = [[], []]
                for program in programs:
                    taken(program, *arrays)
                while len(turns[0]) < 3 or sum(map(sum, turns)) < 2000 * seconds:
                    for times, program in zip(turns, programs, strict=True):
                        times.append(taken(program, *arrays))
                cells += [f"{np.median(times):.2f} ms" for times in turns]
            cells += [f"{one:.2f} s" for one in compiled[2:]]
            print(f"| {pixels} px, {side} x {side} x {channels} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
