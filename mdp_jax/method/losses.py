"""Pixel-to-prototype loss with sparse coding, in chunks of pixels (METHOD.md section 4).

The logits of a batch, pixels x classes, are the largest array of the method by far. They exist for one chunk of pixels
at a time: the gradient with respect to the embeddings has a closed form and is computed in the same scan as the value,
so that nothing of the size of the logits is kept for the backward pass.
"""

from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from mdp_jax.method import sparse_coding
from mdp_jax.method.prototypes import Bank

SPARSE_CODING = ("pull", "no_push", "off")
RELATED_AS = ("no_negatives", "positives")
NEGATIVES = ("all", "own_set")
_CPU_LOGITS = 2**17  # of a chunk on a CPU: all its arrays then stay in a cache of 1 to 2 MiB a core


class LossOptions(NamedTuple):
    """Static values of the loss (METHOD.md section 4); hashable.

    Attributes:
      temperature: tau > 0.
      sparse_coding: "pull" (CSC2), "no_push" (CSC1) or "off".
      sparse_classes: K >= 1.
      sparse_weight: alpha >= 0, of the "pull" term.
      sparse_temperature: tau_s > 0.
      related_as: what the related classes of a pixel are: "no_negatives", or "positives", which needs "pull".
    """

    temperature: float
    sparse_coding: str
    sparse_classes: int
    sparse_weight: float
    sparse_temperature: float
    related_as: str = RELATED_AS[0]


@flax.struct.dataclass
class Among:
    """Which classes a pixel is compared with, where it is not every one.

    Attributes:
      related: bool [C, C], which classes are related to each class by their names; None = none.
      sets: int [C], the set of each class: negatives are the classes of the sets of the pixel's own labels; None = all.
    """

    related: jax.Array | None = None
    sets: jax.Array | None = None


@flax.struct.dataclass
class PixelLosses:
    """What each pixel adds to the loss; all float [B, N].

    Attributes:
      prototype: sum over the pixel's labels of weight x L.
      sparse: total weight x L_csc, before alpha.
      weight: sum of the weights of its labels, 0 for ignored pixels.
      hit: sum of the weights of those of its labels that are the nearest prototype.
    """

    prototype: jax.Array
    sparse: jax.Array
    weight: jax.Array
    hit: jax.Array


def label_weights(labels: jax.Array, weights: jax.Array, seen: jax.Array) -> jax.Array:
    """Sets the weights of labels that do not count to 0.

    Args:
      labels: int [..., M] global class ids, -1 = ignore.
      weights: float [..., M].
      seen: bool [C], classes that have a prototype.

    Returns:
      float [..., M]: 0 where a label is ignored or its class unseen.
    """
    valid = (labels >= 0) & seen[jnp.maximum(labels, 0)]
    return jnp.where(valid, weights, 0.0)


def of_own_sets(labels: jax.Array, sets: jax.Array) -> jax.Array:
    """Marks the classes of the sets that a pixel's labels are of.

    Args:
      labels: int [..., M] global class ids, -1 = ignore or no such label.
      sets: int [C], the set of each class.

    Returns:
      bool [..., C].
    """
    own = jnp.where(labels >= 0, sets[jnp.maximum(labels, 0)], -1)[..., None]
    return jnp.any(own == sets.reshape((1,) * (own.ndim - 1) + (-1,)), axis=-2)


