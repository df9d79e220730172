"""`mdp bench loss`: pixels a second of the prototype loss with its gradient, and of the bank's update.

Beside the same in plain PyTorch with autograd (parity/torch_speed.py) on the same device (METHOD.md sections 3 and 4),
and the loss beside its formula in JAX without chunks, with JAX's own gradient.
"""

import argparse
import dataclasses
import functools
import importlib.util
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import checks, configs
from mdp_jax import config as config_files
from mdp_jax.benchmarks.chosen import config_of
from mdp_jax.benchmarks.measure import Row, by_processor, median_taken
from mdp_jax.benchmarks.step import random_bank
from mdp_jax.data import class_names
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.method.losses import NEGATIVES, Among, LossOptions, cpu_chunk, prototype_loss
from mdp_jax.method.prototypes import Bank, update_bank
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import loss_memory, programs
from mdp_jax.reporting.progress import Progress

CLASSES = (341, 2000)
IMAGES, CROP = 32, (256, 256)  # 32,768 pixels at output stride 8
_SECOND_LABEL = 0.25  # share of the pixels that have one, as many as are mixed by pixel
_THOUSAND = 1e3


class _Inputs(NamedTuple):
    """What both sides are given: v [B, N, D] unit vectors, labels int [B, N, 2], weights [B, N, 2], the bank."""

    v: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bank: Bank


