"""The session without HTTP: the same numbers as those of the network, and what strokes change."""

import numpy as np
import pytest

from mdp_jax.configs import MethodConfig
from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant, loaded, tiles
from mdp_jax.reporting import colors
from mdp_jax.serving import session as sessions
from mdp_jax.serving.session import Session, Stroke
from mdp_jax.training.adopting import adopt
from tests import tiny
from tests.evaluation import finetuned

STROKE = Stroke("boat", [(14.0, 20.0), (26.0, 30.0)], 4.0)


def test_labels_and_probabilities_are_those_of_the_network(session, net, photo):
    key = session.add(photo)
    for name in ("all", "town"):
        np.testing.assert_array_equal(session.labels(key, name), net.predict(photo, as_=name))
        expected = net.probabilities(photo, as_=name)
        for x, y in ((0, 0), (63, 47), (21, 30)):
            found = session.pixel(key, name, x, y).classes
            order = np.argsort(-expected[y, x], kind="stable")[:5]
            assert [label for label, _ in found] == [session.classes_of(name)[c] for c in order]
            np.testing.assert_allclose([share for _, share in found], expected[y, x][order], rtol=1e-4, atol=1e-6)


def test_nearest_prototypes_are_those_of_the_cell(session, net, photo):
    """At the middle of cell (2, 3) nothing is interpolated; the stride is 8, so it is between pixels 3 and 4."""
    key, cell = session.add(photo), net.embed(photo, "projection")[2, 3]
    assert net.model.output_stride == 8
    corners = [dict(session.pixel(key, "all", 3 * 8 + dx, 2 * 8 + dy).prototypes) for dx in (3, 4) for dy in (3, 4)]
    cosines = net.prototypes @ cell
    best = net.classes[int(np.nanargmax(cosines))]
    assert np.mean([of[best] for of in corners]) == pytest.approx(np.nanmax(cosines), abs=0.02)
    seen = {name for name, row in zip(net.classes, net.prototypes, strict=True) if not np.isnan(row).any()}
    assert all(set(of) <= seen for of in corners)


def test_a_stroke_is_adopted_as_a_plain_version_says(session, net, photo):
    """Prototypes of all cells by the labels with the stroke over them; the network's classes share what is left."""
    key = session.add(photo)
    label, count = session.labels(key, "town").copy(), len(session.classes_of("town"))
    before = label.copy()
    session.adopt(key, STROKE)
    assert session.classes_of("town")[count:] == ["boat"] and session.new_classes() == ["boat"]
    sessions._paint(label, STROKE, count)
    assert label[24, 20] == count and (label[:14] != count).all() and (label[:, 34:] != count).all()
    features = net.embed(photo, "projection")
    shares = discriminant.shares_of_cells(label, features.shape[:2], count + 1)
    sums = np.einsum("nc,nd->cd", shares, features.reshape(-1, features.shape[-1]))
    length = np.linalg.norm(sums, axis=1)
    cosines = np.einsum("hwd,cd->hwc", features, sums / np.maximum(length, 1e-9)[:, None])
    share = np.where(length > 0, np.exp(cosines / MethodConfig().temperature), 0)
    new = share[..., count:] / share.sum(axis=-1, keepdims=True)
    known = np.exp(net.in_classes_of("town").logits_as_they_are(photo))
    known *= (1 - new) / known.sum(axis=-1, keepdims=True)
    odds = np.exp(finetuned.interpolated(np.log(np.concatenate([known, new], axis=-1)), photo.shape[:2]))
    found = session.labels(key, "town")
    assert (found == odds.argmax(axis=-1)).mean() > 0.999  # where two classes are equally likely they may differ
    assert found[24, 20] == count and (before != count).all()
    shown, expected = dict(session.pixel(key, "town", 20, 24).classes), odds[24, 20] / odds[24, 20].sum()
    assert shown["boat"] == pytest.approx(expected[count], abs=1e-4) and max(shown, key=shown.get) == "boat"


def test_the_classes_of_the_network_share_the_rest_as_before(session, photo):
    key = session.add(photo)
    before = session.pixel(key, "town", 60, 4).classes
    session.adopt(key, STROKE)
    after = dict(session.pixel(key, "town", 60, 4).classes)
    (first, one), (second, two) = before[:2]
    assert after[first] / after[second] == pytest.approx(one / two, rel=1e-3)


def test_a_new_class_is_in_all_sets_and_on_the_next_photo_until_it_is_forgotten(session, photo):
    key = session.add(photo)
    before = session.labels(key, "all")
    session.adopt(key, STROKE)
    other = session.add(photo[:, ::-1].copy())
    for name in session.sets:
        new = len(session.network_of(name).classes)
        assert (session.labels(other, name) == new).any()
        assert len(session.colours_of(name)) == new + 1
    session.adopt(other, STROKE._replace(name=" quay wall "))
    assert session.new_classes() == ["boat", "quay wall"]
    session.undo(other)
    assert session.new_classes() == ["boat"]
    session.forget()
    np.testing.assert_array_equal(session.labels(key, "all"), before)


def test_new_classes_keep_their_ids_and_colours_when_others_are_painted(session, photo):
    """Also where somebody paints on an earlier photo, as on another page of the same server."""
    first, second = session.add(photo), session.add(photo[:, ::-1].copy())
    session.adopt(second, STROKE)
    before = session.colours_of("town").tolist()
    session.adopt(first, STROKE._replace(name="quay wall"))
    assert session.new_classes() == ["boat", "quay wall"] and session.colours_of("town").tolist()[:-1] == before
    session.undo(second)
    assert session.new_classes() == ["quay wall"]
    session.adopt(second, STROKE)
    assert session.new_classes() == ["quay wall", "boat"]


