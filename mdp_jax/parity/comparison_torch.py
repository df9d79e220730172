"""PyTorch's side of the comparison: the reference on a case, with the sections and names of comparison_jax.py."""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from mdp_jax.method.losses import SPARSE_CODING
from mdp_jax.parity import comparison_case, torch_reference
from mdp_jax.parity.comparison_case import FINETUNE_CLASSES, FINETUNING, PRETRAINING, RUN_LENGTH, Case
from mdp_jax.parity.torch_network import PixelEncoder
from mdp_jax.parity.torch_reference import Bank
from mdp_jax.weights.torch_weights import to_torch

Sections = dict[str, dict[str, np.ndarray]]


def load(module: nn.Module, variables: dict) -> None:
    """Gives a module the weights and statistics of a network of mdp_jax.

    Args:
      module: of torch_network.py.
      variables: {"params", "batch_stats"}.
    """
    arrays = to_torch(variables["params"]) | to_torch(variables["batch_stats"])
    module.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()}, strict=True)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def _nhwc(tensor: Tensor) -> np.ndarray:
    return _array(tensor.permute(0, 2, 3, 1))


def _parameters(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: _array(value) for key, value in module.named_parameters()}


def _statistics(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: _array(value) for key, value in module.named_buffers() if not key.endswith("num_batches_tracked")}


def _gradients(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: _array(value.grad) for key, value in module.named_parameters()}


def _tensors(batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.tensor(array) for name, array in batch.items()}


def _dtype(case: Case) -> torch.dtype:
    return getattr(torch, case.dtype)


def _bank(case: Case) -> Bank:
    return Bank(torch.tensor(case.bank_vectors, dtype=_dtype(case)), torch.tensor(case.images_seen))


def _bank_arrays(bank: Bank) -> dict[str, np.ndarray]:
    return {"vectors": _array(bank.vectors), "images seen": _array(bank.images_seen)}


def _mixed(case: Case) -> torch_reference.Mixed:
    batch = _tensors(case.batches[0])
    view = torch_reference.normalise_image(batch["image"], case.pretrain.data, _dtype(case))
    return torch_reference.mix_pairs(view, batch["label"].long(), batch["mix_kind"], batch["lam"], batch["box"])


def mixed_view(case: Case) -> Sections:
    """Images, labels and weights of the first batch's mixed view."""
    mixed = _mixed(case)
    arrays = {"images": _nhwc(mixed.images), "labels": _array(mixed.labels), "weights": _array(mixed.weights)}
    return {"mixing": arrays}