def measure(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> tuple[list[Row], str]:
    """The rows of the case, and a line that says what was measured.

    Args:
      args: `config` of mdp pretrain, whose batch (or part), crop and method are taken, or None for the default; its
        `data_dir` and its number of `classes`, or None; `seconds` for each measurement.
      overrides: of the config.

    Raises:
      UserError: a wrong config, or datasets that are not there where no number of classes is given.
    """
    config = config_of(args, overrides, _default_config())
    if not loss_memory.has_loss(config):
        given = f"--config {args.config}" if args.config else f"config.objective={config.objective}"
        raise UserError(
            f"{given}: no prototype loss in it; expected a config of mdp pretrain with config.objective=mdp"
        )
    checks.pretraining(config, 1)
    spaces = [programs.label_space(config, classes) for classes in ((args.classes,) if args.config else CLASSES)]
    rows: list[Row] = []
    with Progress(2 * len(spaces), unit="measurement") as progress:
        for space in spaces:
            inputs, losses = _inputs(config, space.num_classes), functools.partial(_losses, among=_among(config, space))
            for name, sides in (("value and gradient", losses), ("class means and bank", _updates)):
                progress.update(len(rows))
                case = f"loss: {name}, {space.num_classes:,} classes"
                rows.append(_row(case, sides(config, inputs), inputs, args.seconds))
        progress.update(len(rows))
    images, pixels, dim = inputs.v.shape
    return rows, (
        f"Thousand pixels/s of {images * pixels:,} pixels with {dim} dimensions ({jax.default_backend()}), float32; "
        f"logits of {loss_memory.chunk(config, 1):,} pixels at a time, of fewer where a CPU has many classes; the "
        "median of calls that take turns with PyTorch's, and with the plain form: the formula without chunks and with "
        "JAX's own gradient."
    )


def _default_config() -> ConfigDict:
    config = config_files.load("configs/pretrain/voc_ade.py")
    config.batch, config.data.crop = IMAGES, CROP
    return config


def _inputs(config: ConfigDict, classes: int) -> _Inputs:
    rng = np.random.default_rng(0)
    shape = (loss_memory.images_at_one_time(config, 1), loss_memory.pixels_of_image(config))
    v = rng.standard_normal((*shape, config.model.projection.dim), dtype=np.float32)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    labels = rng.integers(-1, classes, (*shape, 2), dtype=np.int32)
    labels[..., 1] = np.where(rng.random(shape) < _SECOND_LABEL, labels[..., 1], -1)
    own = np.where(labels[..., 1] < 0, 1, rng.random(shape)).astype(np.float32)
    bank = random_bank(rng, classes, v.shape[-1])
    if config.method.class_frequencies:
        bank = dataclasses.replace(bank, pixels=jnp.ones(classes))
    return _Inputs(v, labels, np.stack([own, 1 - own], axis=-1), bank)


def _among(config: ConfigDict, space: LabelSpace) -> Among:
    """Which classes a pixel is compared with. None are related, which is as much work as if some were."""
    typed = configs.typed_pretrain(config)
    related = class_names.without_file(typed.method, space.num_classes, typed.model.projection.dim).related
    return Among(
        None if related is None else jnp.asarray(related),
        None if typed.method.negatives == NEGATIVES[0] else jnp.asarray(space.dataset_of()),
    )


def _row(case: str, calls: dict[str, Callable[[], object]], inputs: _Inputs, seconds: float) -> Row:
    taken = median_taken(calls, seconds)
    pixels = inputs.labels[..., 0].size / _THOUSAND
    rates = {name: pixels / each.clock for name, each in taken.items()}
    more = by_processor(taken, jax.default_backend()) | {"time of plain form": None}
    if "plain" in taken:
        at = 1 if jax.default_backend() == "cpu" else 0  # by the processor; on an accelerator by the clock
        more["time of plain form"] = taken["ours"][at] / taken["plain"][at]
    return Row(case, rates["ours"], rates.get("torch"), more)


def _torch() -> tuple[types.ModuleType, str] | None:
    """The module parity/torch_speed.py and PyTorch's device of the kind that JAX uses, or None where there is none."""
    if not importlib.util.find_spec("torch"):
        return None
    from mdp_jax.parity import torch_speed

    device = torch_speed.device_beside(jax.default_backend())
    torch_speed.use_all_threads()
    return (torch_speed, device) if device else None


def _losses(config: ConfigDict, inputs: _Inputs, among: Among) -> dict[str, Callable[[], object]]:
    """The loss of all pixels and its gradient with respect to their embeddings.

    The other sides have no frequencies of classes, and compare each pixel with all classes.
    """
    images = loss_memory.images_at_one_time(config, 1)
    chunk = loss_memory.chunk(config, 1) // images
    make_options = OBJECTIVES[config.objective].loss_options
    assert make_options is not None  # refused before
    options, on_cpu = make_options(config.method), cpu_chunk(images, inputs.bank.vectors.shape[0])
    usual = all(part is None for part in (inputs.bank.pixels, among.related, among.sets))
    loss = functools.partial(
        prototype_loss, options=options, chunk=chunk, related=among.related, sets=among.sets, on_cpu=on_cpu
    )
    value_and_gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    arrays = jax.device_put(inputs)
    calls = {"ours": lambda: jax.block_until_ready(value_and_gradient(*arrays))}
    if usual and options.sparse_coding == "pull":
        plain = jax.jit(jax.value_and_grad(functools.partial(_plain, options=options)))
        calls["plain"] = lambda: jax.block_until_ready(plain(*arrays))
    if usual and options.sparse_coding != "no_push" and (found := _torch()):
        torch_speed, device = found
        own = _tensors(torch_speed, device, inputs)
        own["v"].requires_grad_()

        def theirs() -> None:
            own["v"].grad = None
            flat = (own[name].flatten(0, 1) for name in ("v", "labels", "weights"))
            torch_speed.losses(*flat, own["bank"], options).backward()
            torch_speed.wait(device)

        calls["torch"] = theirs
    return calls


def _plain(v: jax.Array, labels: jax.Array, weights: jax.Array, bank: Bank, options: LossOptions) -> jax.Array:
    """The loss as METHOD.md section 4 writes it down, for all pixels at once; every class has been seen."""
    similarity = jnp.einsum("bnd,cd->bnc", v, bank.vectors, precision=jax.lax.Precision.HIGHEST)
    log_softmax = jax.nn.log_softmax(similarity / options.temperature)
    weights = jnp.where(labels >= 0, weights, 0.0)
    own = jnp.take_along_axis(log_softmax, jnp.maximum(labels, 0), axis=-1)
    classes = jnp.arange(similarity.shape[-1])[None, None, None, :]
    is_own = jnp.any(labels[..., None] == classes, axis=2)
    values, nearest = jax.lax.top_k(jnp.where(is_own, -jnp.inf, similarity), options.sparse_classes)
    code = jax.lax.stop_gradient(jax.nn.softmax(values / options.sparse_temperature))
    sparse = jnp.sum(code * jnp.take_along_axis(log_softmax, nearest, axis=-1), axis=-1)
    weight = jnp.sum(weights, axis=-1)
    total = jnp.sum(weights * own) + options.sparse_weight * jnp.sum(weight * sparse)
    return -total / jnp.sum(weight)


def _updates(config: ConfigDict, inputs: _Inputs) -> dict[str, Callable[[], object]]:
    """The two-step average of all pixels, folded into the bank."""
    momentum, warmup = config.method.prototype_momentum, config.method.prototype_warmup
    update = jax.jit(functools.partial(update_bank, momentum=momentum, warmup=warmup))
    arguments = jax.device_put((inputs.bank, inputs.v, jnp.asarray(inputs.labels[..., 0])))
    calls = {"ours": lambda: jax.block_until_ready(update(*arguments))}
    if not warmup and inputs.bank.pixels is None and (found := _torch()):
        torch_speed, device = found
        own = _tensors(torch_speed, device, inputs)

        def theirs() -> None:
            torch_speed.update_bank(own["bank"], own["v"], own["labels"][..., 0], momentum)
            torch_speed.wait(device)

        calls["torch"] = theirs
    return calls


def _tensors(torch_speed: types.ModuleType, device: str, inputs: _Inputs) -> dict:
    arrays = {"v": inputs.v, "labels": inputs.labels.astype(np.int64), "weights": inputs.weights}
    bank = torch_speed.make_bank(np.array(inputs.bank.vectors), np.array(inputs.bank.images_seen), device)
    return torch_speed.tensors(arrays, device) | {"bank": bank}
