"""The memory of the loss: by chunks and classes, not by pixels (compiled for a virtual device of the CPU)."""

import jax
import pytest

from mdp_jax.planning import loss_memory
from tests import tiny


def config_of(images, chunk):
    return tiny.pretrain_config(batch=images, data__crop="(256,256)", method__loss_chunk=chunk, devices=1)


def temporaries(images, chunk, classes):
    """Bytes in which the embeddings and their gradient, which are given and asked for, are not counted."""
    lowered = loss_memory.lower(config_of(images, chunk), jax.devices()[:1], classes)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_chunk():
    assert loss_memory.feature_pixels(config_of(4, 512)) == 32 * 32
    assert loss_memory.chunk(config_of(4, 512), 1) == 512
    assert loss_memory.chunk(config_of(4, 512), 2) == 512
    assert loss_memory.chunk(config_of(4, 100_000), 1) == 4 * 32 * 32
    assert loss_memory.chunk(config_of(4, 1), 1) == 4


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
