"""mdp_jax/evaluation/sliding.py: windows by hand, and against a loop over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.evaluation import sliding
from tests.evaluation import finetuned


@pytest.mark.parametrize(
    ("length", "crop", "stride", "expected"),
    [
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),  # the last one is shifted back inside
        (5, 4, 4, [0, 1]),
        (8, 4, 4, [0, 4]),
        (4, 4, 3, [0]),
        (3, 4, 2, [0]),
        (2048, 1024, 683, [0, 683, 1024]),
    ],
)
def test_where_windows_begin(length, crop, stride, expected):
    np.testing.assert_array_equal(sliding.starts(length, crop, stride), expected)


class StridedNetwork:
    """Logits of every second pixel that know where in the window they are and what else is in it."""

    def __init__(self, dtype=jnp.float32):
        self.dtype, self.traced = dtype, []

    def __call__(self, images):
        self.traced.append(images.shape)
        return self.formula(images, jnp).astype(self.dtype)

    def formula(self, images, numpy):
        rows = numpy.arange(images.shape[1])[None, ::2, None, None]
        return images[:, ::2, ::2] * (1 + rows) + images.max(axis=(1, 2), keepdims=True)

    def of_one(self, image):
        return self.formula(image[None].astype(np.float64), np)[0]


def photos(*size, batch=2):
    return np.random.default_rng(0).random((batch, *size, 3), dtype=np.float32)


def test_overlapping_windows_by_hand():
    # Windows of 3 begin at 0 and 2; each answers with the value of its first pixel in all of its pixels.
    images = np.zeros((1, 1, 5, 3), np.float32) + np.arange(5).reshape(1, 1, 5, 1)
    found = sliding.slide(lambda window: window[:, :, :1, :1] + 0 * window[..., :1], images, (1, 3), (1, 2))
    np.testing.assert_array_equal(found[0, 0, :, 0], [0, 0, 1, 2, 2])


@pytest.mark.parametrize(
    ("size", "crop", "stride"),
    [
        ((12, 16), (8, 8), (4, 4)),
        ((13, 17), (8, 6), (5, 6)),
        ((9, 9), (8, 8), (1, 3)),
        ((6, 15), (8, 8), (5, 5)),  # lower than a window
        ((15, 5), (8, 8), (8, 8)),  # narrower
    ],
)
def test_slide_equals_a_loop_over_windows(size, crop, stride):
    network, images = StridedNetwork(), photos(*size)
    found = jax.jit(lambda images: sliding.slide(network, images, crop, stride))(images)
    assert found.dtype == jnp.float32
    for one, image in zip(found, images, strict=True):
        np.testing.assert_allclose(one, finetuned.slid(network.of_one, image, crop, stride), atol=1e-4)
    assert network.traced == [(2, min(size[0], crop[0]), min(size[1], crop[1]), 3)]  # one program for all windows


@pytest.mark.parametrize("size", [(8, 8), (5, 8), (3, 4)])
def test_a_photo_no_larger_than_a_window_is_shown_as_it_is(size):
    network, images = StridedNetwork(), photos(*size)
    found = sliding.slide(network, images, (8, 8), (5, 5))
    np.testing.assert_array_equal(found, StridedNetwork()(images))
    assert network.traced == [(2, *size, 3)]


def test_logits_of_16_bits_are_added_up_in_32():
    # 1 and 1 + 2^-7 are neighbours in bfloat16, so that their mean is none.
    images = np.zeros((1, 1, 3, 3), np.float32) + np.array([1, 1 + 2**-7, 0]).reshape(1, 1, 3, 1)

    def first_pixel(window):
        return (window[:, :, :1] + 0 * window).astype(jnp.bfloat16)

    found = sliding.slide(first_pixel, images, (1, 2), (1, 1))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[0, 0, :, 0], [1, 1 + 2**-8, 1 + 2**-7])
