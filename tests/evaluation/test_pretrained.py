"""mdp_jax/evaluation/pretrained.py: values by hand, with a network that returns what it is given."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import pretrained
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
    monkeypatch.setattr(pretrained.network, "pixel_encoder", lambda model: Echo())
    monkeypatch.setattr(pretrained.network, "segmenter", lambda model, classes: Echo())


def logits(space, dataset, vectors, images_seen, **overrides):
    segmenter = pretrained.SourceSegmenter(tiny.pretrain_config(**overrides), space, dataset)
    bank = {"vectors": jnp.asarray(vectors), "images_seen": jnp.asarray(images_seen)}
    return np.asarray(
        segmenter.apply({"params": {}, "batch_stats": {}, "bank": bank}, jnp.asarray(PIXELS), train=False)
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


@pytest.mark.parametrize("objective", ["multi_head", "cross_entropy"])
def test_the_head_of_the_dataset(objective):
    segmenter = pretrained.SourceSegmenter(tiny.pretrain_config(objective=objective), SPACE, 1)
    outputs = jnp.arange(4.0).reshape(1, 1, 1, 4)
    found = segmenter.apply({"params": {}, "batch_stats": {}, "bank": {}}, outputs, train=False)
    np.testing.assert_array_equal(found, [[[[2.0, 3.0]]]])


def test_pixel_to_pixel_has_no_classes():
    with pytest.raises(UserError, match="pixel_to_pixel has neither prototypes nor a classifier"):
        pretrained.SourceSegmenter(tiny.pretrain_config(objective="pixel_to_pixel"), SPACE, 0)
