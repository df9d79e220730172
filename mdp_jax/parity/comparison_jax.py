"""This package's side of the comparison: its own networks, steps and metrics on a case, as NumPy arrays.

Results are {section: {name: array}}; comparison_torch.py gives the same sections and names. It computes on the CPU, as
PyTorch does there, at highest matmul precision, and in x64 where the case asks for float64.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from mdp_jax import configs
from mdp_jax.evaluation import metrics
from mdp_jax.method import losses, mixing
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.models.apply import apply_evaluation
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.mdp import loss_options
from mdp_jax.parity import comparison_case
from mdp_jax.parity.comparison_case import FINETUNING, LABEL_SPACE, PRETRAINING, RUN_LENGTH, Case
from mdp_jax.training import optim, programs, sharding
from mdp_jax.training.state import PretrainState
from mdp_jax.weights.torch_weights import to_torch

Sections = dict[str, dict[str, np.ndarray]]


@contextlib.contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Lets JAX compute on the CPU, at highest matmul precision.

    Args:
      dtype: "float32" or "float64".
    """
    with (
        jax.enable_x64(dtype == "float64"),
        jax.default_device(jax.devices("cpu")[0]),
        jax.default_matmul_precision("highest"),
    ):
        yield


def _copies(arrays: Mapping) -> dict[str, np.ndarray]:
    """Copies arrays of a state, which the next step donates."""
    return {name: np.array(value) for name, value in arrays.items()}


def _mesh() -> Mesh:
    return sharding.mesh_of(jax.devices("cpu")[:1], fsdp=1)


def _cast(values: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), values)


def _bank(case: Case) -> Bank:
    return Bank(jnp.asarray(case.bank_vectors, case.dtype), jnp.asarray(case.images_seen, jnp.int32))


def _mixed(case: Case) -> mixing.Mixed:
    batch = case.batches[0]
    view = Normalise.of(case.pretrain.data, case.dtype)(jnp.asarray(batch["image"]))
    label = jnp.asarray(batch["label"], jnp.int32)
    return jax.jit(mixing.mix_pairs)(view, label, batch["mix_kind"], batch["lam"], batch["box"])


def mixed_view(case: Case) -> Sections:
    """Images, labels and weights of the first batch's mixed view."""
    mixed = _mixed(case)
    return {"mixing": _copies({"images": mixed.images, "labels": mixed.labels, "weights": mixed.weights[:, 0, 0]})}


def forward(case: Case) -> Sections:
    """Outputs [B,h,w,C] of the query encoder's modules on the mixed view, batch statistics in use."""
    encoder = network.pixel_encoder(case.pretrain.model)

    @jax.jit
    def apply(variables: dict, images: jax.Array) -> Any:
        return encoder.apply(
            variables, images, train=True, mutable=["batch_stats", "intermediates"], capture_intermediates=True
        )

    embeddings, updated = apply(_cast(case.f, case.dtype), _mixed(case).images)
    outputs = {}
    for part, modules in updated["intermediates"].items():
        for name, inner in modules.items() if isinstance(modules, dict) else ():
            if name not in ("__call__", "Dropout_0"):  # the dropout, which is off, is no module in the reference
                outputs[f"{part}.{name}"] = inner["__call__"][0]
    return {"forward": _copies(outputs | {"embeddings": embeddings})}


def loss_terms(case: Case) -> Sections:
    """Each loss term and its gradient into the embeddings, for every variant of the sparse coding."""
    bank, labels = _bank(case), jnp.asarray(case.labels, jnp.int32)
    embeddings, weights = _cast((case.embeddings, case.weights), case.dtype)
    results: dict[str, jax.Array] = {}
    for variant in losses.SPARSE_CODING:
        options = loss_options(case.pretrain.method)._replace(sparse_coding=variant)
        loss = functools.partial(losses.prototype_loss, options=options, chunk=5)
        (total, pixels), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(embeddings, labels, weights, bank)
        weight = pixels.weight.sum()
        terms = {"prototype": pixels.prototype.sum() / weight, "sparse": pixels.sparse.sum() / weight, "total": total}
        terms["gradient into the embeddings"] = gradient
        results |= {f"{variant}: {name}": term for name, term in terms.items()}
    return {"loss": _copies(results)}


