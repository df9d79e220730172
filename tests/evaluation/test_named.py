"""mdp_jax/evaluation/named.py: which classes answer for a name, and the logits by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.configs import typed
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import named
from tests import tiny

SPACE = LabelSpace((("harbor", ("Sky", "water")), ("town", ("road", "sky"))))


@pytest.fixture
def file(tmp_path):
    vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.6, 0.8], [1.0, 0.0, 0.0]]
    np.savez(tmp_path / "names.npz", names=np.array(["sky", "water", "road", "lake", "heaven"]), vectors=vectors)
    return str(tmp_path / "names.npz")


def test_which_classes_answer(file):
    found = named.by_name(("SKY", "lake"), SPACE, "--as x")
    np.testing.assert_array_equal(found.weights, [[1, 0, 0, 1], [0, 0, 0, 0]])
    assert (
        found.unknown == ["lake"]
        and "near to no class of the network, and never predicted: 1 of 2 names (lake)" in found.said()[1]
    )
    assert found.said()[0] == "who answers, and how near the names are: SKY by harbor/Sky (1.00), town/sky (1.00)"
    found = named.by_name(("lake", "heaven"), SPACE, "--as x", file)
    np.testing.assert_allclose(found.weights, [[0, 0.6, 0.8, 0], [1, 0, 0, 1]], rtol=1e-6)
    assert found.matches["lake"] == {"harbor/water": 0.6, "town/road": 0.8}
    assert found.said() == [
        "who answers, and how near the names are: lake by town/road (0.80), harbor/water (0.60); "
        "heaven by harbor/Sky (1.00), town/sky (1.00)"
    ]
    np.testing.assert_allclose(
        named.by_name(("lake",), SPACE, "--as x", file, 0.7).weights, [[0, 0, 0.8, 0]], rtol=1e-6
    )
    merged = named.by_name(("sky",), LabelSpace(SPACE.datasets, "merged"), "--as x")
    np.testing.assert_array_equal(merged.weights, [[1, 0, 0]])


def test_a_class_that_was_never_seen_does_not_answer(file):
    """Otherwise it would count in n_g, and halve the share of a name that another class answers for."""
    memory = {"bank": {"vectors": np.eye(4, 8), "images_seen": np.array([3, 0, 0, 7]), "pixels": None}}
    seen = named.seen_classes(typed(tiny.pretrain_config()), {"memory": memory})
    np.testing.assert_array_equal(seen, [True, False, False, True])
    assert named.seen_classes(typed(tiny.pretrain_config(objective="multi_head")), {"memory": {}}) is None
    found = named.by_name(("SKY", "water", "lake", "boat"), SPACE, "--as x", seen=np.array([False, False, True, True]))
    np.testing.assert_array_equal(found.weights, [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert found.matches["SKY"] == {"town/sky": 1.0} and found.unknown == ["lake", "boat"]
    assert found.said()[1:] == [
        "near to no class of the network, and never predicted: 2 of 4 names (lake, boat)",
        "near only to classes that the network has never seen, and never predicted: water (harbor/water)",
    ]
    with pytest.raises(UserError, match=r"^--as x: only .* never seen are near: lake \(harbor/water, town/road\); exp"):
        named.by_name(("lake",), SPACE, "--as x", file, 0.5, np.array([True, False, False, True]))


def test_names_that_cannot_be(tmp_path, file):
    with pytest.raises(UserError, match=r"^--as x: no class of the network has an equal name; it has Sky, road, sky"):
        named.by_name(("boat",), SPACE, "--as x")
    with pytest.raises(UserError, match=r"a cosine of at least 0\.9 in .*names\.npz; it has Sky, .* one match$"):
        named.by_name(("lake",), SPACE, "--as x", file, 0.9)
    with pytest.raises(
        UserError, match=r"^--names .*names\.npz: no vector of 'boat'; expected a vector of every class"
    ):
        named.by_name(("boat",), SPACE, "--as x", file)
    with pytest.raises(UserError, match=r"^--near 0\.5: a cosine of vectors; expected --names FILE too$"):
        named.by_name(("sky",), SPACE, "--as x", "", 0.5)
    path = tmp_path / "classes.txt"
    for content, message in (
        (b"", "classes.txt is empty; expected one class name on each line"),
        (b"sky\n\nroad\n", "classes.txt line 2 is empty; expected a class name"),
        (b"sky\nsky\n", "classes.txt line 2 repeats class 'sky'; expected each"),
        (b"traffic_sign\nTraffic sign\n", "'traffic_sign' and 'Traffic sign' are one name, but for case, underscores"),
        (b"sk\xff\n", "classes.txt is not UTF-8 text; expected one class name on each line"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^--as .*{message}"):
            named.read_names(str(path), "--as")
    with pytest.raises(UserError, match=r"^--as .*nowhere\.txt is missing; expected one class name on each line"):
        named.read_names(str(tmp_path / "nowhere.txt"), "--as")


def test_logits_by_hand(monkeypatch):
    """Of the classes z = (1, 2, 3, 0): log of the mean of a exp(z) over the classes that match."""
    z = jnp.array([1.0, 2.0, 3.0, 0.0]).reshape(1, 1, 1, 4)
    asked = []

    class Scorer:
        def __init__(self, config, label_space, ids):
            asked.append(ids.tolist())
            self.ids = ids

        def apply(self, variables, images, train):
            return z[..., self.ids]

    monkeypatch.setattr(named, "SetSegmenter", Scorer)
    weights = np.array([[1, 0, 0, 1], [0, 0, 0.5, 0], [0, 0, 0, 0]], np.float32)
    found = named.NamedSegmenter(tiny.pretrain_config(), SPACE, named.ByName(("a", "b", "c"), weights, {}))
    logits = np.asarray(found.apply({}, jnp.zeros((1, 1, 1, 3)), train=False))
    expected = [np.log((np.exp(1) + 1) / 2), 3 + np.log(0.5)]
    np.testing.assert_allclose(logits[0, 0, 0, :2], expected, rtol=1e-6)
    assert logits[0, 0, 0, 2] == -1e9 and asked == [[0, 2, 3]]
