"""Depthwise convolutions of ConvNeXt-T on one core of a CPU: XLA's own form beside that of models/depthwise.py.

    taskset -c 1 python docs/measure_depthwise.py
    taskset -c 1 python docs/measure_depthwise.py --steps

Prints the tables of docs/performance.md: of the convolutions alone, and of whole training steps. Times are processor
time, medians of calls that take turns.
"""

import argparse
import os
import time
import unittest.mock
from collections.abc import Callable, Sequence

from mdp_jax import runtime

if "GLIBC_TUNABLES" not in os.environ:
    runtime.restart_with_malloc()  # as `mdp` does
runtime.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from mdp_jax import config as config_files  # noqa: E402
from mdp_jax import configs  # noqa: E402
from mdp_jax.benchmarks.step import random_bank, random_batch  # noqa: E402
from mdp_jax.models import depthwise  # noqa: E402
from mdp_jax.planning import programs as planned  # noqa: E402
from mdp_jax.training import programs, sharding  # noqa: E402

Form = Callable[[jax.Array, jax.Array], jax.Array]


def of_xla(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Images [B,H,W,C] and a kernel [7,7,1,C] to images of the same size."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def of_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same."""
    return depthwise.convolution(x, kernel, 1)


def with_gradients(form: Form) -> Callable:
    """(inputs, gradient of the output) -> output, and the gradients of the inputs."""

    def run(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        *inputs, g = arrays
        y, pull = jax.vjp(form, *inputs)
        return y, *pull(g)

    return run


def taken(function: Callable, *arrays: jax.Array) -> float:
    """Processor milliseconds of a call."""
    start = time.process_time()
    jax.block_until_ready(function(*arrays))
    return 1000 * (time.process_time() - start)


def in_turns(functions: Sequence[Callable], arrays: Sequence[jax.Array], seconds: float) -> list[list[float]]:
    """Processor milliseconds of calls of each, after one that does not count."""
    turns: list[list[float]] = [[] for _ in functions]
    for function in functions:
        taken(function, *arrays)
    while len(turns[0]) < 3 or sum(map(sum, turns)) < 1000 * seconds * len(functions):
        for times, function in zip(turns, functions, strict=True):
            times.append(taken(function, *arrays))
    return turns


def step_of(config: ConfigDict, classes: int | None) -> Callable[[], object]:
    """A function that takes a training step; None are the classes of the config's own sets."""
    space, mesh, random = planned.label_space(config, classes), sharding.make_mesh(1), np.random.default_rng(0)
    if planned.is_pretraining(config):
        program = programs.pretraining(configs.typed_pretrain(config), mesh, space, samples=10_000)
        state = program.make()
        filled = random_bank(random, space.num_classes, config.model.projection.dim)
        filled = jax.tree.map(lambda new, old: new.astype(old.dtype), filled, state.memory["bank"])
        state = state.replace(memory=state.memory | {"bank": filled})
    else:
        program = programs.finetuning(configs.typed_finetune(config), mesh, space.num_classes)
        state = program.make()
    batch = sharding.to_devices(random_batch(random, config, space.num_classes), mesh)
    step = program.step.lower(state, batch).compile()

    def take() -> object:
        nonlocal state
        state, _ = step(state, batch)
        return state

    return take


def print_steps(seconds: float) -> None:
    """Prints the table of whole steps."""
    print("| step | images/s: XLA's | ours | made and compiled: XLA's | ours |")
    print("| --- " + 4 * "| ---: " + "|")
    forms = (of_xla, depthwise.convolution)
    for path in ("configs/mini/pretrain.py", "configs/mini/camvid11.py"):
        config = config_files.load(path)
        config.model.update({"backbone": "convnext_tiny", "width": 28 / 96, "output_stride": 16})
        steps, compiled = [], []
        for form in forms:
            start = time.process_time()
            with unittest.mock.patch.object(depthwise, "convolution", form):
                steps.append(step_of(config, classes=19))
            compiled.append(f"{time.process_time() - start:.0f} s")
        speeds = [f"{1000 * config.batch / np.median(times):.1f}" for times in in_turns(steps, (), seconds)]
        print(f"| {path} | {' | '.join(speeds + compiled)} |", flush=True)


def print_convolutions(seconds: float) -> None:
    """Prints the table of convolutions."""
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
                both = []
                for form in (of_xla, of_products):
                    start = time.process_time()
                    both.append(jax.jit(wrap(form)).lower(*arrays).compile())
                    compiled.append(time.process_time() - start)
                cells += [f"{np.median(times):.2f} ms" for times in in_turns(both, arrays, seconds)]
            cells += [f"{one:.2f} s" for one in compiled[2:]]
            print(f"| {pixels} px, {side} x {side} x {channels} | {' | '.join(cells)} |", flush=True)


def main(what: str, operations: Callable[[float], None], steps: Callable[[float], None]) -> None:
    """Prints the tables of single operations or of whole steps, each of which is given the seconds of a number."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number, about")
    parser.add_argument("--steps", action="store_true", help="whole training steps in place of single operations")
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    (steps if args.steps else operations)(args.seconds)


if __name__ == "__main__":
    main("depthwise convolutions of ConvNeXt-T on a CPU", print_convolutions, print_steps)
