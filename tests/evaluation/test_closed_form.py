"""Heads in closed form: their label maps are evaluation's, the draws of photos, values that cannot be."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.evaluation import closed_form, discriminant
from mdp_jax.evaluation.discriminant import Linear
from mdp_jax.models.network import most_likely


@pytest.mark.parametrize("size", [(40, 56), (13, 9)])
def test_label_maps_are_those_of_evaluation(size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 7, 3)).astype(np.float32)
    linear = Linear(rng.normal(size=(3, 6)), rng.normal(size=6))
    expected = most_likely(jnp.asarray(features[None] @ linear.kernel + linear.bias, jnp.float32), size)[0]
    found = closed_form._label_map(features, linear, size)
    assert (found != expected).mean() <= 0.002  # ties


def test_draws_are_nested_and_depend_on_the_seed_alone():
    few, more = (closed_form.draws_of(50, number, 3, 7) for number in (5, 20))
    assert [len(draw) for draw in few] == [5, 5, 5] and len({tuple(draw) for draw in few}) == 3
    assert all(set(one) < set(other) for one, other in zip(few, more, strict=True))
    assert [draw.tolist() for draw in few] != [draw.tolist() for draw in closed_form.draws_of(50, 5, 3, 8)]
    (everything,) = closed_form.draws_of(50, 0, 3, 7)
    assert everything.tolist() == list(range(50)) == closed_form.draws_of(50, 50, 3, 7)[0].tolist()
    with pytest.raises(UserError, match=r"--photos 51: expected at most 50, the number of labelled photos, or all"):
        closed_form.draws_of(50, 51, 3, 7)


@pytest.mark.parametrize("shrinkage", [0.0, -1.0, float("nan"), float("inf"), "best"])
def test_shrinkages_that_cannot_be(shrinkage):
    with pytest.raises(UserError, match=rf"--shrinkage {shrinkage}: expected more than 0, or auto"):
        closed_form.Head(shrinkage=shrinkage)


def test_whole_strides_keep_the_number_of_features():
    image = np.zeros((41, 48, 3), np.uint8)
    assert closed_form.at_whole_strides(image, 8).shape == (48, 48, 3)
    assert closed_form.at_whole_strides(image[:40], 8) is not None
    assert closed_form.at_whole_strides(image[:40], 8).shape == (40, 48, 3)


class Photos:
    """Photos whose number is in each of their pixels, all of two classes."""

    name, classes = "photos", ("left", "right")

    def __len__(self):
        return 12

    def __getitem__(self, index):
        label = np.zeros((4, 4), np.int16)
        label[:, 2:] = 1
        return {"image": np.full((4, 4, 3), index, np.uint8), "label": label}


class Net:
    """A network of stride 1 whose features are noise by the photo's number, and the place."""

    layers, model = ("backbone",), types.SimpleNamespace(output_stride=1)

    def channels(self, layers):
        return (3,)

    def features_as_they_are(self, photo, layers):
        features = np.random.default_rng(int(photo[0, 0, 0])).normal(size=(4, 4, 3))
        features[:, 2:, 0] += 1
        return features.astype(np.float32)


def test_photos_that_were_drawn_are_left_out_whatever_their_place_in_the_set(monkeypatch):
    """A head of few photos of a large set is that of a set of these photos alone."""
    monkeypatch.setattr(discriminant, "_LEFT_OUT", 4)
    counted = []

    def make(statistics):
        counted.append(statistics)
        return closed_form.Head().make(statistics)

    head = types.SimpleNamespace(make=make)
    closed_form.scores_of_budgets(Net(), Photos(), Photos(), ("backbone",), [4], 2, 0, head)
    for draw, statistics in zip(closed_form.draws_of(12, 4, 2, 0), counted, strict=True):
        alone = discriminant.Statistics.empty(2, 3)
        for number, index in enumerate(draw.tolist()):
            sample = Photos()[index]
            alone.add_photo(Net().features_as_they_are(sample["image"], ("backbone",)), sample["label"], number)
        likelihoods = (discriminant.left_out_likelihood(of, discriminant.SHRINKAGES) for of in (statistics, alone))
        np.testing.assert_allclose(*likelihoods, rtol=1e-10)
