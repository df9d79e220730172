"""`mdp bench step`: images a second of whole training steps, from a batch on the device to the state after it.

Beside the same steps in PyTorch (parity/torch_speed.py) on the same device, and beside the passes of the network that a
step of pretraining has: forward and backward of the encoder, and forward of the momentum encoder where there is one.
"""

import argparse
import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import config as config_files
from mdp_jax import configs, runtime
from mdp_jax.benchmarks import peak
from mdp_jax.benchmarks.chosen import config_of
from mdp_jax.benchmarks.measure import Row, Taken, by_processor, median_taken
from mdp_jax.data import class_names
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank, normalise
from mdp_jax.models.apply import Network, apply_training
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.momentum import averaged
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import costs, programs
from mdp_jax.planning.costs import Work
from mdp_jax.planning.memory import MIB
from mdp_jax.reporting.progress import Progress
from mdp_jax.training import programs as training
from mdp_jax.training import sharding
from mdp_jax.words import counted

# Values of the method that parity/torch_speed.py has as they are by default.
_NOT_OF_PYTORCH = ("pixel_weights", "class_frequencies", "relations", "negatives", "prototype_warmup")
_SAMPLES = 10_000  # of the datasets; only scales the schedule
_LEARNING_RATE = 1e-3  # of PyTorch's side


class Size(NamedTuple):
    """A config of the house at the size that it is measured in; classes, or None where its datasets are drawn."""

    config: str
    classes: int | None
    values: dict[str, str]


_MINI = (
    Size("configs/quickstart/pretrain.py", None, {}),
    Size("configs/quickstart/finetune.py", None, {}),
)

_WIDER = {"model.width": "0.5", "data.crop": "(96,96)"}
_SMALL = {"data.crop": "(128,128)", "batch": "2"}
_HALF = {"model.compute_dtype": "bfloat16"}
SIZES = {  # by what JAX runs on
    "cpu": (
        *_MINI,
        *(Size(size.config, None, _WIDER) for size in _MINI),
        Size("configs/pretrain/voc_ade.py", 171, _SMALL),
        Size("configs/finetune/voc.py", 21, _SMALL),
    ),
    "accelerator": (
        *_MINI,
        Size("configs/pretrain/voc_ade.py", 171, {"batch": "32", **_HALF}),
        Size("configs/finetune/voc.py", 21, {"batch": "8", **_HALF}),
    ),
}


