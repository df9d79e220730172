"""The bank: values worked out by hand, and a naive loop against the vectorised update."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method import prototypes
from mdp_jax.method.prototypes import Bank, empty_bank, image_means, mean_cosine, normalise, update_bank
from mdp_jax.training import sharding


def bank_of(vectors, images_seen):
    return Bank(jnp.asarray(vectors, jnp.float32), jnp.asarray(images_seen, jnp.int32))


def test_normalise_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [0.0, 1e-14]])
    np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [0.0, 0.0], [0.0, 1e-2]], rtol=1e-6)


def test_gradient_of_normalise_is_nothing_at_zero_and_tangent_elsewhere():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1e-14]])
    gradient = jax.grad(lambda x: jnp.sum(normalise(x)[..., 0]))(x)
    np.testing.assert_allclose(gradient, [[0, 0], [16 / 125, -12 / 125], [0, 0]], rtol=1e-5)


def test_mean_cosine_by_hand():
    # Cosines of the three seen classes: 0, 0.6, 0.8; the unseen one does not count.
    bank = bank_of([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 0.0]], [1, 1, 1, 0])
    np.testing.assert_allclose(mean_cosine(bank), 1.4 / 3, rtol=1e-6)
    assert float(mean_cosine(bank_of([[1.0, 0.0], [0.0, 0.0]], [1, 0]))) == 0.0
    assert float(mean_cosine(empty_bank(3, 2))) == 0.0


def test_each_image_has_one_say():
    # Image 0 holds class 0 in three pixels along x, image 1 in one pixel along y: the mean is halfway between them,
    # where a mean over pixels would lean towards x.
    embeddings = jnp.array([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3])
    labels = jnp.array([[0, 0, 0], [0, -1, -1]])
    bank = update_bank(empty_bank(1, 2), embeddings, labels, 0.9)
    np.testing.assert_allclose(bank.vectors, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)
    assert bank.images_seen.tolist() == [2]


def test_moving_average_is_normalised_and_takes_the_unnormalised_mean():
    # The two image means (1, 0) and (0, 1) average to (0.5, 0.5); 0.5 (1, 0) + 0.5 (0.5, 0.5) = (0.75, 0.25).
    embeddings = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    bank = update_bank(bank_of([[1.0, 0.0]], [5]), embeddings, jnp.array([[0], [0]]), 0.5)
    np.testing.assert_allclose(bank.vectors, [[0.75 / np.sqrt(0.625), 0.25 / np.sqrt(0.625)]], rtol=1e-6)
    assert bank.images_seen.tolist() == [7]


def test_warm_up_is_the_mean_over_the_images_until_the_momentum_is_reached():
    # One image before and two now: a third of (1, 0), two thirds of their mean (0.5, 0.5), which is (2/3, 1/3).
    embeddings = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    bank = update_bank(bank_of([[1.0, 0.0]], [1]), embeddings, jnp.array([[0], [0]]), 0.99, warmup=True)
    np.testing.assert_allclose(bank.vectors, np.array([[2.0, 1.0]]) / np.sqrt(5), rtol=1e-6)
    # 6 of 8 images are more than the momentum of 0.5. A class never seen takes the mean; a start weighs as one image.
    for seen, started, warmed, keep in ((6, False, True, 0.5), (0, False, True, 0.0), (0, True, True, 1 / 3)):
        old = bank_of([[1.0, 0.0]], [seen])
        found = update_bank(old, embeddings, jnp.array([[0], [0]]), 0.5, started, warmed)
        expected = np.array([[keep + (1 - keep) / 2, (1 - keep) / 2]])
        np.testing.assert_allclose(found.vectors, expected / np.linalg.norm(expected), rtol=1e-6)
    kept = update_bank(bank_of([[0.6, 0.8]], [3]), embeddings, jnp.array([[-1], [-1]]), 0.5, warmup=True)
    assert np.array_equal(kept.vectors, np.array([[0.6, 0.8]], np.float32))


def test_absent_class_keeps_its_prototype_bit_for_bit():
    old = np.array([[0.6, 0.8], [0.28, 0.96]], np.float32)
    bank = update_bank(bank_of(old, [3, 4]), jnp.array([[[0.0, 1.0]]]), jnp.array([[0]]), 0.9)
    assert np.array_equal(bank.vectors[1], old[1])
    assert bank.images_seen.tolist() == [4, 4]


def test_class_zero_is_a_class_and_ignore_is_not():
    embeddings = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])
    bank = update_bank(empty_bank(2, 2), embeddings, jnp.array([[0, -1]]), 0.9)
    np.testing.assert_allclose(bank.vectors, [[0.0, 1.0], [0.0, 0.0]], atol=1e-7)
    assert bank.images_seen.tolist() == [1, 0]


def test_image_with_only_ignored_pixels_changes_nothing():
    old = bank_of([[0.6, 0.8], [0.0, 0.0]], [3, 0])
    bank = update_bank(old, jnp.ones((2, 4, 2)), jnp.full((2, 4), -1), 0.9)
    assert np.array_equal(bank.vectors, old.vectors)
    assert np.array_equal(bank.images_seen, old.images_seen)


def naive_update(bank, embeddings, labels, momentum):
    vectors, seen = np.array(bank.vectors, np.float64), np.array(bank.images_seen)
    for c in range(len(vectors)):
        means = []
        for v, y in zip(np.asarray(embeddings, np.float64), np.asarray(labels), strict=True):
            if (y == c).any():
                mean = v[y == c].mean(axis=0)
                means.append(mean / np.linalg.norm(mean))
        if means:
            mean = np.mean(means, axis=0)
            new = mean if seen[c] == 0 else momentum * vectors[c] + (1 - momentum) * mean
            vectors[c] = new / np.linalg.norm(new)
            seen[c] += len(means)
    return vectors, seen


def test_against_a_naive_loop():
    rng = np.random.default_rng(0)
    embeddings = normalise(jnp.asarray(rng.normal(size=(6, 20, 5)), jnp.float32))
    labels = rng.integers(-1, 9, size=(6, 20))
    labels[:, labels[0] == 3] = -1
    seen = rng.integers(0, 3, size=9)
    old = bank_of(normalise(jnp.asarray(rng.normal(size=(9, 5)))) * (seen > 0)[:, None], seen)
    vectors, images_seen = naive_update(old, embeddings, labels, 0.7)
    for devices in (1, 3):
        bank = update_bank(old, embeddings, jnp.asarray(labels), 0.7, devices=devices)
        np.testing.assert_allclose(bank.vectors, vectors, atol=1e-6)
        assert np.array_equal(bank.images_seen, images_seen)


def test_the_form_of_accelerators_and_that_of_cpus_have_the_same_sums():
    rng = np.random.default_rng(1)
    embeddings, labels = jnp.asarray(rng.normal(size=(6, 20, 5))), jnp.asarray(rng.integers(-1, 9, size=(6, 20)))
    total, images = prototypes._summed_means(embeddings, labels, 9)
    for devices in (1, 2, 6):
        by_images = prototypes._summed_means_by_images(embeddings, labels, 9, devices)
        np.testing.assert_allclose(by_images[0], total, rtol=1e-5, atol=1e-6)
        assert np.array_equal(by_images[1], images)


def test_on_several_devices_only_the_sums_of_classes_move():
    """The pixels of a device stay on it."""
    mesh = sharding.make_mesh(8)
    batch = {"image": np.ones((16, 30, 4), np.float32), "label": np.zeros((16, 30), np.int32)}
    batch = sharding.to_devices(batch, mesh)
    bank = jax.device_put(empty_bank(3, 4), sharding.replicated(mesh))
    update = jax.jit(functools.partial(update_bank, momentum=0.5, devices=8))
    text = update.lower(bank, batch["image"], batch["label"]).compile().as_text()
    assert "all-reduce" in text
    assert not re.search(r"all-gather|all-to-all|collective-permute", text)


@pytest.mark.parametrize("label", [-1, 0, 1])
def test_image_means_of_one_pixel(label):
    means, present = image_means(jnp.array([[[0.6, 0.8]]]), jnp.array([[label]]), 2)
    assert present.tolist() == [[label == 0, label == 1]]
    for c in range(2):
        np.testing.assert_allclose(means[0, c], [0.6, 0.8] if label == c else [0.0, 0.0], rtol=1e-6)


def test_pixels_of_each_class_are_counted_where_frequencies_are_used():
    bank = prototypes.empty_bank(3, 2, frequencies=True)
    labels = jnp.array([[0, 0, -1], [2, 0, 0]])
    for _ in range(2):
        bank = prototypes.update_bank(bank, jnp.ones((2, 3, 2)), labels, 0.9)
    assert bank.pixels.tolist() == [8, 0, 2]
    np.testing.assert_allclose(bank.log_frequencies, [np.log(0.8), 0, np.log(0.2)], rtol=1e-6)
    assert prototypes.empty_bank(3, 2).log_frequencies is None