def _chunk_terms(
    v: jax.Array, labels: jax.Array, weights: jax.Array, bank: Bank, among: Among, options: LossOptions
) -> tuple[PixelLosses, jax.Array]:
    """Value and gradient for one chunk: v [B, n, D], labels int and weights [B, n, 2], both already masked.

    Returns PixelLosses of [B, n] and the gradient of the chunk's sum with respect to v, [B, n, D].
    """
    seen = bank.seen[None, None, :]
    similarity = jnp.einsum("bnd,cd->bnc", v, bank.vectors, precision=jax.lax.Precision.HIGHEST)
    lowest = jnp.finfo(similarity.dtype).min
    logits = similarity / options.temperature
    if bank.log_frequencies is not None:  # constants, which the gradient below does not see
        logits = logits + bank.log_frequencies[None, None, :]
    logits = jnp.where(seen, logits, lowest)
    ids = jnp.arange(logits.shape[-1])[None, None, :]
    first, second = (labels[..., m, None] == ids for m in range(2))  # [B, n, C]; as one array it would be written out
    weight = jnp.sum(weights, axis=-1)

    # [B, n, C], sums to weight
    target = jnp.where(first, weights[..., :1], 0.0) + jnp.where(second, weights[..., 1:], 0.0)
    code = jnp.zeros_like(logits)
    if among.sets is not None:
        logits = jnp.where(of_own_sets(labels, among.sets), logits, lowest)
    denominator = logits
    others = seen & ~(first | second)
    if among.sets is not None:
        others &= logits > lowest
    if among.related is not None:
        near = others & sparse_coding.related_classes(labels, among.related)
        if options.related_as == "no_negatives":
            denominator = jnp.where(near, lowest, logits)
            others &= ~near
    if options.sparse_coding != "off":
        chosen = sparse_coding.nearest_classes(similarity, others, options.sparse_classes)
        if among.related is not None and options.related_as == "positives":
            chosen = jnp.where(jnp.any(near, axis=-1, keepdims=True), near, chosen)
        if options.sparse_coding == "no_push":
            denominator = jnp.where(chosen, lowest, denominator)
        else:
            code = sparse_coding.code_weights(similarity, chosen, options.sparse_temperature)
    largest = jnp.max(denominator, axis=-1, keepdims=True)
    exponents = jnp.exp(denominator - largest)
    total = jnp.sum(exponents, axis=-1, keepdims=True)
    log_total = jnp.log(total) + largest
    log_softmax = logits - log_total

    prototype = -jnp.sum(jnp.where(target > 0, target * log_softmax, 0.0), axis=-1)
    sparse = -weight * jnp.sum(jnp.where(code > 0, code * log_softmax, 0.0), axis=-1)
    best = logits == jnp.max(logits, axis=-1, keepdims=True)
    nearest = jnp.min(jnp.where(best, ids, logits.shape[-1]), axis=-1)[..., None]  # argmax, which is not vectorised
    hit = jnp.sum(jnp.where(labels == nearest, weights, 0.0), axis=-1)

    pulled = target + options.sparse_weight * weight[..., None] * code
    pushed = jnp.sum(pulled, axis=-1, keepdims=True) / total * exponents
    d_similarity = (pushed - pulled) / options.temperature
    gradient = jnp.einsum("bnc,cd->bnd", d_similarity, bank.vectors, precision=jax.lax.Precision.HIGHEST)
    return PixelLosses(prototype, sparse, weight, hit), gradient