def test_a_stroke_of_a_known_class_says_what_a_new_one_is_not_like(session, photo):
    key = session.add(photo)
    session.adopt(key, STROKE)
    count = len(session.network_of("town").classes)
    before = dict(session.pixel(key, "town", 26, 30).classes)["boat"]
    classes = session.classes_of("town")
    session.adopt(key, Stroke("Sky", [(26.0, 30.0)], 3.0))
    assert session.classes_of("town") == classes
    assert dict(session.pixel(key, "town", 26, 30).classes).get("boat", 0) < before
    assert session.labels(key, "town").max() <= count
    session.undo(key)
    assert dict(session.pixel(key, "town", 26, 30).classes)["boat"] == before


def test_the_classes_of_a_set_with_a_slash_in_its_name_are_known(net, photo, monkeypatch):
    for part in ("classes", "datasets", "answers"):
        monkeypatch.setattr(net, part, tuple(name.replace("town", "town/left") for name in getattr(net, part)))
    session = Session(net, "pretrained")
    key = session.add(photo)
    for name in ("lawn", "town/left/lawn", "left/lawn"):
        session.adopt(key, STROKE._replace(name=name))
    assert session.new_classes() == ["left/lawn"]


def test_the_oldest_photo_goes_with_its_strokes(session, photo):
    first = session.add(photo)
    session.adopt(first, STROKE)
    for _ in range(sessions.PHOTOS):
        session.add(photo)
    assert session.new_classes() == []
    with pytest.raises(
        UserError, match=r"^this photo is not kept any more, only the newest 3 are; give it to the page again$"
    ):
        session.labels(first, "all")


def test_equal_names_have_equal_colours_in_all_sets(session, net):
    every = dict(zip(session.classes_of("all"), session.colours_of("all").tolist(), strict=True))
    town = dict(zip(session.classes_of("town"), session.colours_of("town").tolist(), strict=True))
    assert (
        all(every[f"town/{name}"] == colour for name, colour in town.items())
        and len(set(map(tuple, town.values()))) > 5
    )
    assert colors.of_classes([(["a"], None)]).shape == (1, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "  "}, "a class named '': expected a name of 1 to 60 characters"),
        ({"name": "a\nb"}, "a class named 'a\\nb': expected"),
        ({"points": []}, "a stroke of 0 points: expected 1 to 5000"),
        ({"points": [(64.0, 3.0)]}, "a stroke that leaves the photo, which is 64 x 48"),
        ({"radius": 501.0}, "a brush of radius 501: expected 0.5 to 500 pixels"),
    ],
)
def test_strokes_that_cannot_be(session, photo, change, said):
    key = session.add(photo)
    with pytest.raises(UserError) as caught:
        session.adopt(key, STROKE._replace(**change))
    assert str(caught.value).startswith(said) and session.new_classes() == []


def test_what_cannot_be_served(net, folder):
    with pytest.raises(UserError, match=r"^--as city: expected one of harbor, town, all$"):
        Session(net, "x", "city")
    with pytest.raises(UserError, match=r"^set 'city': expected one of harbor, town, all$"):
        Session(net, "x").network_of("city")
    with pytest.raises(UserError, match=r"^--layer decode: this network has no decode"):
        Session(net, "x", layers=("decode",))
    assert Session(net, "x").first == "all" and Session(net, "x", "town").first == "town"
    assert Session(net, "x").sets == ("harbor", "town", "all")
    assert Session(loaded.load(folder / "finetuned"), "x").sets == ("valley",)


def test_a_workdir_of_adopt_has_one_set_and_no_prototypes(folder, tmp_path, photo):
    adopt(folder / "pretrained", tiny.finetune_config(), tmp_path / "new")
    net = loaded.load(tmp_path / "new")
    session = Session(net, "new")
    assert session.sets == ("valley",) and session.classes_of("valley") == list(net.classes)
    key = session.add(photo)
    np.testing.assert_array_equal(session.labels(key, "valley"), net.predict(photo))
    assert session.pixel(key, "valley", 3, 3).prototypes is None
    session.adopt(key, STROKE)
    assert session.labels(key, "valley")[24, 20] == len(net.classes)


def test_cells_by_tiles_are_those_of_the_whole():
    """A network that sees one cell of 8 x 8 pixels: tiles change nothing, and every cell comes once."""
    image = np.random.default_rng(1).integers(0, 256, (256, 712, 3), dtype=np.uint8)
    sizes = []

    def means(part):
        sizes.append(part.shape[:2])
        return part.reshape(part.shape[0] // 8, 8, part.shape[1] // 8, 8, 3).mean(axis=(1, 3))

    found = tiles.cells_by_tiles(lambda tile: means(tile.image), tiles.cut(image, 256, 8))
    np.testing.assert_array_equal(found, means(image))
    assert len(set(sizes[:-1])) == 1 and len(sizes) > 3 and max(sizes[0]) <= 256


def test_a_large_photo_is_taken_at_a_size_that_memory_bounds(net, monkeypatch, photo):
    monkeypatch.setattr(sessions, "MOST_SEEN", 32 * 48)
    session = Session(net, "x")
    height, width, _ = session.shown(session.add(images.resize_photo(photo, 96, 128))).shape
    assert height * width <= 32 * 48 and abs(width / height - 4 / 3) < 0.05
