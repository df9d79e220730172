"""The whole method in plain PyTorch, in the order and the words of METHOD.md: a reference to compare with.

It is written for reading, not for speed: loops where the method speaks of images and classes, autograd for every
gradient, PyTorch's own functions where they exist. Images are [B, 3, H, W], label maps [B, H, W] with -1 = ignore.
"""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdp_jax.configs import (
    DataConfig,
    FinetuneConfig,
    FinetuneOptimConfig,
    MethodConfig,
    PretrainConfig,
    PretrainOptimConfig,
)
from mdp_jax.parity.torch_network import PixelEncoder, Segmenter

PLAIN, REGION, PIXEL = 0, 1, 2


@dataclass
class Bank:
    """Section 3: vectors [C, D], unit rows for seen classes; images_seen int64 [C]."""

    vectors: Tensor
    images_seen: Tensor


def two_step_average(embeddings: Tensor, labels: Tensor, num_classes: int) -> dict[int, tuple[Tensor, int]]:
    """Section 3: for each class of the batch, the mean of its image means, and the number of its images.

    Args:
      embeddings: [B, D, h, w] unit vectors.
      labels: int [B, h, w].
      num_classes: C.
    """
    means = {}
    for c in range(num_classes):
        of_images = []
        for image, label in zip(embeddings, labels, strict=True):
            pixels = image[:, label == c]  # [D, pixels of the class]
            if pixels.shape[1]:
                of_images.append(F.normalize(pixels.mean(dim=1), dim=0, eps=1e-12))
        if of_images:
            means[c] = (torch.stack(of_images).mean(dim=0), len(of_images))
    return means


@torch.no_grad()
def update_bank(bank: Bank, embeddings: Tensor, labels: Tensor, m_proto: float) -> Bank:
    """Section 3: the bank after the batch.

    Args:
      bank: before the batch.
      embeddings: [B, D, h, w] unit vectors.
      labels: int [B, h, w].
      m_proto: weight of the old prototype, in [0, 1].
    """
    vectors, images_seen = bank.vectors.clone(), bank.images_seen.clone()
    for c, (mean, images) in two_step_average(embeddings, labels, len(vectors)).items():
        if bank.images_seen[c] > 0:
            mean = m_proto * bank.vectors[c] + (1 - m_proto) * mean
        vectors[c] = F.normalize(mean, dim=0, eps=1e-12)
        images_seen[c] += images
    return Bank(vectors, images_seen)


