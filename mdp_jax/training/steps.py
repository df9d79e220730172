"""One step of pretraining and one of fine-tuning: pure functions (state, batch) -> (state, metrics)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdp_jax.method import losses, mixing, prototypes
from mdp_jax.models.network import upsample
from mdp_jax.training.state import FinetuneState, PretrainState, trainable_parts


def normalise_image(image: jax.Array, data_config, dtype: str) -> jax.Array:
    """uint8 [B, H, W, 3] to (image - mean) / std in `dtype`, at least float32; mean and std on the 0..255 scale."""
    dtype = jnp.promote_types(dtype, jnp.float32)
    mean, std = (np.asarray(x, np.float64).reshape(1, 1, 1, 3) for x in (data_config.mean, data_config.std))
    return (image.astype(dtype) - mean.astype(dtype)) / std.astype(dtype)


def traced_once(step: Callable) -> Callable:
    """The same function, which refuses to be traced a second time: a batch of another shape is a mistake."""
    traces = []

    @functools.wraps(step)
    def wrapped(*args):
        if traces:
            raise RuntimeError(f"{step.__name__} was traced twice: the shapes or types of its inputs changed")
        traces.append(1)
        return step(*args)

    return wrapped


def _flat(x: jax.Array) -> jax.Array:
    """[B, h, w, ...] to [B, N, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def _embed(encoder, params: dict, batch_stats: dict, images: jax.Array) -> tuple[jax.Array, dict]:
    """Unit vectors [B, N, D] of normalised images, and the running statistics after them."""
    variables = {"params": params, "batch_stats": batch_stats}
    vectors, updated = encoder.apply(variables, images, train=True, mutable=["batch_stats"])
    return _flat(vectors), updated["batch_stats"]


def _loss_of_each_dataset(pixels: losses.PixelLosses, labels: jax.Array, dataset_of: np.ndarray) -> jax.Array:
    """Mean prototype loss [S] of the pixels of each dataset that carry one label; NaN where a dataset has none."""
    count = int(dataset_of.max()) + 1
    own = labels[..., 0]
    ids = jnp.where((own >= 0) & (labels[..., 1] < 0), jnp.asarray(dataset_of)[jnp.maximum(own, 0)], count)
    sums = jax.ops.segment_sum(
        jnp.stack([pixels.prototype, pixels.weight], -1).reshape(-1, 2), ids.reshape(-1), count + 1
    )
    return sums[:count, 0] / jnp.where(sums[:count, 1] > 0, sums[:count, 1], jnp.nan)


def _pretrain_metrics(loss, pixels, labels, dataset_of, gradient, bank) -> dict:
    weight = jnp.sum(pixels.weight)
    mean = 1.0 / jnp.where(weight > 0, weight, 1.0)
    return {
        "loss": loss,
        "prototype_loss": jnp.sum(pixels.prototype) * mean,
        "sparse_loss": jnp.sum(pixels.sparse) * mean,
        "accuracy": jnp.sum(pixels.hit) * mean,
        "valid_fraction": weight / pixels.weight.size,
        "gradient_norm": optax.global_norm(gradient),
        "classes_seen": jnp.sum(bank.seen, dtype=jnp.int32),
        "dataset_loss": _loss_of_each_dataset(pixels, labels, dataset_of),
    }


def loss_options(method) -> losses.LossOptions:
    """The static values of the loss from a config's `method`."""
    return losses.LossOptions(
        method.temperature,
        method.sparse_coding,
        method.sparse_classes,
        method.sparse_weight,
        method.sparse_temperature,
    )


def pretrain_step(config, encoder, optimizer, dataset_of: np.ndarray, devices: int) -> Callable:
    """The step of METHOD.md section 3: losses against the bank as it was, then optimizer, bank and momentum encoder.

    Args:
      config: of `mdp pretrain`.
      encoder: PixelEncoder.
      optimizer: over its parameters.
      dataset_of: int [C], the dataset index of each global class.
      devices: how many the batch is split over.

    Returns:
      (PretrainState, batch of data/pipeline.py) -> (PretrainState, metrics). Metrics are scalars but for
      `dataset_loss` [S]: per dataset, NaN where the batch has no pixel of it.
    """
    stride = config.model.output_stride
    options = loss_options(config.method)
    chunk = max(1, config.method.loss_chunk * devices // config.batch)
    prepare = functools.partial(normalise_image, data_config=config.data, dtype=config.model.compute_dtype)
    embed = functools.partial(_embed, encoder)

    def step(state: PretrainState, batch: dict) -> tuple[PretrainState, dict]:
        mixed, labels, weights = mixing.mix_pairs(
            prepare(batch["image"]), batch["label"].astype(jnp.int32), batch["mix_kind"], batch["lam"], batch["box"]
        )
        labels = _flat(labels[:, ::stride, ::stride])

        def loss_of(params):
            vectors, batch_stats = embed(params, state.batch_stats, mixed)
            loss, pixels = losses.prototype_loss(vectors, labels, weights[:, :, 0], state.bank, options, chunk)
            return loss, (pixels, batch_stats)

        (loss, (pixels, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        vectors, momentum_batch_stats = embed(
            state.momentum_params, state.momentum_batch_stats, prepare(batch["key_image"])
        )
        key_labels = _flat(batch["key_label"][:, ::stride, ::stride].astype(jnp.int32))
        bank = prototypes.update_bank(state.bank, vectors, key_labels, config.method.prototype_momentum)
        keep = config.method.encoder_momentum
        momentum_params = jax.tree.map(lambda g, f: keep * g + (1 - keep) * f, state.momentum_params, params)

        metrics = _pretrain_metrics(loss, pixels, labels, dataset_of, gradient, bank)
        state = PretrainState(
            state.step + 1, params, batch_stats, opt_state, momentum_params, momentum_batch_stats, bank
        )
        return state, metrics

    return step


def cross_entropy(logits: jax.Array, label: jax.Array, mean: str) -> tuple[jax.Array, jax.Array]:
    """Pixel-wise cross entropy (METHOD.md section 6).

    Args:
      logits: float [B, H, W, C].
      label: int [B, H, W], -1 = ignore.
      mean: "all" divides by all pixels, ignored ones included; "valid" by the labelled ones.

    Returns:
      loss, 0 where no pixel is labelled, and the share of labelled pixels predicted right, both scalars.
    """
    valid = label >= 0
    per_pixel = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    labelled = jnp.maximum(jnp.sum(valid), 1)
    loss = jnp.sum(jnp.where(valid, per_pixel, 0.0)) / (label.size if mean == "all" else labelled)
    right = jnp.sum(valid & (jnp.argmax(logits, axis=-1) == label)) / labelled
    return loss, right


def finetune_step(config, segmenter, optimizer) -> Callable:
    """The step of METHOD.md section 6: cross entropy of the logits brought to the labels' size.

    Returns:
      (FinetuneState, {"image", "label"}) -> (FinetuneState, metrics), metrics scalars.
    """
    key = jax.random.key(config.seed)

    def step(state: FinetuneState, batch: dict) -> tuple[FinetuneState, dict]:
        image = normalise_image(batch["image"], config.data, config.model.compute_dtype)
        label = batch["label"].astype(jnp.int32)
        dropout = {"dropout": jax.random.fold_in(key, state.step)}

        def loss_of(parts):
            variables = {"params": state.params | parts, "batch_stats": state.batch_stats}
            logits, updated = segmenter.apply(variables, image, train=True, mutable=["batch_stats"], rngs=dropout)
            loss, accuracy = cross_entropy(upsample(logits, label.shape[1:]), label, config.loss_mean)
            return loss, (accuracy, updated["batch_stats"])

        parts = trainable_parts(state.params, config.trainable)
        (loss, (accuracy, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(parts)
        updates, opt_state = optimizer.update(gradient, state.opt_state, parts)
        params = state.params | optax.apply_updates(parts, updates)
        metrics = {"loss": loss, "accuracy": accuracy, "gradient_norm": optax.global_norm(gradient)}
        return FinetuneState(state.step + 1, params, batch_stats, opt_state), metrics

    return step
