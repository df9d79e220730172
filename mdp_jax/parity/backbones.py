"""`mdp compare --backbone`: a backbone beside the same one of other libraries, layer by layer, with its gradients.

The other library's weights are given to ours by the way that a file of them takes: its names, its shapes.
"""

import functools
import re
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any, cast

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
from mdp_jax.weights.names import names_of
from mdp_jax.weights.names.foreign import library_of, renamed
from mdp_jax.weights.torch_weights import from_torch, to_torch

WIDTH = 1 / 8
_SUMS = "float32: sums in another order"
RULES = {
    "outputs": Rule(EACH, 1e-4, 1e-10, _SUMS),
    "features": Rule(EACH, 1e-4, 1e-10, _SUMS),
    "gradient": Rule(ONE, 1e-3, 1e-10, _SUMS),
}
# What of the modules is a row: the stem, the blocks, and what changes the resolution.
_SHOWN = r"stem\.1|patch_embed\.proj|layers\.\d\.downsample|((stages|layers)\.\d\.)?blocks\.\d+"

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
    missing: set[str] = set()
    for reference in torch_backbones.REFERENCES[name]():
        what = f"{name} beside {reference.library}, stride {reference.output_stride}"
        try:
            module = reference.make(WIDTH)
        except ModuleNotFoundError as error:
            missing.add(str(error.name))
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