class Mixed(NamedTuple):
    """A batch whose pairs are mixed.

    Attributes:
      images: float [B, 3, H, W].
      labels: int [B, H, W, 2], -1 where there is no second label.
      weights: float [B, 2] of the two labels.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor


def mix_pairs(images: Tensor, labels: Tensor, kind: Tensor, lam: Tensor, box: Tensor) -> Mixed:
    """Section 4: members 2j and 2j + 1 mixed with each other as kind[j] says.

    Args:
      images: float [B, 3, H, W].
      labels: int [B, H, W].
      kind: int [B / 2].
      lam: float [B / 2].
      box: int [B / 2, 4], y0, x0, y1, x1, half open.
    """
    mixed, mixed_labels = images.clone(), torch.stack([labels, torch.full_like(labels, -1)], dim=-1)
    weights = torch.tensor([[1.0, 0.0]], dtype=images.dtype).repeat(len(images), 1)
    for i in range(len(images)):
        pair, partner = i // 2, i ^ 1
        if kind[pair] == REGION:
            y0, x0, y1, x1 = box[pair].tolist()
            mixed[i, :, y0:y1, x0:x1] = images[partner, :, y0:y1, x0:x1]
            mixed_labels[i, y0:y1, x0:x1, 0] = labels[partner, y0:y1, x0:x1]
        elif kind[pair] == PIXEL:
            share = lam[pair].to(images.dtype)
            mixed[i] = share * images[i] + (1 - share) * images[partner]
            mixed_labels[i, :, :, 1] = labels[partner]
            weights[i] = torch.stack([share, 1 - share])
    return Mixed(mixed, mixed_labels, weights)


def losses(v: Tensor, labels: Tensor, weights: Tensor, bank: Bank, method: MethodConfig) -> dict[str, Tensor]:
    """Section 4: the loss terms as means over the pixels of the batch.

    Args:
      v: [N, D], the unit embeddings of all pixels.
      labels: int64 [N, 2].
      weights: [N, 2] of the labels.
      bank: as it was before the step.
      method: temperature, sparse_coding and the other values of the loss.

    Returns:
      {"prototype": L, "sparse": L_csc, "total": L + alpha L_csc}, scalars.
    """
    seen = bank.images_seen > 0
    weights = weights * ((labels >= 0) & seen[labels.clamp(min=0)])
    if not weights.sum() > 0:
        return dict.fromkeys(("prototype", "sparse", "total"), 0.0 * v.sum())
    similarity = v @ bank.vectors.T  # [N, C]
    logits = (similarity / method.temperature).masked_fill(~seen, -math.inf)

    # The K nearest seen classes that are not the pixel's own; -inf in `nearest` where there are fewer than K.
    own = (labels[:, :, None] == torch.arange(len(seen))).any(dim=1)
    others = similarity.detach().masked_fill(own | ~seen, -math.inf)
    nearest, neighbours = others.topk(min(method.sparse_classes, len(seen)), dim=1)
    exists = nearest > -math.inf

    pushed = logits
    if method.sparse_coding == "no_push":
        left_out = torch.zeros_like(own).scatter(1, neighbours, exists)
        pushed = logits.masked_fill(left_out, -math.inf)
    prototype = torch.zeros((), dtype=v.dtype)
    for m in range(2):
        valid = weights[:, m] > 0
        each = F.cross_entropy(pushed[valid], labels[valid, m], reduction="none")
        prototype = prototype + (weights[valid, m] * each).sum()

    sparse = torch.zeros((), dtype=v.dtype)
    if method.sparse_coding == "pull":
        pixels = exists.any(dim=1)
        w = F.softmax(nearest[pixels] / method.sparse_temperature, dim=1)
        log_p = F.log_softmax(logits, dim=1).gather(1, neighbours)[pixels]
        code = -(w * log_p.masked_fill(~exists[pixels], 0.0)).sum(dim=1)
        sparse = (weights.sum(dim=1)[pixels] * code).sum()
    terms = {"prototype": prototype, "sparse": sparse, "total": prototype + method.sparse_weight * sparse}
    return {name: term / weights.sum() for name, term in terms.items()}


def cosine_with_warmup(peak: float, warmup: int, steps: int) -> list[float]:
    """Section 5: the learning rate of every step, by torch's own schedulers.

    Args:
      peak: the largest learning rate.
      warmup: number of steps of the warm-up: 0, or at least 2.
      steps: number of steps of the whole run.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup)
    if warmup:
        # A linear schedule of w - 1 steps from peak / w to peak.
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def poly_lr(lr: float, lr_min: float, power: float, steps: int) -> list[float]:
    """Section 6: the learning rate of every step, by the recursion of MMEngine's PolyLR (begin 0, end `steps`).

    Args:
      lr: the first learning rate.
      lr_min: the last learning rate.
      power: of the decay.
      steps: number of steps of the whole run.
    """
    rates = [lr]
    for i in range(1, steps):
        rates.append((rates[-1] - lr_min) * (1 - 1 / (steps - i)) ** power + lr_min)
    return rates