def _first_gradient(state: Any, before: Mapping, weight_decay: float, kernels_only: bool) -> dict[str, np.ndarray]:
    """The gradient of the first step: the momentum buffer after it, less the decay of the weights `before`."""
    buffer = to_torch(optax.tree_utils.tree_get(state.opt_state, "trace"))
    weights = to_torch(before)
    decayed = {key for key, value in weights.items() if value.ndim == 4 or not kernels_only}
    return {key: np.array(buffer[key] - weight_decay * weights[key] * (key in decayed)) for key in buffer}


def _counter(steps: int) -> jax.Array:
    """Step numbers of the type that the optimizer counts in."""
    return jnp.arange(steps, dtype=jnp.int32)


def pretraining(case: Case) -> Sections:
    """The jitted step of `mdp pretrain` on every batch, from a filled bank and with g unlike f at the beginning."""
    mesh = _mesh()
    program = programs.pretraining(configs.typed_pretrain(case.pretrain), mesh, LABEL_SPACE, samples=100)
    state = program.make()
    first_params = _cast(case.f["params"], case.dtype)
    state = state.replace(
        params=first_params,
        batch_stats=_cast(case.f["batch_stats"], case.dtype),
        memory={
            "momentum_params": _cast(case.g["params"], case.dtype),
            "momentum_batch_stats": _cast(case.g["batch_stats"], case.dtype),
            "bank": _bank(case),
        },
    )
    before = jax.tree.map(np.array, first_params)
    state = jax.device_put(state, program.shardings)
    sections, history = {}, []
    for number, batch in enumerate(case.batches):
        state, measured = program.step(state, sharding.to_devices(batch, mesh))
        history.append([measured["prototype_loss"], measured["sparse_loss"], measured["loss"]])
        if number == 0:
            sections["gradient"] = _first_gradient(state, before, case.pretrain.optim.weight_decay, kernels_only=True)
            sections["bank after 1 step"] = _bank_arrays(state)
            sections["momentum weights after 1 step"] = _copies(to_torch(state.memory["momentum_params"]))
    return sections | {
        f"{PRETRAINING}, losses": dict(zip(("prototype", "sparse", "total"), np.array(history).T, strict=True)),
        f"{PRETRAINING}, learning rate": {"": np.array(program.schedule(_counter(len(case.batches))))},
        f"{PRETRAINING}, weights": _copies(to_torch(state.params)),
        f"{PRETRAINING}, statistics": _copies(to_torch(state.batch_stats)),
        f"{PRETRAINING}, momentum weights": _copies(to_torch(state.memory["momentum_params"])),
        f"{PRETRAINING}, momentum statistics": _copies(to_torch(state.memory["momentum_batch_stats"])),
        f"{PRETRAINING}, bank": _bank_arrays(state),
    }


def _bank_arrays(state: PretrainState) -> dict[str, np.ndarray]:
    return _copies({"vectors": state.memory["bank"].vectors, "images seen": state.memory["bank"].images_seen})


def evaluation_logits(case: Case) -> Sections:
    """Logits of a photo in evaluation, at feature resolution and at the photo's size."""
    segmenter = network.segmenter(case.finetune.model, comparison_case.FINETUNE_CLASSES)

    @jax.jit
    def evaluate(variables: dict, photo: jax.Array) -> dict[str, jax.Array]:
        _, height, width, _ = photo.shape
        logits = apply_evaluation(segmenter, variables, Normalise.of(case.finetune.data, case.dtype)(photo))
        return {"logits": logits, "logits at the photo's size": network.upsample(logits, (height, width))}

    return {"evaluation": _copies(evaluate(_cast(case.segmenter, case.dtype), jnp.asarray(case.photo)))}


