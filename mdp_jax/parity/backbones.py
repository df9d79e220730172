"""`mdp compare --backbone`: a backbone beside the same one of other libraries, layer by layer, with its gradients.

The other library's weights are given to ours by the way that a file of them takes: its names, its shapes.
"""

import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import DecoderConfig, ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.registry import NO_DECODER
from mdp_jax.parity.comparison import DTYPES, EACH, ONE, Row, Rule, rows_of
from mdp_jax.parity.comparison_jax import computing_in
from mdp_jax.weights import layouts
from mdp_jax.weights.names.foreign import library_of, renamed
from mdp_jax.weights.names import names_of
from mdp_jax.weights.torch_weights import from_torch, to_torch

WIDTH = 1 / 8
_SUMS = "float32: sums in another order"
RULES = {
    "outputs": Rule(EACH, 1e-4, 1e-10, _SUMS),
    "features": Rule(EACH, 1e-4, 1e-10, _SUMS),
    "gradient": Rule(ONE, 1e-3, 1e-10, _SUMS),
}
# What of the modules is a row: the stem, the blocks and the last normalisation.
_SHOWN = r"stem\.1|patch_embed\.proj|(stages\.\d\.)?blocks\.\d+|norm"

Sections = dict[str, dict[str, np.ndarray]]


def compare(name: str, say: Callable[[str], None], every_name: bool = False) -> list[Row]:
    """Compares a backbone with each library that has it, on narrow networks of full depth.

    Args:
      name: in the registry.
      say: called with what is being computed.
      every_name: whether there is a row for the gradient of each parameter.

    Raises:
      UserError: no library has it, or none of those that have it is installed.
    """
    from mdp_jax.parity import torch_backbones

    if name not in torch_backbones.REFERENCES:
        expected = ", ".join(torch_backbones.REFERENCES)
        raise UserError(f"--backbone {name}: expected one of {expected}; the others are rows of mdp compare")
    rows: list[Row] = []
    missing = set()
    for reference in torch_backbones.REFERENCES[name]():
        what = f"{name} beside {reference.library}, stride {reference.output_stride}"
        try:
            module = reference.make(WIDTH)
        except ModuleNotFoundError as error:
            missing.add(error.name)
            say(f"{what}: {error.name} is not installed; left out")
            continue
        results: tuple[dict, dict] = ({}, {})
        for dtype in DTYPES:
            say(f"{what}, in {dtype}")
            ours, theirs = _both(torch_backbones, name, reference, module, dtype)
            results[0][dtype], results[1][dtype] = ours, theirs
        for section, rule in RULES.items():
            names = results[1]["float64"][section]
            if every_name or section != "gradient":
                rule = Rule(EACH, rule.float32, rule.float64, rule.cause)
            sides = ({dtype: {n: side[dtype][section][n] for n in names} for dtype in DTYPES} for side in results)
            rows += rows_of(f"{what}: {section}", rule, *sides)
    if not rows:
        raise UserError(f"--backbone {name}: needs {' or '.join(sorted(missing))}: pip install 'mdp_jax[libraries]'")
    return rows


def _both(
    torch_backbones: types.ModuleType, name: str, reference: Any, module: Any, dtype: str
) -> tuple[Sections, Sections]:
    state = torch_backbones.drawn(module, reference)
    images = np.random.RandomState(0).standard_normal((2, *reference.size, 3))
    theirs = torch_backbones.compute(reference, module, state, np.moveaxis(images, -1, 1), dtype)
    params = _read(state, reference.library)
    model = ModelConfig(
        name, WIDTH, reference.output_stride, DecoderConfig(NO_DECODER), compute_dtype=dtype, param_dtype=dtype
    )
    found = _ours(model, params, images, torch_backbones.fixed)
    gradients = to_torch(_read(theirs.gradients, reference.library))
    outputs = {}
    library = library_of(list(state), _libraries(name))
    for theirs_name, value in theirs.outputs.items():
        ours_name = renamed(f"{theirs_name}.", library).rstrip(".") if library else theirs_name
        if re.fullmatch(_SHOWN, ours_name) and ours_name in found["outputs"]:
            outputs[ours_name] = _channels_last(value, found["outputs"][ours_name])
    for key in gradients:
        # Keys have no bias there; ours begins at 0, and has a gradient.
        if not model.backbone or "qkv.bias" not in key or np.any(gradients[key].reshape(3, -1)[1]):
            continue
        thirds = found["gradient"][key].reshape(3, -1).copy()
        thirds[1] = 0
        found["gradient"][key] = thirds.reshape(-1)
    features = {f"stride {stride}": value for stride, value in theirs.features.items()}
    return found, {"outputs": outputs, "features": features, "gradient": gradients}


def _libraries(name: str) -> Any:
    return getattr(names_of(name), "LIBRARIES", ())


def _read(state: Mapping[str, np.ndarray], where: str) -> dict:
    """The parameters of a state dict, by the way of a file."""
    found = layouts.find(state, where)
    assert not found.strangers, found.strangers
    return from_torch(found.of_parts(["backbone"]))[0]["backbone"]


def _channels_last(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    if theirs.ndim == 4 and theirs.shape != ours.shape:
        theirs = np.moveaxis(theirs, 1, -1)
    return theirs.reshape(ours.shape) if theirs.size == ours.size else theirs


def _ours(model: ModelConfig, params: dict, images: np.ndarray, fixed: Callable) -> Sections:
    """Outputs of all modules, features, and gradients of the sum of features times fixed values."""
    with computing_in(model.compute_dtype):
        backbone = network.segmenter(model, 1).backbone
        x = jnp.asarray(images, model.compute_dtype)
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, model.param_dtype), params)

        def loss(weights: dict) -> tuple[jax.Array, dict]:
            features = backbone.apply({"params": weights}, x, False)
            terms = [jnp.sum(f * jnp.asarray(fixed(f.shape), f.dtype)) for f in features.values()]
            return sum(terms), features

        gradients, features = jax.jit(jax.grad(loss, has_aux=True))(weights)
        captured = jax.jit(
            lambda w: backbone.apply({"params": w}, x, False, mutable=["intermediates"], capture_intermediates=True)[1]
        )(weights)["intermediates"]
        return {
            "outputs": dict(_flat(captured)),
            "features": {f"stride {stride}": np.array(value) for stride, value in features.items()},
            "gradient": {key: np.array(value) for key, value in to_torch(gradients).items()},
        }


def _flat(captured: Mapping, prefix: str = "") -> list[tuple[str, np.ndarray]]:
    found = []
    for name, inner in captured.items():
        if name != "__call__":
            found += _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner[0], jax.Array):
            found.append((prefix.rstrip("."), np.array(inner[0])))
    return found