def sgd(model: nn.Module, optim: PretrainOptimConfig | FinetuneOptimConfig, decay_all: bool) -> torch.optim.SGD:
    """Makes torch's SGD, with weight decay on everything, or on the kernels of convolutions alone (section 5).

    Args:
      model: whose parameters are moved.
      optim: momentum and weight decay.
      decay_all: whether biases and batch normalisation decay, too.
    """
    kernels = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    groups = [
        {"params": kernels, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": optim.weight_decay if decay_all else 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=optim.momentum)


def normalise_image(image: Tensor, data: DataConfig, dtype: torch.dtype) -> Tensor:
    """Computes (image - mean) / std.

    Args:
      image: uint8 [B, H, W, 3].
      data: mean and std.
      dtype: of the result.

    Returns:
      [B, 3, H, W].
    """
    mean, std = torch.tensor(data.mean, dtype=dtype), torch.tensor(data.std, dtype=dtype)
    return ((image.to(dtype) - mean) / std).permute(0, 3, 1, 2)


def take_step(optimizer: torch.optim.SGD, loss: Tensor, lr: float) -> None:
    """Computes the gradient of the loss, then takes one step of the optimizer.

    Args:
      optimizer: of the run.
      loss: a scalar.
      lr: learning rate of this step.
    """
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


class Pretraining:
    """Everything that changes in pretraining: f, g, the bank and the optimizer; `step` is one step of section 3."""

    def __init__(self, config: PretrainConfig, bank: Bank) -> None:
        """Makes f and g with PyTorch's initial weights.

        Args:
          config: of `mdp pretrain`, in either form.
          bank: at the beginning.
        """
        self.config, self.bank = config, bank
        self.dtype = bank.vectors.dtype
        self.f = PixelEncoder(config.model).to(self.dtype)
        self.g = copy.deepcopy(self.f)  # in training mode as well: both run on batch statistics
        self.optimizer = sgd(self.f, config.optim, decay_all=False)

    def step(self, batch: dict[str, Tensor], lr: float) -> dict[str, Tensor]:
        """One step on a batch of mdp_jax/data/batches/pipeline.py; returns the loss terms."""
        config, s = self.config, self.config.model.output_stride
        view, key_view = (normalise_image(batch[name], config.data, self.dtype) for name in ("image", "key_image"))
        mixed = mix_pairs(view, batch["label"].long(), batch["mix_kind"], batch["lam"], batch["box"])

        labels = mixed.labels[:, ::s, ::s]
        v = self.f(mixed.images).permute(0, 2, 3, 1)
        pixel_weights = mixed.weights[:, None, None, :].expand(labels.shape)
        terms = losses(v.flatten(0, 2), labels.flatten(0, 2), pixel_weights.flatten(0, 2), self.bank, config.method)
        take_step(self.optimizer, terms["total"], lr)

        with torch.no_grad():
            u = self.g(key_view)
        key_labels = batch["key_label"].long()[:, ::s, ::s]
        self.bank = update_bank(self.bank, u, key_labels, config.method.prototype_momentum)
        m_enc = config.method.encoder_momentum
        with torch.no_grad():
            for old, new in zip(self.g.parameters(), self.f.parameters(), strict=True):
                old.copy_(m_enc * old + (1 - m_enc) * new)
        return {name: term.detach() for name, term in terms.items()}


class Finetuning:
    """The network and the optimizer of section 6; `step` is one step."""

    def __init__(self, config: FinetuneConfig, num_classes: int, dtype: torch.dtype) -> None:
        """Makes the network with PyTorch's initial weights.

        Args:
          config: of `mdp finetune`, in either form.
          num_classes: C.
          dtype: of the computation.
        """
        self.config, self.dtype = config, dtype
        self.segmenter = Segmenter(config.model, num_classes).to(dtype)
        self.optimizer = sgd(self.segmenter, config.optim, decay_all=True)

    def logits(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 [B, H, W, 3] to logits [B, C, *size]."""
        logits = self.segmenter(normalise_image(image, self.config.data, self.dtype))
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def step(self, batch: dict[str, Tensor], lr: float) -> Tensor:
        """One step on {"image", "label"}; returns the loss, a mean over all pixels, ignored ones included."""
        label = batch["label"].long()
        logits = self.logits(batch["image"], label.shape[1:])
        loss = F.cross_entropy(logits, label, ignore_index=-1, reduction="none").mean()
        take_step(self.optimizer, loss, lr)
        return loss.detach()


def intersect_and_union(prediction: Tensor, label: Tensor, num_classes: int, ignore: int = 255) -> dict[str, Tensor]:
    """Section 6: pixels of each class in both maps, in either, and in each, as MMSegmentation's IoUMetric counts them.

    Pixels whose truth is `ignore` are dropped from both maps. Then each count is a histogram with one bin for each
    class; ids that are no class are not counted.

    Args:
      prediction: int, any shape.
      label: int, the same shape.
      num_classes: C.
      ignore: id of ignored pixels in the label.

    Returns:
      {"intersect", "union", "prediction", "label"}, float64 [C].
    """
    kept = label != ignore
    prediction, label = prediction[kept], label[kept]

    def count(ids: Tensor) -> Tensor:
        return torch.histc(ids.double(), bins=num_classes, min=0, max=num_classes - 1)

    intersect, of_prediction, of_label = count(prediction[prediction == label]), count(prediction), count(label)
    return {
        "intersect": intersect,
        "union": of_prediction + of_label - intersect,
        "prediction": of_prediction,
        "label": of_label,
    }


def scores(areas: dict[str, Tensor]) -> dict[str, Tensor]:
    """Section 6: IoU [C] (NaN: in neither map), mIoU, mAcc and aAcc in percent from the areas of a whole set."""
    iou = 100 * areas["intersect"] / areas["union"]
    return {
        "IoU": iou,
        "mIoU": iou.nanmean(),
        "mAcc": (100 * areas["intersect"] / areas["label"]).nanmean(),
        "aAcc": 100 * areas["intersect"].sum() / areas["label"].sum(),
    }