def value_of(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws a weight such that activations keep their size; residual branches are weaker than what they are added to.

    Args:
      key: the library's, on which the values depend.
      shape: in PyTorch's layout.

    Returns:
      float64.
    """
    random = np.random.RandomState(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if "gamma" in leaf or leaf in ("lambda1", "layer_scale", "layer_scale_parameter"):
        return random.uniform(0.2, 0.6, shape)
    if leaf in ("weight", "in_proj_weight") and len(shape) > 1:
        return random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    if leaf == "weight":
        return random.uniform(0.5, 1.5, shape)
    return 0.2 * random.standard_normal(shape)


def fixed(shape: tuple[int, ...]) -> np.ndarray:
    """What features are multiplied by, so that their gradients differ: float64, standard normal.

    Args:
      shape: [B,h,w,C].
    """
    return np.random.RandomState(zlib.crc32(str(shape).encode())).standard_normal(shape)


def images_of(size: tuple[int, int]) -> np.ndarray:
    """Two normalised images [2,H,W,3], float64.

    Args:
      size: (H, W).
    """
    return np.random.RandomState(0).standard_normal((2, *size, 3))


def model_of(name: str, output_stride: int, dtype: str) -> ModelConfig:
    """The narrow network that is compared.

    Args:
      name: in the registry.
      output_stride: of the network.
      dtype: "float32" or "float64".
    """
    decoder = DecoderConfig(NO_DECODER)
    return ModelConfig(name, WIDTH, output_stride, decoder, compute_dtype=dtype, param_dtype=dtype)


def ours_of_gradients(gradients: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Gradients of a library's weights under our keys, where they belong to ours.

    Args:
      gradients: their key -> gradient; it takes the way of the weights, which is linear.
      where: the library, for messages.
    """
    return to_torch(read(gradients, where))


def without_new_leaves(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our gradients, with 0 for what the library has not: ours begins at 0 there, and is trained.

    That are the biases of keys, and the position of the class token, which timm leaves out where there are registers.

    Args:
      ours: our key -> gradient.
      theirs: the same of the library, 0 for what it has not.
    """
    found = dict(ours)
    for key, gradient in theirs.items():
        if key.endswith("qkv.bias") and not np.any(gradient.reshape(3, -1)[1]):
            found[key] = found[key] * np.repeat([1, 0, 1], len(gradient) // 3)
        elif key.endswith("pos_embed") and not np.any(gradient[:, 0]):
            found[key] = np.concatenate([np.zeros_like(found[key][:, :1]), found[key][:, 1:]], axis=1)
    return found


def _both(
    torch_backbones: types.ModuleType, name: str, reference: Any, module: Any, dtype: str
) -> tuple[Sections, Sections]:
    """Ours and theirs in one dtype."""
    state = torch_backbones.drawn(module, reference)
    images = images_of(reference.size)
    theirs = torch_backbones.compute(reference, module, state, np.moveaxis(images, -1, 1), dtype)
    model = model_of(name, reference.output_stride, dtype)
    params = read(state, reference.library)
    found = features_and_gradients(model, params, images)
    captured = _outputs(model, params, images)
    gradients = ours_of_gradients(theirs.gradients, reference.library)
    found["gradient"] = without_new_leaves(found["gradient"], gradients)
    outputs = {}
    library = library_of(list(state), _libraries(name))
    for theirs_name, value in theirs.outputs.items():
        ours_name = renamed(f"{theirs_name}.", library).rstrip(".") if library else theirs_name
        if re.fullmatch(_SHOWN, ours_name) and ours_name in captured:
            outputs[ours_name] = _channels_last(value, captured[ours_name])
    features = {f"stride {stride}": value for stride, value in theirs.features.items()}
    return found | {"outputs": captured}, {"outputs": outputs, "features": features, "gradient": gradients}


def _libraries(name: str) -> Any:
    return getattr(names_of(name), "LIBRARIES", ())


def read(state: Mapping[str, np.ndarray], where: str) -> dict:
    """The parameters of a state dict, by the way of a file.

    Args:
      state: their key -> array.
      where: the library, for messages.
    """
    found = layouts.find(state, where)
    assert not found.strangers, found.strangers
    return from_torch(found.of_parts(["backbone"]))[0]["backbone"]


def _channels_last(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    if theirs.ndim == 4 and theirs.shape != ours.shape:
        theirs = np.moveaxis(theirs, 1, -1)
    return theirs.reshape(ours.shape) if theirs.size == ours.size else theirs


@functools.cache
def _programs(model: ModelConfig) -> tuple[Callable, Callable]:
    """Of (parameters, images): gradients and features, where the blocks run as a loop; outputs, where they do not."""
    backbone = network.segmenter(model, 1).backbone

    def loss(weights: dict, x: jax.Array) -> tuple[jax.Array, dict]:
        features = cast(dict, backbone.apply({"params": weights}, x, False))
        terms = [jnp.sum(f * jnp.asarray(fixed(f.shape), f.dtype)) for f in features.values()]
        return functools.reduce(jnp.add, terms), features

    def captured(weights: dict, x: jax.Array) -> dict:
        _, found = backbone.apply({"params": weights}, x, False, mutable=["intermediates"], capture_intermediates=True)
        return found["intermediates"]

    # Compilation takes most of the time, and less without optimisation.
    quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    return quick(jax.grad(loss, has_aux=True)), quick(captured)


def _arguments(model: ModelConfig, params: dict, images: np.ndarray) -> tuple[dict, jax.Array]:
    weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, model.param_dtype), params)
    return weights, jnp.asarray(images, model.compute_dtype)


def features_and_gradients(model: ModelConfig, params: dict, images: np.ndarray) -> Sections:
    """Our features, and the gradients of their sum times fixed values.

    Args:
      model: of `model_of`.
      params: of the backbone.
      images: [B,H,W,3].

    Returns:
      {"features": {stride: [B,h,w,C]}, "gradient": {our key: gradient}}.
    """
    with computing_in(model.compute_dtype):
        gradients, features = _programs(model)[0](*_arguments(model, params, images))
        return {
            "features": {f"stride {stride}": np.array(value) for stride, value in features.items()},
            "gradient": {key: np.array(value) for key, value in to_torch(gradients).items()},
        }


def _outputs(model: ModelConfig, params: dict, images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of all our modules."""
    with computing_in(model.compute_dtype):
        return dict(_flat(_programs(model)[1](*_arguments(model, params, images))))


def _flat(captured: Mapping, prefix: str = "") -> list[tuple[str, np.ndarray]]:
    found = []
    for name, inner in captured.items():
        if name != "__call__":
            found += _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner[0], jax.Array):
            found.append((prefix.rstrip("."), np.array(inner[0])))
    return found