def finetuning(case: Case) -> Sections:
    """The jitted step of `mdp finetune` on every batch."""
    mesh = _mesh()
    program = programs.finetuning(configs.typed_finetune(case.finetune), mesh, comparison_case.FINETUNE_CLASSES)
    state = program.make()
    params, batch_stats = (_cast(case.segmenter[name], case.dtype) for name in ("params", "batch_stats"))
    before = jax.tree.map(np.array, params)
    state = jax.device_put(state.replace(params=params, batch_stats=batch_stats), program.shardings)
    sections, history = {}, []
    for number, batch in enumerate(case.finetune_batches):
        state, measured = program.step(state, sharding.to_devices(batch, mesh))
        history.append(measured["loss"])
        if number == 0:
            decay = case.finetune.optim.weight_decay
            sections["fine-tuning gradient"] = _first_gradient(state, before, decay, kernels_only=False)
    return sections | {
        f"{FINETUNING}, loss": {"": np.array(history)},
        f"{FINETUNING}, weights": _copies(to_torch(state.params)),
        f"{FINETUNING}, statistics": _copies(to_torch(state.batch_stats)),
    }


def method_results(case: Case) -> Sections:
    """What needs no network: the mixing and the losses."""
    with computing_in(case.dtype):
        return mixed_view(case) | loss_terms(case)


def network_results(case: Case) -> Sections:
    """Everything that is compared for one network in one dtype."""
    with computing_in(case.dtype):
        return forward(case) | evaluation_logits(case) | pretraining(case) | finetuning(case)


def schedules(dtype: str) -> dict[str, np.ndarray]:
    """The learning rates of RUN_LENGTH steps."""
    with computing_in(dtype):
        steps = _counter(RUN_LENGTH)
        return _copies(
            {
                "cosine with warm-up": jax.jit(optim.cosine_with_warmup(0.1, 10, RUN_LENGTH))(steps),
                "cosine without warm-up": jax.jit(optim.cosine_with_warmup(0.1, 0, RUN_LENGTH))(steps),
                "PolyLR": jax.jit(optim.polynomial(0.01, 1e-4, 0.9, RUN_LENGTH))(steps),
            }
        )


def sgd(dtype: str) -> dict[str, np.ndarray]:
    """Weights after each of RUN_LENGTH steps of SGD on given gradients, [steps, ...] under PyTorch's names."""
    results: dict[str, np.ndarray] = {}
    with computing_in(dtype):
        for name, decay_all in (("decay of kernels", False), ("decay of everything", True)):
            optimizer = optim.sgd(optim.polynomial(0.1, 1e-3, 0.9, RUN_LENGTH), 0.9, 0.01, decay_all)
            first, of_steps = comparison_case.sgd_inputs()
            weights = _cast(first, dtype)
            gradients = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), dtype), *of_steps)

            def step(
                carry: tuple[Any, Any], gradient: Any, optimizer: optax.GradientTransformation = optimizer
            ) -> tuple[tuple[Any, Any], Any]:
                weights, state = carry
                updates, state = optimizer.update(gradient, state, weights)
                weights = optax.apply_updates(weights, updates)
                return (weights, state), weights

            run = jax.jit(functools.partial(jax.lax.scan, step))
            history = run((weights, optimizer.init(weights)), gradients)[1]
            results |= {f"{name}: {leaf}": np.array(values) for leaf, values in history.items()}
    return results


def evaluation(kind: str) -> Sections:
    """Counts and scores of a pair of label maps (comparison_case.LABEL_MAPS); IoU -1 where a class is in neither."""
    truth, prediction = comparison_case.label_maps(kind)
    classes = [str(i) for i in range(comparison_case.EVALUATION_CLASSES)]
    with computing_in("float32"):
        label = jnp.asarray(np.where(truth == 255, -1, truth), jnp.int32)
        counts = np.array(metrics.confusion(label, jnp.asarray(prediction, jnp.int32), len(classes)), np.int64)
    scores = metrics.scores(counts, classes)
    areas = metrics.areas(counts)
    iou = [-1.0 if scores["per_class"][name] is None else scores["per_class"][name] for name in classes]
    return {
        "counts": {
            "intersect": areas.right,
            "union": areas.truth + areas.predicted - areas.right,
            "prediction": areas.predicted,
            "label": areas.truth,
        },
        "scores": {"IoU": np.array(iou)} | {name: np.array(scores[name]) for name in ("mIoU", "mAcc", "aAcc")},
    }
