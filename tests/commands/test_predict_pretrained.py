"""`mdp predict --as`: a pretrained workdir answers in the classes of one of its sets, or of all."""

import cv2
import numpy as np
import pytest

import mdp_jax
from mdp_jax import cli
from mdp_jax.errors import UserError
from tests import earlier

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = earlier.unpacked(tmp_path_factory.mktemp("pretrained"))
    for name, photo in (("small", PHOTO), ("wide", np.tile(PHOTO, (1, 4, 1)))):
        cv2.imwrite(str(folder / f"{name}.png"), photo[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def net(folder):
    return mdp_jax.load(folder / "pretrained")


def predicted(folder, out, *words, run="pretrained", photo="small"):
    photo = str(folder / f"{photo}.png")
    cli.run(["predict", "--checkpoint", str(folder / run), "--out", str(out), photo, *words])
    assert next(out.glob("*_overlay.jpg")).exists()
    return cv2.imread(str(out / photo.split("/")[-1]), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("words", [["--as", "town"], ["--as", "all"], []])
def test_the_labels_are_those_of_the_network(folder, net, tmp_path, words, capsys):
    found = predicted(folder, tmp_path, *words)
    assert ("--as SET gives those of one set" in capsys.readouterr().err) == ("town" not in words)
    np.testing.assert_array_equal(found, net.predict(PHOTO, as_=words[-1] if words else ""))
    assert found.dtype == np.uint8 and found.max() < (len(net.in_classes_of("town").classes) if "town" in words else 99)


def test_a_set_answers_by_the_largest_score_of_its_own_classes(net):
    every = net.probabilities(PHOTO)
    ids = [i for i, name in enumerate(net.classes) if name.startswith("town/")]
    np.testing.assert_allclose(
        net.probabilities(PHOTO, as_="town"), every[..., ids] / every[..., ids].sum(-1, keepdims=True), atol=1e-4
    )
    assert net.in_classes_of("town").variables is net.variables
    assert net.in_classes_of("town").in_classes_of("all").classes == net.classes


def test_a_head_of_each_set(folder, tmp_path):
    expected = mdp_jax.load(folder / "multi_head", "harbor").predict(PHOTO)
    np.testing.assert_array_equal(predicted(folder, tmp_path, "--as", "harbor", run="multi_head"), expected)


def test_tiles(folder, net, tmp_path):
    found = predicted(folder, tmp_path, "--tile", "256", photo="wide")
    wide = np.tile(PHOTO, (1, 4, 1))
    np.testing.assert_array_equal(found, net.predict(wide, tile=256))
    np.testing.assert_array_equal(net.predict(np.stack([wide, wide[::-1]]), tile=256)[0], found)
    np.testing.assert_array_equal(net.predict(PHOTO, tile=256), net.predict(PHOTO))


def test_probabilities_of_tiles(folder, net, tmp_path):
    """Of the same first classes as the labels; in the middle of a tile those of the photo as a whole."""
    wide, whole = "wide_probabilities.npz", net.probabilities(np.tile(PHOTO, (1, 4, 1)))
    found = predicted(folder, tmp_path / "of", "--tile", "256", "--probabilities", "classes", photo="wide")
    np.testing.assert_array_equal(found, predicted(folder, tmp_path / "labels", "--tile", "256", photo="wide"))
    with np.load(tmp_path / "of" / wide) as file:
        every = file["probabilities"]
    assert every.dtype == np.uint8 and every.shape == whole.shape
    assert np.abs(every[:, 64:100] / 255 - whole[:, 64:100]).max() < 0.02
    predicted(folder, tmp_path / "max", "--tile", "256", "--probabilities", "max", photo="wide")
    one = cv2.imread(str(tmp_path / "max" / "wide_probability.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(one, np.max(every, axis=-1))


def test_a_name_that_is_none(folder, net, tmp_path):
    with pytest.raises(UserError, match=r"^--as city: .* was trained on harbor, town; expected one of them, or all$"):
        predicted(folder, tmp_path / "out", "--as", "city")
    with pytest.raises(UserError, match=r"^as_='city': .* was trained on harbor, town; expected one of them, or all$"):
        net.predict(PHOTO, as_="city")
    with pytest.raises(UserError, match=r"^--tile 100: expected a multiple of 32"):
        predicted(folder, tmp_path / "out", "--tile", "100")
    with pytest.raises(UserError, match=r"^tile=100: expected a multiple of 32"):
        net.predict(PHOTO, tile=100)
    with pytest.raises(UserError, match=r"^as_='town': this network was not pretrained"):
        mdp_jax.load(folder / "finetuned").predict(PHOTO, as_="town")
    with pytest.raises(UserError, match=r"^--as town: .* was trained on valley; expected one of them, or all$"):
        predicted(folder, tmp_path / "out", "--as", "town", run="finetuned")
    assert not (tmp_path / "out").exists()