def forward(case: Case) -> Sections:
    """Outputs [B,h,w,C] of the query encoder's modules on the mixed view, batch statistics in use."""
    encoder = PixelEncoder(case.pretrain.model).to(_dtype(case))
    load(encoder, case.f)
    outputs = {}

    def keep(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        outputs[name] = _nhwc(output)

    for name, module in encoder.named_modules():
        if name.count(".") == 1:
            module.register_forward_hook(functools.partial(keep, name))
    embeddings = encoder(_mixed(case).images)
    return {"forward": outputs | {"embeddings": _nhwc(embeddings)}}


def loss_terms(case: Case) -> Sections:
    """Each loss term and its gradient into the embeddings, for every variant of the sparse coding."""
    method = case.pretrain.method.copy_and_resolve_references()
    weights = torch.tensor(case.weights, dtype=_dtype(case)).flatten(0, 1)
    results: dict[str, np.ndarray] = {}
    for variant in SPARSE_CODING:
        method.sparse_coding = variant
        embeddings = torch.tensor(case.embeddings, dtype=_dtype(case), requires_grad=True)
        labels = torch.tensor(case.labels).flatten(0, 1)
        terms = torch_reference.losses(embeddings.flatten(0, 1), labels, weights, _bank(case), method)
        terms["total"].backward()
        terms["gradient into the embeddings"] = embeddings.grad
        results |= {f"{variant}: {name}": _array(term) for name, term in terms.items()}
    return {"loss": results}


def pretraining(case: Case) -> Sections:
    """A step of pretraining on every batch, from a filled bank and with g unlike f at the beginning."""
    reference = torch_reference.Pretraining(case.pretrain, _bank(case))
    load(reference.f, case.f)
    load(reference.g, case.g)
    rates = torch_reference.cosine_with_warmup(comparison_case.PEAK_LEARNING_RATE, 0, RUN_LENGTH)[: len(case.batches)]
    sections, history = {}, []
    for number, (batch, rate) in enumerate(zip(case.batches, rates, strict=True)):
        history.append(reference.step(_tensors(batch), rate))
        if number == 0:
            sections["gradient"] = _gradients(reference.f)
            sections["bank after 1 step"] = _bank_arrays(reference.bank)
            sections["momentum weights after 1 step"] = _parameters(reference.g)
    return sections | {
        f"{PRETRAINING}, losses": {
            name: np.array([float(terms[name]) for terms in history]) for name in ("prototype", "sparse", "total")
        },
        f"{PRETRAINING}, learning rate": {"": np.array(rates)},
        f"{PRETRAINING}, weights": _parameters(reference.f),
        f"{PRETRAINING}, statistics": _statistics(reference.f),
        f"{PRETRAINING}, momentum weights": _parameters(reference.g),
        f"{PRETRAINING}, momentum statistics": _statistics(reference.g),
        f"{PRETRAINING}, bank": _bank_arrays(reference.bank),
    }


def evaluation_logits(case: Case) -> Sections:
    """Logits of a photo in evaluation, at feature resolution and at the photo's size."""
    reference = torch_reference.Finetuning(case.finetune, FINETUNE_CLASSES, _dtype(case))
    load(reference.segmenter, case.segmenter)
    reference.segmenter.eval()
    photo = torch.tensor(case.photo)
    logits = reference.segmenter(torch_reference.normalise_image(photo, case.finetune.data, _dtype(case)))
    upsampled = reference.logits(photo, photo.shape[1:3])
    return {"evaluation": {"logits": _nhwc(logits), "logits at the photo's size": _nhwc(upsampled)}}


def finetuning(case: Case) -> Sections:
    """A step of fine-tuning on every batch."""
    reference = torch_reference.Finetuning(case.finetune, FINETUNE_CLASSES, _dtype(case))
    load(reference.segmenter, case.segmenter)
    config = case.finetune.optim
    rates = torch_reference.poly_lr(config.lr, config.lr_min, config.power, RUN_LENGTH)[: len(case.finetune_batches)]
    sections, history = {}, []
    for number, (batch, rate) in enumerate(zip(case.finetune_batches, rates, strict=True)):
        history.append(float(reference.step(_tensors(batch), rate)))
        if number == 0:
            sections["fine-tuning gradient"] = _gradients(reference.segmenter)
    return sections | {
        f"{FINETUNING}, loss": {"": np.array(history)},
        f"{FINETUNING}, weights": _parameters(reference.segmenter),
        f"{FINETUNING}, statistics": _statistics(reference.segmenter),
    }


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets PyTorch compute in one thread: such narrow networks are much slower in several ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def method_results(case: Case) -> Sections:
    """What needs no network: the mixing and the losses."""
    with one_thread():
        return mixed_view(case) | loss_terms(case)


def network_results(case: Case) -> Sections:
    """Everything that is compared for one network in one dtype."""
    with one_thread():
        return forward(case) | evaluation_logits(case) | pretraining(case) | finetuning(case)


def schedules(dtype: str) -> dict[str, np.ndarray]:
    """The learning rates of RUN_LENGTH steps, in float64 whatever the dtype, as torch and MMEngine compute them."""
    return {
        "cosine with warm-up": np.array(torch_reference.cosine_with_warmup(0.1, 10, RUN_LENGTH)),
        "cosine without warm-up": np.array(torch_reference.cosine_with_warmup(0.1, 0, RUN_LENGTH)),
        "PolyLR": np.array(torch_reference.poly_lr(0.01, 1e-4, 0.9, RUN_LENGTH)),
    }


def sgd(dtype: str) -> dict[str, np.ndarray]:
    """Weights after each of RUN_LENGTH steps of torch.optim.SGD on given gradients, [steps, ...]."""
    rates = torch_reference.poly_lr(0.1, 1e-3, 0.9, RUN_LENGTH)
    results: dict[str, np.ndarray] = {}
    for name, decay_all in (("decay of kernels", False), ("decay of everything", True)):
        first, gradients = comparison_case.sgd_inputs()
        weights = {leaf: torch.tensor(value, dtype=getattr(torch, dtype)) for leaf, value in first.items()}
        decays = {"kernel": 0.01, "bias": 0.01 if decay_all else 0.0}
        groups = [{"params": [weights[leaf]], "weight_decay": decays[leaf]} for leaf in weights]
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
        history: dict[str, list[np.ndarray]] = {leaf: [] for leaf in weights}
        for rate, gradient in zip(rates, gradients, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            for leaf, value in weights.items():
                value.grad = torch.tensor(gradient[leaf], dtype=value.dtype)
            optimizer.step()
            for leaf, value in weights.items():
                history[leaf].append(_array(value))
        results |= {f"{name}: {leaf}": np.stack(values) for leaf, values in history.items()}
    return results


def evaluation(kind: str) -> Sections:
    """Counts and scores of a pair of label maps (comparison_case.LABEL_MAPS); IoU -1 where a class is in neither."""
    truth, prediction = (torch.tensor(ids) for ids in comparison_case.label_maps(kind))
    areas = torch_reference.intersect_and_union(prediction, truth, comparison_case.EVALUATION_CLASSES)
    scores = {name: value.nan_to_num(-1.0) for name, value in torch_reference.scores(areas).items()}
    sections = {"counts": areas, "scores": scores}
    return {section: {name: _array(value) for name, value in values.items()} for section, values in sections.items()}