def measure(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> tuple[list[Row], str]:
    """The rows of the case, and a line that says what was measured.

    Args:
      args: `config`, or None for SIZES; its `data_dir` and its number of `classes`, or None; `seconds` for each
        measurement.
      overrides: of the config, or of all of SIZES.

    Raises:
      UserError: a wrong config, or datasets that are not there where no number of classes is given.
    """
    cases = []
    if args.config:
        config = config_of(args, overrides, None)
        cases.append((config, programs.label_space(config, args.classes)))
    else:
        for size in SIZES["cpu" if jax.default_backend() == "cpu" else "accelerator"]:
            values = [*size.values.items(), ("devices", "1"), *overrides]
            config = config_of(args, values, config_files.load(size.config))
            cases.append((config, programs.label_space(config, size.classes)))
    meshes = [_mesh(config) for config, _ in cases]  # all are checked before the first is measured
    rows = []
    with Progress(len(cases), unit="measurement") as progress:
        for done, ((config, space), mesh) in enumerate(zip(cases, meshes, strict=True)):
            progress.update(done)
            rows.append(_row(config, space, mesh, args))
        progress.update(len(cases))
    return rows, (
        f"Images/s of the whole training step on {counted(meshes[0].size, f'{jax.default_backend()} device')}, from a "
        "batch that is there; the median of steps that take turns with PyTorch's. At most: the bound by this "
        "device's own "
        "measured rates of matrix products and of its memory. Of passes: the step's multiple of those of the network."
    )


def _mesh(config: ConfigDict) -> jax.sharding.Mesh:
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    mesh = sharding.make_mesh(config.devices, config.fsdp)
    programs.check(config, mesh.size)
    return mesh


def _row(config: ConfigDict, space: LabelSpace, mesh: jax.sharding.Mesh, args: argparse.Namespace) -> Row:
    rng = np.random.default_rng(0)
    batch = random_batch(rng, config, space.num_classes)
    bank = random_bank(rng, space.num_classes, config.model.projection.dim) if "projection" in config.model else None
    ours = _ours(config, space, mesh, batch, bank)
    calls = {"ours": ours.take}
    if comparable(config, mesh.size):
        calls["torch"] = _theirs(config, space, batch, bank, args.torch_compile)
    if alone := _passes(config, mesh, ours, batch):
        calls["passes"] = alone
    taken = median_taken(calls, args.seconds)
    rates = {name: config.batch / each.clock for name, each in taken.items()}
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    more = _at_most(config, space, mesh, ours.compiled) if mesh.size == 1 else {"at most": None, "limited by": None}
    more |= {"peak (MiB)": None if used is None else used / MIB} | by_processor(taken, jax.default_backend())
    more |= _of_passes(config, space, mesh, taken)
    return Row(f"step: {_name(config)}", rates["ours"], rates.get("torch"), more)


def _passes(
    config: ConfigDict, mesh: jax.sharding.Mesh, ours: "_Ours", batch: dict[str, np.ndarray]
) -> Callable[[], object] | None:
    """The passes of the network in a step of pretraining, without loss, mixing, bank and optimizer.

    None where a step has others: in fine-tuning, with several parts of a batch or devices, and with the second view
    mixed.
    """
    if not programs.is_pretraining(config) or config.accumulate > 1 or mesh.size > 1:
        return None
    if config.method.momentum_view != "clean":
        return None
    typed = configs.typed_pretrain(config)
    state, normalise = ours.state, Normalise.of(typed.data, typed.model.compute_dtype)
    own, memory = {"params": state.params, "batch_stats": state.batch_stats}, state.memory
    others = averaged(memory) if "momentum_params" in memory else None

    def applied(variables: dict, images: jax.Array) -> tuple[jax.Array, dict]:
        found = apply_training(ours.network, variables["params"], variables["batch_stats"], normalise(images))
        return found.values, found.batch_stats

    @jax.jit
    def passes(own: dict, others: dict | None, images: dict, cotangent: jax.Array) -> Any:
        found = applied(others, images["key_image"]) if others else None
        _, pull, stats = jax.vjp(
            lambda params: applied(own | {"params": params}, images["image"]), own["params"], has_aux=True
        )
        return pull(cotangent), stats, found

    images = {name: jnp.asarray(array) for name, array in batch.items() if name in ("image", "key_image")}
    like = jax.eval_shape(applied, own, images["image"])[0]
    cotangent = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    return lambda: jax.block_until_ready(passes(own, others, images, cotangent))


def _of_passes(config: ConfigDict, space: LabelSpace, mesh: jax.sharding.Mesh, taken: dict[str, Taken]) -> dict:
    """Time and operations of the whole step as multiples of those of its passes."""
    names = ("time of passes", "operations of passes")
    if "passes" not in taken:
        return dict.fromkeys(names)
    parts = programs.operations(config, list(mesh.devices.flat), space)
    whole, alone = taken["ours"], taken["passes"]
    on_cpu = jax.default_backend() == "cpu"
    time = whole.processor / alone.processor if on_cpu else whole.clock / alone.clock
    return dict(zip(names, (time, sum(parts.values()) / (sum(parts.values()) - parts[programs.REST])), strict=True))


def _at_most(config: ConfigDict, space: LabelSpace, mesh: jax.sharding.Mesh, compiled: jax.stages.Compiled) -> dict:
    """Images/s by the roofline's bound at this device's own measured rates, and which of them it is."""
    flops = sum(programs.operations(config, list(mesh.devices.flat), space).values())
    stats = compiled.memory_analysis()
    assert stats is not None
    # The rate of the memory is measured at this size, so what stays in a cache is reckoned with.
    traffic = costs.memory_bytes(
        stats.argument_size_in_bytes, stats.output_size_in_bytes, stats.temp_size_in_bytes, on_chip=0
    )
    dtype = config.model.compute_dtype
    found = costs.bound(Work(flops, traffic), peak.measured(dtype, traffic), dtype, network=None)
    return {"at most": config.batch / found.seconds, "limited by": found.limit}


def _name(config: ConfigDict) -> str:
    loop = "pretraining" if programs.is_pretraining(config) else "fine-tuning"
    width = "" if config.model.width == 1 else f" of width {config.model.width:g}"
    height, wide = config.data.crop
    precision = "" if config.model.compute_dtype == "float32" else f", {config.model.compute_dtype}"
    return f"{loop}, {config.model.backbone}{width}, {height} x {wide} px, batch {config.batch}{precision}"


def random_batch(rng: np.random.Generator, config: ConfigDict, classes: int) -> dict[str, np.ndarray]:
    """Makes a batch of noise like those of data/batches/pipeline.py.

    A quarter of the pairs is mixed by region, a quarter by pixel.

    Args:
      rng: source of all random numbers.
      config: of either loop; `batch`, `data.crop` and the objective are read.
      classes: C.
    """
    size, pairs = (config.batch, *config.data.crop), config.batch // 2
    height, width = config.data.crop

    def view(prefix: str) -> dict[str, np.ndarray]:
        return {
            f"{prefix}image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            f"{prefix}label": rng.integers(-1, classes, size, dtype=np.int16),
        }

    if not programs.is_pretraining(config):
        return view("")
    own = view("") | {
        "mix_kind": np.array([1, 0, 2, 0], np.int32)[np.arange(pairs) % 4],
        "lam": rng.random(pairs, dtype=np.float32),
        "box": np.tile(np.array([height // 4, width // 4, height, width // 2], np.int32), (pairs, 1)),
        "dataset": np.zeros(config.batch, np.int32),
    }
    return own | view("key_") if OBJECTIVES[config.objective].two_views else own


def random_bank(rng: np.random.Generator, classes: int, dim: int) -> Bank:
    """Makes a bank in which all classes are seen; with an empty bank the loss has nothing to compute.

    Args:
      rng: source of all random numbers.
      classes: C.
      dim: D.
    """
    vectors = normalise(jnp.asarray(rng.standard_normal((classes, dim), dtype=np.float32)))
    return Bank(vectors, jnp.ones(classes, jnp.int32))


class _Ours(NamedTuple):
    """JAX's side: a function that takes a step, its program and network, and a copy of the state at its beginning."""

    take: Callable[[], object]
    compiled: jax.stages.Compiled
    network: Network
    state: Any


def _ours(config: ConfigDict, space: LabelSpace, mesh: jax.sharding.Mesh, batch: dict, bank: Bank | None) -> _Ours:
    if programs.is_pretraining(config):
        typed = configs.typed_pretrain(config)
        names = class_names.without_file(typed.method, space.num_classes, typed.model.projection.dim)
        program = training.pretraining(typed, mesh, space, _SAMPLES, names=names)
        state = program.make()
        if OBJECTIVES[config.objective].bank:
            empty, shardings = state.memory["bank"], program.shardings.memory["bank"]
            assert bank is not None
            bank = dataclasses.replace(bank, vectors=bank.vectors.astype(empty.vectors.dtype))
            if empty.pixels is not None:
                bank = dataclasses.replace(bank, pixels=jnp.ones_like(empty.pixels))
            state = state.replace(memory=state.memory | {"bank": jax.device_put(bank, shardings)})
    else:
        program = training.finetuning(configs.typed_finetune(config), mesh, space.num_classes)
        state = program.make()
    batch = sharding.to_devices(batch, mesh)
    step, first = program.step.lower(state, batch).compile(), jax.tree.map(jnp.copy, state)

    def take() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    return _Ours(take, step, program.network, first)


def comparable(config: ConfigDict, devices: int) -> bool:
    """Whether PyTorch is installed and its side does the same work, on one device of the kind that JAX uses.

    Args:
      config: of either loop.
      devices: number of devices of JAX's side.
    """
    if not importlib.util.find_spec("torch") or devices > 1:
        return False
    from mdp_jax.parity import torch_speed

    if programs.is_pretraining(config):
        same = config.objective == configs.PretrainConfig.objective and config.method.sparse_coding in ("pull", "off")
        same = same and all(source.labels == "masks" for source in config.sources)
        # At the stride of the features another place of the labels is the same work.
        same = same and config.method.label_stride in (0, config.model.output_stride)
        same = same and config.method.momentum_view == "clean"
        method, head = configs.as_config_dict(configs.MethodConfig()), config.model.projection
        same = same and all(config.method[key] == method[key] for key in _NOT_OF_PYTORCH)
        same = same and head.layers == 2 and not head.final_norm
    else:
        same = config.trainable == "all" and config.loss_mean == "all" and not config.optim.ema_decay
        same = same and config.model.reads == configs.FinetuneModelConfig.reads and not config.model.auxiliary.weight
        same = same and config.loss.to_dict() == configs.as_config_dict(configs.FinetuneLossConfig()).to_dict()
    same = same and config.optim.name == configs.OptimConfig.name and not config.optim.clip_norm
    same = same and config.optim.layer_decay == 1 and config.accumulate == 1 and config.model.remat == "none"
    same = same and torch_speed.torch_network.offers(config.model)
    same = same and "float64" not in (config.model.compute_dtype, config.model.param_dtype)
    return bool(same and torch_speed.device_beside(jax.default_backend()))


def _theirs(
    config: ConfigDict, space: LabelSpace, batch: dict, bank: Bank | None, compiled: bool
) -> Callable[[], object]:
    from mdp_jax.parity import torch_speed

    device = torch_speed.device_beside(jax.default_backend())
    assert device is not None  # `comparable` said so
    torch_speed.use_all_threads()
    loop: torch_speed.Pretraining | torch_speed.Finetuning
    if programs.is_pretraining(config):
        assert bank is not None  # its network has a projection
        own_bank = torch_speed.make_bank(np.array(bank.vectors), np.array(bank.images_seen), device)
        loop = torch_speed.Pretraining(config, own_bank, device)
    else:
        loop = torch_speed.Finetuning(config, space.num_classes, device)
    if compiled:
        loop.compile()
    batch = torch_speed.tensors(batch, device)

    def take() -> None:
        loop.step(batch, _LEARNING_RATE)
        torch_speed.wait(device)

    return take
