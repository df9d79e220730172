"""`mdp compare --precision`: networks that compute in bfloat16 beside the same in float32.

How far the two may be apart follows from the number of roundings. A value that is rounded to bfloat16 changes by at
most u = 2^-8 of itself. Roundings are independent of each other, so the squares of what they do add up: after N of them
the outputs differ by u sqrt(N) of their norm, as long as no operation makes a difference larger beside the values than
it was. N is counted in the program: the operations that give bfloat16 values, but for those that only move or choose
values.

What a sum of rounded terms would spoil is not measured but looked for: in a program that computes in bfloat16 there may
be no exponential, logarithm, root or sum of bfloat16 values. So softmax, normalisations, prototypes and losses are in
float32.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax import configs
from mdp_jax.configs import DecoderConfig, PretrainModelConfig, ProjectionConfig
from mdp_jax.errors import UserError
from mdp_jax.models import depthwise, network
from mdp_jax.models.apply import Network
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.parity.comparison_jax import computing_in

ROUNDING = 2.0**-8  # u: half the distance of neighbours of 1 in bfloat16
UNDER_DECODERS = "resnet18"  # the backbone of the rows of decoders
_IMAGES = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)  # normalised
# Operations that move or choose values, and round nothing.
_EXACT = frozenset(
    (
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "slice", "dynamic_slice", "dynamic_update_slice"),
        *("concatenate", "pad", "rev", "gather", "select_n", "max", "min", "neg", "abs", "sign", "stop_gradient"),
        *("reduce_max", "reduce_min", "argmax", "copy", "name", "reduce_window_max", "iota", "scatter", "split"),
        *("sharding_constraint", "optimization_barrier", "clamp"),
    )
)
# What is wrong on bfloat16 values in the forward pass: softmax, logarithms of it, spreads, means and other sums.
SPOILT = frozenset(
    (
        *("exp", "exp2", "expm1", "log", "log1p", "logistic", "sqrt", "rsqrt", "cbrt", "pow"),
        *("reduce_sum", "cumsum", "cumlogsumexp", "reduce_window_sum", "reduce_precision"),
    )
)


@dataclass(frozen=True)
class Case:
    """A network of a row.

    Attributes:
      what: names it.
      model: the network, in float32.
      make: model -> the module of which (variables, images) gives what is compared.
    """

    what: str
    model: PretrainModelConfig
    make: Callable[[PretrainModelConfig], Network]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      what: the network.
      roundings: N.
      difference: norm of the difference of the outputs, as a share of their norm; the largest of several outputs.
      spoilt: operations on bfloat16 values that should be in float32.
      cause: of a known gap; there is none.
    """

    what: str
    roundings: int
    difference: float
    spoilt: tuple[str, ...]
    cause: str = ""

    @property
    def tolerance(self) -> float:
        """u sqrt(N)."""
        return ROUNDING * math.sqrt(self.roundings)

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance, and no operation is spoilt."""
        return self.difference <= self.tolerance and not self.spoilt

    def columns(self) -> dict:
        """The cells by the name of their column."""
        return {
            "what": self.what,
            "roundings": self.roundings,
            "tolerance": self.tolerance,
            "difference": self.difference,
            "ok": self.ok,
            "note": self.remark,
        }

    @property
    def remark(self) -> str:
        """What is wrong besides the difference."""
        return f"in bfloat16: {', '.join(self.spoilt)}" if self.spoilt else ""


def cases() -> list[Case]:
    """A narrow network of full depth for each backbone, one for each decoder, and one with the projection."""
    narrow = PretrainModelConfig(width=1 / 8, projection=ProjectionConfig(16, 16))
    found = []
    for name, entry in BACKBONES.items():
        stride = entry.output_strides[0]
        model = replace(narrow, backbone=name, output_stride=stride)
        found.append(Case(f"{name}, output stride {stride}", model, _backbone))
    for name, decoder in DECODERS.items():
        entry = BACKBONES[UNDER_DECODERS]
        fitting = (s for s in entry.output_strides if set(decoder.reads(s)) <= entry.channels(1.0, s).keys())
        of_decoder = DecoderConfig(name, next(iter(decoder.layouts), ""), channels=32, rates=(1, 2))
        model = replace(narrow, backbone=UNDER_DECODERS, output_stride=next(fitting), decoder=of_decoder)
        found.append(Case(f"{name} on {UNDER_DECODERS}, logits", model, _segmenter))
        if name == configs.PretrainConfig().model.decoder.name:
            found.append(Case(f"{name} on {UNDER_DECODERS}, unit vectors", model, network.pixel_encoder))
    return found


def _backbone(model: PretrainModelConfig) -> Network:
    return network.segmenter(model, 1).backbone


def _segmenter(model: PretrainModelConfig) -> Network:
    return network.segmenter(model, 5)


def compare(say: Callable[[str], None], backbone: str = "") -> list[Row]:
    """Measures the rows, on the CPU, in evaluation.

    Args:
      say: called with what is being computed.
      backbone: in the registry, whose rows alone are measured; "" = all rows.

    Raises:
      UserError: there is no such backbone.
    """
    if backbone and backbone not in BACKBONES:
        raise UserError(f"--backbone {backbone}: expected one of {', '.join(BACKBONES)}")
    rows = []
    for case in cases():
        if not backbone or (case.model.backbone == backbone and case.make is _backbone):
            say(case.what)
            rows.append(measured(case))
    return rows


def measured(case: Case) -> Row:
    """Runs a network in both precisions.

    Args:
      case: the network.
    """
    with computing_in("float32"):
        images = np.random.RandomState(0).standard_normal(_IMAGES.shape).astype(np.float32)
        functions = [_function(case, dtype) for dtype in ("float32", "bfloat16")]
        program, variables = program_of(case), drawn(_shapes(case))
        # Compilation takes most of the time, and less without optimisation.
        quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        wide, narrow = (_outputs(quick(function)(variables, images)) for function in functions)
    return Row(case.what, roundings(program), _apart(wide, narrow), tuple(sorted(spoilt(program))))


def _apart(wide: list[np.ndarray], narrow: list[np.ndarray]) -> float:
    """The largest difference of any output, as a share of its norm; NaN where a value is NaN."""
    differences = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(wide, narrow, strict=True)]
    return float(np.max(differences))  # Python's max would pass a NaN over


def program_of(case: Case) -> Any:
    """The program of a network that computes in bfloat16, a jaxpr.

    Args:
      case: the network.
    """
    return cast(Any, jax.make_jaxpr(_function(case, "bfloat16"))(_shapes(case), _IMAGES)).jaxpr


def _function(case: Case, dtype: str) -> Callable:
    return functools.partial(case.make(replace(case.model, compute_dtype=dtype)).apply, train=False)


def _shapes(case: Case) -> dict:
    init = functools.partial(case.make(case.model).init, train=False)
    found = jax.eval_shape(init, jax.random.key(0), _IMAGES)
    return {name: found[name] for name in ("params", "batch_stats") if name in found}


def _outputs(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def drawn(shapes: Any) -> Any:
    """Draws weights through which activations keep their size; residual branches are weaker than what they join.

    Args:
      shapes: of the variables of a network.

    Returns:
      The same tree of float32.
    """
    random = np.random.RandomState(0)

    def of_leaf(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name, shape = path[-1].key, leaf.shape
        if name == "kernel":
            return random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        if name in ("scale", "var"):
            return random.uniform(0.5, 1.5, shape)
        return random.uniform(0.2, 0.6, shape) if name == "gamma" else 0.2 * random.standard_normal(shape)

    values = jax.tree_util.tree_map_with_path(of_leaf, shapes)
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), values)


def _operations(program: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """The operations of a program and of all programs inside it, and how often each runs."""
    for operation in program.eqns:
        # Both forms of a choice by platform round alike, and one of them runs.
        chosen = depthwise.on_accelerators(operation)
        inner = [
            getattr(value, "jaxpr", value)
            for parameter in (operation.params.values() if chosen is None else (chosen,))
            for value in (parameter if isinstance(parameter, tuple | list) else (parameter,))
            if hasattr(getattr(value, "jaxpr", value), "eqns")
        ]
        if not inner:
            yield operation, times
        # A rule of differentiation stands beside the function itself, and is not run.
        for one in inner[:1] if operation.primitive.name.startswith("custom_") else inner:
            yield from _operations(one, times * operation.params.get("length", 1))


def _is_narrow(value: Any) -> bool:
    return getattr(value.aval, "dtype", None) == jnp.bfloat16


def roundings(program: Any) -> int:
    """The number of roundings to bfloat16 in a program.

    Args:
      program: a jaxpr.
    """
    return sum(
        times
        for operation, times in _operations(program)
        if operation.primitive.name not in _EXACT and any(map(_is_narrow, operation.outvars))
    )


def spoilt(program: Any, but: frozenset[str] = frozenset()) -> set[str]:
    """Names of operations on bfloat16 values that should be in float32.

    Args:
      program: a jaxpr.
      but: names that are allowed.
    """
    return {
        operation.primitive.name
        for operation, _ in _operations(program)
        if operation.primitive.name in SPOILT - but and any(map(_is_narrow, operation.invars))
    }


def of_step(step: Callable, state: Any, batch: Any) -> Any:
    """The program of a whole training step, forwards and backwards.

    Args:
      step: (state, batch) -> (state, metrics).
      state: or its shapes.
      batch: or its shapes.
    """
    return cast(Any, jax.make_jaxpr(step)(state, batch)).jaxpr
