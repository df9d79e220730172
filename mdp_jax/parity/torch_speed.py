"""What `mdp bench loss` and `mdp bench step` compare with: torch_reference.py where that is written for reading.

The same values, as one writes them in PyTorch to be fast: no loop over images and classes, one log-softmax, masks in
place of indices that the host must wait for, convolutions in the layout channels last, automatic mixed precision where
the config computes in bfloat16.
"""

import contextlib
import copy
import os

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mdp_jax.configs import FinetuneConfig, MethodConfig, PretrainConfig
from mdp_jax.method.losses import LossOptions
from mdp_jax.parity import torch_network, torch_reference
from mdp_jax.parity.torch_reference import Bank


def device_beside(jax_platform: str) -> str | None:
    """Names PyTorch's device of the kind that JAX uses.

    Args:
      jax_platform: "cpu", "gpu" or another.

    Returns:
      "cpu", "cuda", or None where PyTorch has no such device.
    """
    if jax_platform == "gpu":
        return "cuda" if torch.cuda.is_available() else None
    return "cpu" if jax_platform == "cpu" else None


def use_all_threads() -> None:
    """Gives PyTorch's operations as many threads as this process has cores, as JAX's have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores)


def wait(device: str) -> None:
    """Waits until a device has finished its work.

    Args:
      device: of PyTorch.
    """
    if device == "cuda":
        torch.cuda.synchronize()


def tensors(arrays: dict[str, np.ndarray], device: str) -> dict[str, Tensor]:
    """Copies NumPy arrays to a device.

    Args:
      arrays: by name.
      device: of PyTorch.
    """
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}


def make_bank(vectors: np.ndarray, images_seen: np.ndarray, device: str) -> Bank:
    """Makes a bank on a device, in float32.

    Args:
      vectors: [C, D].
      images_seen: int [C].
      device: of PyTorch.
    """
    return Bank(torch.tensor(vectors, dtype=torch.float32, device=device), torch.tensor(images_seen, device=device))


def losses(v: Tensor, labels: Tensor, weights: Tensor, bank: Bank, method: MethodConfig | LossOptions) -> Tensor:
    """Computes L + alpha L_csc (METHOD.md section 4), by one log-softmax over all classes for all pixels.

    Args:
      v: [N, D], the unit embeddings of all pixels.
      labels: int64 [N, 2].
      weights: [N, 2] of the labels.
      bank: as it was before the step.
      method: values of the loss; `sparse_coding` is "pull" or "off".

    Returns:
      A scalar.
    """
    seen = bank.images_seen > 0
    own = labels.clamp(min=0)
    weights = weights * ((labels >= 0) & seen[own])
    lowest = torch.finfo(v.dtype).min
    similarity = v @ bank.vectors.T
    log_p = F.log_softmax((similarity / method.temperature).masked_fill(~seen, lowest), dim=1)
    total = -(weights * log_p.gather(1, own)).sum()
    if method.sparse_coding == "pull":
        # A class that is no label of the pixel stands in for a label that is missing.
        others = similarity.detach().masked_fill(~seen, -torch.inf)
        others.scatter_(1, torch.where(labels < 0, own.amax(dim=1, keepdim=True), own), -torch.inf)
        nearest, neighbours = others.topk(min(method.sparse_classes, others.shape[1]), dim=1)
        exists = nearest > -torch.inf
        code = F.softmax(torch.where(exists, nearest / method.sparse_temperature, lowest), dim=1) * exists
        pixel = weights.sum(dim=1, keepdim=True)
        total = total - method.sparse_weight * (pixel * code * log_p.gather(1, neighbours)).sum()
    count = weights.sum()
    return total / torch.where(count > 0, count, 1.0)


@torch.no_grad()
def update_bank(bank: Bank, embeddings: Tensor, labels: Tensor, m_proto: float) -> Bank:
    """Computes the bank after a batch (METHOD.md section 3).

    Args:
      bank: before the batch.
      embeddings: [B, N, D] unit vectors.
      labels: int [B, N].
      m_proto: weight of the old prototype, in [0, 1].
    """
    classes, (images, _, dim) = len(bank.vectors), embeddings.shape
    rows = torch.arange(images, device=labels.device)[:, None] * (classes + 1)
    ids = (torch.where(labels < 0, classes, labels) + rows).flatten()  # ignored pixels in a row of their own
    sums = embeddings.new_zeros(images * (classes + 1), dim).index_add_(0, ids, embeddings.flatten(0, 1))
    present = torch.zeros(len(sums), dtype=torch.bool, device=sums.device).index_fill_(0, ids, True)
    means = F.normalize(sums.view(images, classes + 1, dim)[:, :classes], dim=2, eps=1e-12)
    count = present.view(images, classes + 1)[:, :classes].sum(dim=0)
    mean = means.sum(dim=0) / count.clamp(min=1)[:, None]
    known = (bank.images_seen > 0)[:, None]
    new = F.normalize(torch.where(known, m_proto * bank.vectors + (1 - m_proto) * mean, mean), dim=1, eps=1e-12)
    return Bank(torch.where((count > 0)[:, None], new, bank.vectors), bank.images_seen + count)


def _precision(compute_dtype: str, device: str) -> contextlib.AbstractContextManager:
    """The context that the networks run in; `compute_dtype` is "float32" or "bfloat16"."""
    return torch.autocast(device, torch.bfloat16, enabled=compute_dtype == "bfloat16")


class Pretraining:
    """One step of METHOD.md section 3 at a time, in float32 or, the two encoders, in bfloat16."""

    def __init__(self, config: PretrainConfig, bank: Bank, device: str) -> None:
        """Makes the networks on a device.

        Args:
          config: of `mdp pretrain`, in either form.
          bank: at the beginning.
          device: of PyTorch.
        """
        self.config, self.bank, self.device = config, bank, device
        self.f = torch_network.PixelEncoder(config.model).to(device, memory_format=torch.channels_last)
        self.g = copy.deepcopy(self.f)
        self.optimizer = torch_reference.sgd(self.f, config.optim, decay_all=False)

    def compile(self) -> None:
        """Compiles the two encoders (torch.compile) at the first step."""
        self.f.compile()
        self.g.compile()

    def step(self, batch: dict[str, Tensor], lr: float) -> Tensor:
        """One step on a batch of mdp_jax/data/batches/pipeline.py on the device; returns the loss."""
        with torch.device(self.device):
            return self._step(batch, lr)

    def _step(self, batch: dict[str, Tensor], lr: float) -> Tensor:
        config, s, method = self.config, self.config.model.output_stride, self.config.method
        view, key_view = (
            torch_reference.normalise_image(batch[name], config.data, torch.float32) for name in ("image", "key_image")
        )
        labels, mix = batch["label"].long(), (batch[name] for name in ("mix_kind", "lam", "box"))
        mixed = torch_reference.mix_pairs(view, labels, *mix)
        labels = mixed.labels[:, ::s, ::s]
        weights = mixed.weights[:, None, None].expand(labels.shape)
        v = self._embed(self.f, mixed.images).flatten(0, 1)
        loss = losses(v, labels.flatten(0, 2), weights.flatten(0, 2), self.bank, method)
        torch_reference.take_step(self.optimizer, loss, lr)

        with torch.no_grad():
            u = self._embed(self.g, key_view)
            key_labels = batch["key_label"].long()[:, ::s, ::s].flatten(1)
            self.bank = update_bank(self.bank, u, key_labels, method.prototype_momentum)
            torch._foreach_lerp_(list(self.g.parameters()), list(self.f.parameters()), 1 - method.encoder_momentum)
        return loss.detach()

    def _embed(self, encoder: torch_network.PixelEncoder, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to float32 unit vectors [B, N, D]."""
        images = images.contiguous(memory_format=torch.channels_last)
        with _precision(self.config.model.compute_dtype, self.device):
            vectors = encoder(images)
        return vectors.float().permute(0, 2, 3, 1).flatten(1, 2)


class Finetuning(torch_reference.Finetuning):
    """One step of METHOD.md section 6 at a time, without dropout, in float32 or, the network, in bfloat16."""

    def __init__(self, config: FinetuneConfig, num_classes: int, device: str) -> None:
        """Makes the network on a device.

        Args:
          config: of `mdp finetune`, in either form.
          num_classes: C.
          device: of PyTorch.
        """
        self.device = device
        with torch.device(device):
            super().__init__(config, num_classes, torch.float32)
        self.segmenter.to(memory_format=torch.channels_last)

    def compile(self) -> None:
        """Compiles the network (torch.compile) at the first step."""
        self.segmenter.compile()

    def logits(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 [B, H, W, 3] to float32 logits [B, C, *size]."""
        image = torch_reference.normalise_image(image, self.config.data, self.dtype)
        with _precision(self.config.model.compute_dtype, self.device):
            logits = self.segmenter(image.contiguous(memory_format=torch.channels_last))
        return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)

    def step(self, batch: dict[str, Tensor], lr: float) -> Tensor:
        """One step on {"image", "label"} on the device; returns the loss."""
        with torch.device(self.device):
            return super().step(batch, lr)
