"""The memory of the loss: by chunks and classes, not by pixels (compiled for a virtual device of the CPU)."""

import collections
import functools

import jax
import jax.numpy as jnp
import pytest

from mdp_jax.models import network
from mdp_jax.objectives.objective import pixels_of_loss
from mdp_jax.planning import loss_memory
from tests import tiny


def config_of(images, chunk):
    return tiny.pretrain_config(batch=images, data__crop="(256,256)", method__loss_chunk=chunk, devices=1)


def temporaries(images, chunk, classes):
    """Bytes in which the embeddings and their gradient, which are given and asked for, are not counted."""
    lowered = loss_memory.lower(config_of(images, chunk), jax.devices()[:1], classes)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_chunk():
    assert loss_memory.pixels_of_image(config_of(4, 512)) == 32 * 32
    assert loss_memory.chunk(config_of(4, 512), 1) == 512
    assert loss_memory.chunk(config_of(4, 512), 2) == 512
    assert loss_memory.chunk(config_of(4, 100_000), 1) == 4 * 32 * 32
    assert loss_memory.chunk(config_of(4, 1), 1) == 4


@pytest.mark.parametrize("label_stride", [0, 2, 4, 8])
@pytest.mark.parametrize("decoder", ["deeplabv3", "deeplabv3plus"])  # with features at stride 8, and at 4
def test_pixels_are_those_that_the_loss_is_over(decoder, label_stride):
    values = {"method__label_stride": label_stride, "data__crop": "(64,40)", "model__decoder__name": decoder}
    config = tiny.pretrain_config(**values)
    stride = network.feature_stride(config.model)
    vectors = jax.ShapeDtypeStruct((2, 64 // stride, 40 // stride, 8), jnp.float32)
    labels = jax.ShapeDtypeStruct((2, 64, 40, 2), jnp.int32)
    taken = functools.partial(pixels_of_loss, stride=stride, label_stride=label_stride)
    embeddings, _ = jax.eval_shape(taken, vectors, labels)
    assert loss_memory.pixels_of_image(config) == embeddings.shape[1]


def test_a_batch_in_parts_has_the_memory_of_a_part():
    part, config = config_of(4, 512), config_of(16, 512)
    config.accumulate = 4
    assert loss_memory.chunk(config, 1) == loss_memory.chunk(part, 1)
    inputs = [loss_memory.lower(of, jax.devices()[:1], 20).in_avals for of in (config, part)]
    assert inputs[0] == inputs[1]


@pytest.mark.parametrize("value", ["relations=names", "negatives=own_set", "class_frequencies=True"])
def test_masks_and_frequencies_are_part_of_the_loss(value):
    key, _, given = value.partition("=")
    plain, found = (
        collections.Counter((x.shape, x.dtype.name) for x in jax.tree.leaves(lowered.in_avals))
        for lowered in (
            loss_memory.lower(tiny.pretrain_config(devices=1, **values), jax.devices()[:1], 20)
            for values in ({}, {f"method__{key}": given})
        )
    )
    mask = {"relations": ((20, 20), "bool"), "negatives": ((20,), "int32"), "class_frequencies": ((20,), "float32")}
    assert found - plain == collections.Counter([mask[key]])


@pytest.fixture(scope="module")
def one():
    return temporaries(4, 512, 200)


def test_four_times_the_pixels(one):
    """Beyond what each pixel has itself, 8 dimensions, labels, weights and losses, nothing grows."""
    per_pixel = (temporaries(16, 512, 200) - one) / (12 * 32 * 32)
    assert per_pixel < 4 * (4 * 8 + 32)
    assert per_pixel < 0.25 * 4 * 200


def test_twice_the_chunk_or_the_classes(one):
    """Either adds a few arrays of the logits of 512 pixels and 200 classes."""
    logits = 4 * 512 * 200
    for larger in (temporaries(4, 1024, 200), temporaries(4, 512, 400)):
        assert 1 < (larger - one) / logits < 8
