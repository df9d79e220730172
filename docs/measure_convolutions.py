"""What the steps of a ResNet on a CPU are made of: convolutions beside PyTorch's, and maximum pooling in both forms.

    taskset -c 1 python docs/measure_convolutions.py
    taskset -c 1 python docs/measure_convolutions.py --steps

Prints the tables of docs/performance.md: of the operations alone, and of whole training steps with each form of the
pooling. Times are processor time, medians of calls that take turns.
"""

import importlib.util
import unittest.mock
from collections.abc import Callable

import jax
import jax.numpy as jnp
import measure_depthwise as measuring  # beside this file; it starts JAX as `mdp` does
import numpy as np

from mdp_jax import config as config_files
from mdp_jax.models import pooling
from mdp_jax.models.backbones import resnet

SHAPES = [(16, 24, 32), (16, 12, 64), (16, 12, 128), (16, 12, 256)]  # photos, side, channels in and out
POOLED = [(16, 32, 16), (16, 48, 32), (2, 64, 64)]
SIZES: list[dict[str, str]] = [{}, {"model.width": "0.5", "data.crop": "(96,96)"}]


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Photos [B,H,W,C] and a kernel [3,3,C,D] to [B,H,W,D]."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def of_jax(arrays: list[np.ndarray]) -> list[Callable[[], object]]:
    """Forward, and the gradients of the photo and of the kernel."""
    x, kernel, g = map(jnp.asarray, arrays)
    of_x = jax.jit(lambda g: jax.vjp(lambda x: convolution(x, kernel), x)[1](g))
    of_kernel = jax.jit(lambda x, g: jax.vjp(lambda kernel: convolution(x, kernel), kernel)[1](g))
    forward = jax.jit(convolution)
    return [lambda: forward(x, kernel), lambda: of_x(g), lambda: of_kernel(x, g)]


def of_torch(arrays: list[np.ndarray]) -> list[Callable[[], object]]:
    """The same of PyTorch, in channels last."""
    import torch

    torch.set_num_threads(1)
    orders = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    x, kernel, g = (
        torch.tensor(array.transpose(order)).contiguous(memory_format=torch.channels_last)
        for array, order in zip(arrays, orders, strict=True)
    )

    def gradient(*wanted: bool) -> Callable[[], object]:
        return lambda: (
            torch.ops.aten.convolution_backward(
                g, x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*wanted, False]
            )
            and None
        )

    def forward() -> None:
        torch.nn.functional.conv2d(x, kernel, padding=1)

    return [forward, gradient(True, False), gradient(False, True)]


def print_convolutions(seconds: float) -> None:
    """Prints the table of convolutions."""
    random = np.random.default_rng(0)
    columns = [
        f"{what}: {whose}" for what in ("forward", "of the photo", "of the kernel") for whose in ("ours", "PyTorch's")
    ]
    print(f"| 3x3, features | {' | '.join(columns)} |\n| --- {'| ---: ' * len(columns)}|")
    for batch, side, channels in SHAPES:
        shapes = (batch, side, side, channels), (3, 3, channels, channels), (batch, side, side, channels)
        arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
        theirs = of_torch(arrays) if importlib.util.find_spec("torch") else []
        calls = [call for pair in zip(of_jax(arrays), theirs or [None] * 3, strict=True) for call in pair if call]
        found = iter(measuring.in_turns(calls, (), seconds))
        cells = [f"{np.median(next(found)):.2f} ms" if theirs or k % 2 == 0 else "" for k in range(6)]
        print(f"| {batch} x {side} x {side} x {channels} | {' | '.join(cells)} |", flush=True)


def print_pooling(seconds: float) -> None:
    """Prints the table of maximum pooling."""
    random = np.random.default_rng(0)
    print("| pooling, features | forward: XLA's | ours | with gradient: XLA's | ours |")
    print("| --- " + 4 * "| ---: " + "|")
    for batch, side, channels in POOLED:
        x = jax.nn.relu(random.standard_normal((batch, side, side, channels), np.float32))
        g = jnp.asarray(random.standard_normal((batch, side // 2, side // 2, channels), np.float32))
        forms = pooling._whole, pooling.max_pool
        cells = [
            f"{np.median(times):.2f} ms"
            for wrap, given in ((lambda form: form, (x,)), (measuring.with_gradients, (x, g)))
            for times in measuring.in_turns([jax.jit(wrap(form)) for form in forms], given, seconds)
        ]
        print(f"| {batch} x {side} x {side} x {channels} | {' | '.join(cells)} |", flush=True)


def print_steps(seconds: float) -> None:
    """Prints the table of whole steps."""
    print("| step | images/s: XLA's pooling | ours |\n| --- | ---: | ---: |")
    for path in ("configs/quickstart/pretrain.py", "configs/quickstart/finetune.py"):
        for values in SIZES:
            config = config_files.apply_overrides(config_files.load(path), [*values.items(), ("devices", "1")])
            steps = []
            for form in (pooling._whole, pooling.max_pool):
                with unittest.mock.patch.object(resnet, "max_pool", form):
                    steps.append(measuring.step_of(config, None))
            speeds = [
                f"{1000 * config.batch / np.median(times):.1f}" for times in measuring.in_turns(steps, (), seconds)
            ]
            size = f", width {values['model.width']}, {values['data.crop']}" if values else ""
            print(f"| {path}{size} | {' | '.join(speeds)} |", flush=True)


def print_operations(seconds: float) -> None:
    """Prints the tables of convolutions and of maximum pooling."""
    print_convolutions(seconds)
    print()
    print_pooling(seconds)


if __name__ == "__main__":
    measuring.main("what the steps of a ResNet on a CPU are made of", print_operations, print_steps)