def cpu_chunk(images: int, classes: int) -> int:
    """The pixels of each image whose logits exist at one time on a CPU, where more are slower.

    Args:
      images: of one device at one time.
      classes: C.

    Returns:
      At least 1.
    """
    return max(1, _CPU_LOGITS // (images * classes))


def to_chunks(x: jax.Array, chunk: int) -> jax.Array:
    """Cuts pixels into chunks.

    Args:
      x: [B, N, ...].
      chunk: pixels of a chunk, at least 1.

    Returns:
      [chunks, B, chunk, ...], padded with zeros, so that padding has weight 0.
    """
    batch, pixels = x.shape[:2]
    x = jnp.pad(x, [(0, 0), (0, -pixels % chunk)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(batch, -1, chunk, *x.shape[2:]), 1, 0)


def from_chunks(x: jax.Array, pixels: int) -> jax.Array:
    """The inverse of `to_chunks`.

    Args:
      x: [chunks, B, chunk, ...].
      pixels: N.

    Returns:
      [B, N, ...], without the padding.
    """
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :pixels]


def _value_and_gradient(
    v: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    bank: Bank,
    among: Among,
    options: LossOptions,
    chunks: tuple[int, int],
) -> tuple[tuple[jax.Array, PixelLosses], jax.Array]:
    chunk, on_cpu = chunks
    scan = partial(_scan, options=options, chunk=chunk)
    inputs = (v, labels, weights, bank, among)
    if on_cpu < chunk:
        small = partial(_scan, options=options, chunk=on_cpu)
        losses, gradient = jax.lax.platform_dependent(*inputs, cpu=small, default=scan)
    else:
        losses, gradient = scan(*inputs)
    total = jnp.sum(losses.prototype)
    if options.sparse_coding == "pull":
        total = total + options.sparse_weight * jnp.sum(losses.sparse)
    return (total, losses), gradient


def _scan(
    v: jax.Array, labels: jax.Array, weights: jax.Array, bank: Bank, among: Among, options: LossOptions, chunk: int
) -> tuple[PixelLosses, jax.Array]:
    """PixelLosses and the gradient of their sum, `chunk` pixels of each image after the other."""

    def body(_: None, inputs: tuple[jax.Array, ...]) -> tuple[None, tuple[PixelLosses, jax.Array]]:
        v, labels, weights = inputs
        return None, _chunk_terms(v, labels, weights, bank, among, options)

    inputs = tuple(to_chunks(x, chunk) for x in (v, labels, weights))
    _, (losses, gradient) = jax.lax.scan(body, None, inputs)
    losses, gradient = jax.tree.map(partial(from_chunks, pixels=v.shape[1]), (losses, gradient))
    return losses, gradient.astype(v.dtype)  # the bank may be wider than the embeddings


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _summed_loss(
    v: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    bank: Bank,
    among: Among,
    options: LossOptions,
    chunks: tuple[int, int],
) -> tuple[jax.Array, PixelLosses]:
    return _value_and_gradient(v, labels, weights, bank, among, options, chunks)[0]


def _summed_loss_forward(
    v: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    bank: Bank,
    among: Among,
    options: LossOptions,
    chunks: tuple[int, int],
) -> tuple[tuple[jax.Array, PixelLosses], jax.Array]:
    return _value_and_gradient(v, labels, weights, bank, among, options, chunks)


def _summed_loss_backward(
    options: LossOptions, chunks: tuple[int, int], gradient: jax.Array, cotangent: tuple[jax.Array, PixelLosses]
) -> tuple[jax.Array, None, None, None, None]:
    return (gradient * cotangent[0]).astype(gradient.dtype), None, None, None, None


_summed_loss.defvjp(_summed_loss_forward, _summed_loss_backward)


@jax.named_scope("loss")
def prototype_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    bank: Bank,
    options: LossOptions,
    chunk: int,
    related: jax.Array | None = None,
    sets: jax.Array | None = None,
    on_cpu: int | None = None,
) -> tuple[jax.Array, PixelLosses]:
    """L + alpha L_csc, the weighted mean over the pixels of the global batch (METHOD.md section 4).

    No gradient reaches the bank, the weights, or the per-pixel values. Ignored pixels and pixels whose class is unseen
    have weight 0; with no valid pixel at all the loss is 0 and its gradient 0.

    Args:
      embeddings: float [B, N, D], unit vectors.
      labels: int [B, N, 2] global class ids, -1 = ignore or no second label.
      weights: float, broadcastable to [B, N, 2].
      bank: C classes, as it was before this step.
      options: the static values of the loss.
      chunk: pixels of each image whose logits [B, chunk, C] exist at one time.
      related: bool [C, C], which classes are related to each class by their names; None = none.
      sets: int [C], the set of each class, where only the sets of a pixel's own labels have negatives; None = all do.
      on_cpu: `chunk` of a program for CPUs, where it is smaller (`cpu_chunk`); None = the same.

    Returns:
      The loss, a scalar, and PixelLosses of [B, N].
    """
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
    weights = jnp.broadcast_to(weights, labels.shape).astype(dtype)
    weights = label_weights(labels, weights, bank.seen)
    chunk = min(chunk, embeddings.shape[1])
    chunks = (chunk, min(chunk, chunk if on_cpu is None else on_cpu))
    bank = jax.lax.stop_gradient(bank)
    among = Among(related, sets)
    total, losses = _summed_loss(embeddings.astype(dtype), labels, weights, bank, among, options, chunks)
    weight = jnp.sum(losses.weight)
    return total / jnp.where(weight > 0, weight, 1.0), jax.lax.stop_gradient(losses)
