"""Mixing inside pairs: values worked out by hand, and a naive loop."""

import jax.numpy as jnp
import numpy as np

from mdp_jax.method.mixing import PIXEL, PLAIN, REGION, mix_pairs, region_mask, swap_partners


def mix(images, labels, kind, lam, box):
    arrays = (jnp.asarray(images, jnp.float32), jnp.asarray(labels), jnp.asarray(kind))
    return mix_pairs(*arrays, jnp.asarray(lam, jnp.float32), jnp.asarray(box))


def test_partners():
    assert swap_partners(jnp.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]


def test_region_mask_is_half_open():
    mask = region_mask(jnp.array([[1, 0, 3, 2], [0, 0, 0, 0]]), 3, 3)
    assert mask[0].astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert not mask[1].any()


def test_region_by_hand():
    # A pair of 2 x 2 photos, the right column is exchanged.
    images = np.stack([np.full((2, 2, 3), 1.0), np.full((2, 2, 3), 2.0)])
    labels = np.array([[[0, 0], [0, 0]], [[5, 5], [-1, -1]]])
    mixed, both, weights = mix(images, labels, [REGION], [0.5], [[0, 1, 2, 2]])
    assert mixed[0, ..., 0].tolist() == [[1, 2], [1, 2]]
    assert mixed[1, ..., 0].tolist() == [[2, 1], [2, 1]]
    assert both[0, ..., 0].tolist() == [[0, 5], [0, -1]]
    assert both[1, ..., 0].tolist() == [[5, 0], [-1, 0]]
    assert (both[..., 1] == -1).all()
    assert weights.reshape(2, 2).tolist() == [[1, 0], [1, 0]]


def test_pixel_by_hand():
    images = np.stack([np.full((1, 1, 3), 10.0), np.full((1, 1, 3), 20.0)])
    mixed, both, weights = mix(images, [[[3]], [[7]]], [PIXEL], [0.25], [[0, 0, 1, 1]])
    assert mixed[:, 0, 0, 0].tolist() == [0.25 * 10 + 0.75 * 20, 0.25 * 20 + 0.75 * 10]
    assert both.reshape(2, 2).tolist() == [[3, 7], [7, 3]]
    assert weights.reshape(2, 2).tolist() == [[0.25, 0.75], [0.25, 0.75]]


def test_plain_passes_through_bit_for_bit():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
    labels = rng.integers(-1, 4, size=(2, 3, 3))
    mixed, both, weights = mix(images, labels, [PLAIN], [0.3], [[0, 0, 3, 3]])
    assert np.array_equal(mixed, images)
    assert np.array_equal(both[..., 0], labels)
    assert (both[..., 1] == -1).all()
    assert weights.reshape(2, 2).tolist() == [[1, 0], [1, 0]]


def test_against_a_naive_loop():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(12, 5, 4, 3)).astype(np.float32)
    labels = rng.integers(-1, 9, size=(12, 5, 4))
    kind = np.array([0, 1, 2, 1, 2, 0])
    lam = rng.random(6).astype(np.float32)
    corners = rng.integers(0, 4, size=(6, 2))
    box = np.concatenate([corners, corners + 2], axis=1)
    mixed, both, weights = mix(images, labels, kind, lam, box)
    for b in range(12):
        pair, partner = b // 2, b ^ 1
        for y in range(5):
            for x in range(4):
                value, own, other, share = images[b, y, x], labels[b, y, x], -1, 1.0
                y0, x0, y1, x1 = box[pair]
                if kind[pair] == 1 and y0 <= y < y1 and x0 <= x < x1:
                    value, own = images[partner, y, x], labels[partner, y, x]
                if kind[pair] == 2:
                    share = lam[pair]
                    value = share * value + (1 - share) * images[partner, y, x]
                    other = labels[partner, y, x]
                np.testing.assert_allclose(mixed[b, y, x], value, rtol=1e-5, atol=1e-6)
                assert both[b, y, x].tolist() == [own, other]
                np.testing.assert_allclose(weights[b, 0, 0], [share, 1 - share], rtol=1e-6)
