"""Class weights from the masks that training sees."""

import numpy as np
import pytest

from mdp_jax.configs import typed
from mdp_jax.data import sources
from mdp_jax.data.doctor.scan import scan
from mdp_jax.errors import UserError
from mdp_jax.training import class_weights
from tests import tiny


@pytest.fixture(scope="module")
def source():
    config = tiny.finetune_config()
    return sources.open_source(config.dataset, config.data, "", "train", config.seed)


def weights(source, *values, beta=0.5):
    config = typed(tiny.finetune_config(loss__class_weights=repr(values), loss__effective_beta=beta))
    class_weights.require_number(config, source)
    return class_weights.of_classes(config, source)


def test_counted_as_data_check_counts(source):
    found = scan(source, 1, lambda photos: None)
    pixels, photos = found.pixels[1:], found.photos[1:]
    occurs = pixels > 0
    inverse = weights(source, "inverse")
    # Each class that occurs weighs the same in all, and a labelled pixel weighs 1 in the mean.
    np.testing.assert_allclose((inverse * pixels)[occurs], pixels.sum() / occurs.sum())
    effective = np.array(weights(source, "effective"))
    own = (1 - 0.5) / (1 - 0.5 ** photos[occurs])
    np.testing.assert_allclose(effective[occurs], own / own.mean())
    assert not effective[~occurs].any()


def test_given(source):
    count = len(source.classes)
    assert weights(source) == ()
    assert weights(source, *range(count)) == tuple(map(float, range(count)))
    with pytest.raises(UserError, match=rf"class_weights: 2 weights; expected {count}, one for each class of dataset"):
        weights(source, 1.0, 2.0)
