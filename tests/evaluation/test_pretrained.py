"""mdp_jax/evaluation/pretrained.py: values by hand, with a network that returns what it is given."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import pretrained
from mdp_jax.models import network
from tests import tiny

SPACE = LabelSpace((("harbor", ("sky", "water")), ("town", ("road", "Sky "))))
MERGED = LabelSpace(SPACE.datasets, "merged")  # ids 0, 1 and 2, 0
PIXELS = np.array([[0.6, 0.8], [-1.0, 0.0]], np.float32).reshape(1, 1, 2, 2)
VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, -0.8]], np.float32)


class Echo:
    """A network whose outputs are its inputs, and whose variables are seen to be those of a network alone."""

    def apply(self, variables, images, train):
        assert set(variables) == {"params", "batch_stats"} and train is False
        return images


@pytest.fixture(autouse=True)
def echo(monkeypatch):
    monkeypatch.setattr(network, "pixel_encoder", lambda model: Echo())
    monkeypatch.setattr(network, "segmenter", lambda model, classes: Echo())


def logits(space, dataset, vectors, images_seen, **overrides):
    config = tiny.pretrain_config(method__label_stride=8, **overrides)
    segmenter = pretrained.SourceSegmenter(config, space, dataset)
    bank = {"vectors": jnp.asarray(vectors), "images_seen": jnp.asarray(images_seen)}
    return np.asarray(
        segmenter.apply({"params": {}, "batch_stats": {}, "memory": {"bank": bank}}, jnp.asarray(PIXELS), train=False)
    )


@pytest.mark.parametrize("objective", ["mdp", "prototype"])
def test_prototypes_of_the_dataset_alone(objective):
    found = logits(SPACE, 1, VECTORS, [1, 1, 1, 1], objective=objective, method__temperature=0.5)
    np.testing.assert_allclose(found, [[[[-1.2, -0.56], [2.0, -1.2]]]], rtol=1e-6)


def test_a_class_never_seen_is_never_the_answer():
    found = logits(SPACE, 0, VECTORS, [1, 0, 1, 1], method__temperature=0.5)
    np.testing.assert_allclose(found[..., 0], [[[1.2, -2.0]]], rtol=1e-6)
    np.testing.assert_array_equal(found[..., 1], [[[-4.0, -4.0]]])


def test_merged_classes_share_a_prototype():
    found = logits(MERGED, 1, VECTORS[:3], [1, 1, 1], method__temperature=0.5)
    np.testing.assert_allclose(found, [[[[-1.2, 1.2], [2.0, -2.0]]]], rtol=1e-6)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", [48, 45, 41])
def test_features_trained_on_labels_at_corners_are_put_there(monkeypatch, width, turned):
    """With labels y[::s, ::s], s = 8, pixel 8 i gets the value of feature i, whatever cells evaluation divides into."""
    # The cosine with the prototype (1, 0) is 0, 0.16, ..., so linear in x and constant in y; turned, the other way.
    cosine = np.tile(0.16 * np.arange(6, dtype=np.float32), (2, 1))
    pixels, size = np.stack([cosine, np.sqrt(1 - cosine**2)], -1)[None], (16, width)
    if turned:
        pixels, size = pixels.swapaxes(1, 2), size[::-1]
    pixels = jnp.asarray(pixels)
    features = types.SimpleNamespace(apply=lambda variables, images, train: pixels)
    monkeypatch.setattr(network, "pixel_encoder", lambda model: features)
    images = jnp.zeros((1, *size, 3))
    found = {}
    for stride in (0, 8):
        config = tiny.pretrain_config(method__label_stride=stride, method__temperature=1.0)
        bank = {"vectors": jnp.asarray(VECTORS), "images_seen": jnp.ones(4, jnp.int32)}
        segmenter = pretrained.SourceSegmenter(config, SPACE, 0)
        logits = segmenter.apply({"params": {}, "batch_stats": {}, "memory": {"bank": bank}}, images, train=False)
        of_pixels = np.asarray(network.upsample(logits, size))[0, ..., 0]
        found[stride] = of_pixels[:, 8] if turned else of_pixels[8]
    inside = np.arange(8, 33)
    np.testing.assert_allclose(found[0][inside], 0.16 * inside / 8, atol=1e-6)
    np.testing.assert_allclose(found[8][inside], 0.16 * ((inside + 0.5) * 6 / width - 0.5), atol=1e-6)
    assert found[0].max() <= 0.8 + 1e-6  # nothing is made up beyond the last feature


@pytest.mark.parametrize("objective", ["multi_head", "cross_entropy"])
def test_the_head_of_the_dataset(objective):
    segmenter = pretrained.SourceSegmenter(tiny.pretrain_config(objective=objective), SPACE, 1)
    outputs = jnp.arange(4.0).reshape(1, 1, 1, 4)
    found = segmenter.apply({"params": {}, "batch_stats": {}, "memory": {}}, outputs, train=False)
    np.testing.assert_array_equal(found, [[[[2.0, 3.0]]]])


def test_a_set_without_labels_has_no_classes():
    space = LabelSpace((*SPACE.datasets, ("more", ())))
    assert pretrained.answers_in(space, "town", "").classes == ("road", "Sky ")
    with pytest.raises(UserError, match=r"^as_='more': more has no labels, .*; expected one of harbor, town, or all$"):
        pretrained.answers_in(space, "more", "as_='more'")
    with pytest.raises(UserError, match=r"^as_='city' was trained on harbor, town; expected one of them, or all$"):
        pretrained.answers_in(space, "city", "as_='city'")


def test_pixel_to_pixel_has_no_classes():
    with pytest.raises(UserError, match="pixel_to_pixel has neither prototypes nor a classifier"):
        pretrained.SourceSegmenter(tiny.pretrain_config(objective="pixel_to_pixel"), SPACE, 0)
