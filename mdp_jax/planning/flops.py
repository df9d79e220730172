"""Counts the floating-point operations of a traced function from its jaxpr; bodies of scans count as often as they run.

A multiply-add of a convolution or a matrix product is two operations; multiplications with padding and with the zeros
of a dilated input are none. Every other array operation counts one for each element of its output, a reduction or a
scatter one for each element of its input. Operations that only move or convert values count nothing. Where a program
has one form for CPUs and another for accelerators, that of accelerators counts, on a CPU too.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn

from mdp_jax.models import depthwise

_MOVES = {
    "bitcast_convert_type",
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "device_put",
    "dynamic_slice",
    "dynamic_update_slice",
    "expand_dims",
    "gather",
    "iota",
    "optimization_barrier",
    "pad",
    "platform_index",
    "reshape",
    "reshard",
    "rev",
    "sharding_constraint",
    "slice",
    "squeeze",
    "stack",
    "stop_gradient",
    "transpose",
}
_BY_INPUT = {"argmax", "argmin", "cumsum"}  # and everything that begins with reduce_


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _dot(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = _shape(equation.invars[0])
    return 2 * _size(equation.outvars[0]) * math.prod(shape[axis] for axis in contracted)


def _met(out: int, kernel: int, size: int, stride: int, padding: int, kernel_dilation: int, input_dilation: int) -> int:
    """Pairs of output position and kernel position, along one axis, that meet a value of the input."""
    at = np.arange(out)[:, None] * stride - padding + np.arange(kernel)[None, :] * kernel_dilation
    return int(np.sum((at >= 0) & (at <= (size - 1) * input_dilation) & (at % input_dilation == 0)))


def _convolution(equation: JaxprEqn) -> int:
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel, out = map(_shape, (*equation.invars, *equation.outvars))
    pairs = [
        _met(out[o], kernel[k], image[i], stride, padding[0], kernel_dilation, input_dilation)
        for o, k, i, stride, padding, kernel_dilation, input_dilation in zip(
            numbers.out_spec[2:],
            numbers.rhs_spec[2:],
            numbers.lhs_spec[2:],
            params["window_strides"],
            params["padding"],
            params["rhs_dilation"],
            params["lhs_dilation"],
            strict=True,
        )
    ]
    channels_in = kernel[numbers.rhs_spec[1]]  # of one group
    return 2 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * channels_in * math.prod(pairs)


def _of_equation(equation: JaxprEqn) -> int:
    """Operations of one equation that holds no other jaxpr."""
    name = equation.primitive.name
    if name == "dot_general":
        return _dot(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name in _MOVES:
        return 0
    if name.startswith("scatter"):
        return _size(equation.invars[2])
    if name.startswith("reduce_window"):
        return _size(equation.outvars[0]) * math.prod(equation.params["window_dimensions"])
    if name.startswith("select_and"):  # the gradient of a pooling looks through the windows of its output once more
        return _size(equation.invars[0]) * math.prod(equation.params["window_dimensions"])
    if name.startswith("reduce_") or name in _BY_INPUT:
        return _size(equation.invars[0])
    return sum(_size(variable) for variable in equation.outvars)


def _inner(equation: JaxprEqn) -> list[tuple[Jaxpr, int]]:
    """The jaxprs inside an equation and how often they run: of calls, scans, loops, the branches of a choice."""
    params, name = equation.params, equation.primitive.name
    if name == "while":  # how often it runs is not known before
        return [(params["body_jaxpr"].jaxpr, 1), (params["cond_jaxpr"].jaxpr, 1)]
    if (chosen := depthwise.on_accelerators(equation)) is not None:
        return [(chosen.jaxpr, 1)]
    if name == "cond":
        return [
            (max((branch.jaxpr for branch in params["branches"]), key=lambda branch: sum(count(branch).values())), 1)
        ]
    if name.startswith(("reduce", "scatter", "select_and")):  # they hold the function of two values that they apply
        return []
    jaxprs = [params[key] for key in ("jaxpr", "call_jaxpr") if key in params]
    return [(getattr(jaxpr, "jaxpr", jaxpr), params["length"] if name == "scan" else 1) for jaxpr in jaxprs]


def _walk(jaxpr: Jaxpr, scope: str, times: int) -> Iterator[tuple[str, int]]:
    for equation in jaxpr.eqns:
        scope_of = f"{scope}/{equation.source_info.name_stack}"
        inner = _inner(equation)
        for body, repeats in inner:
            yield from _walk(body, scope_of, times * repeats)
        if not inner:
            yield scope_of, times * _of_equation(equation)


def count(jaxpr: Jaxpr, part_of: Callable[[str], str] = lambda scope: "all") -> dict[str, int]:
    """Counts the operations of a jaxpr, by part.

    Args:
      jaxpr: of jax.make_jaxpr(f)(...).jaxpr; shapes are those of all devices together.
      part_of: scope of an operation, such as "/jvp(PixelEncoder)/backbone/conv1" -> name of its part.

    Returns:
      {part: operations}. The body of a while loop counts once; of a choice the largest branch counts.
    """
    parts: dict[str, int] = {}
    for scope, operations in _walk(jaxpr, "", 1):
        part = part_of(scope)
        parts[part] = parts.get(part, 0) + operations
    return parts
