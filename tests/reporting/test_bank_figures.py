"""mdp_jax/reporting/bank_figures.py: every class is named, maps by hand, names that cover nothing."""

import io
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from mdp_jax.errors import UserError
from mdp_jax.reporting import bank_figures
from mdp_jax.reporting.bank import Vectors

RNG = np.random.default_rng(0)


def many(count, unseen=(), dim=8):
    points = RNG.normal(size=(count, dim))
    images = np.ones(count, int)
    images[list(unseen)] = 0
    sets = np.sort(np.arange(count) % 3)
    return Vectors(5, [f"class {i}" for i in range(count)], sets, ["x", "y", "z"], points, False, images, "images")


def size(png):
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


@pytest.mark.parametrize(("count", "longest"), [(3, 1500), (60, 2400), (342, 5600)])
def test_every_class_has_its_name_in_both_directions(count, longest, monkeypatch):
    written, genuine = [], Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, s, **style: written.append((s, style)) or genuine(self, x, y, s, **style)
    )
    if count > 100:  # the picture itself was looked at; drawing it takes seconds
        monkeypatch.setattr(bank_figures, "png", lambda figure: figure)
    found = bank_figures.clustered_heatmap(many(count, unseen=[1]))
    names = [name for name, _ in written]
    assert sorted(names) == sorted(2 * [f"class {i}" for i in range(count)])
    assert {"class 1"} == {name for name, _ in written[-2:]}  # those never seen come last
    assert min(style["fontsize"] for _, style in written) >= 6.5
    side = max(size(found)) if count < 100 else 2 * 100 * max(found.get_size_inches())
    assert side <= longest


def test_the_plane_of_the_principal_axes():
    points = np.zeros((6, 5))
    points[:, 3], points[:, 1] = [-3, 3, 0, 0, 0, 0], [0, 0, -1, 1, 0, 0]
    found, words = bank_figures.flat_map(points, "pca")
    np.testing.assert_allclose(np.abs(found), np.abs(points[:, [3, 1]]), atol=1e-12)
    assert "100 % of the spread" in words
    np.testing.assert_allclose(bank_figures.flat_map(points[:, 3:4], "pca")[0][:, 1], 0)  # of features of one number


def test_t_sne_keeps_neighbours_together():
    centres = np.eye(3).repeat(8, axis=0)
    found, words = bank_figures.flat_map(centres + 0.01 * RNG.normal(size=(24, 3)), "tsne")
    groups = found.reshape(3, 8, 2)
    within = max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in groups)
    between = min(np.linalg.norm(groups[i].mean(0) - groups[j].mean(0)) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert between > within and words.startswith("t-SNE")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"--map tsne: scikit-learn is missing; pip install 'mdp_jax\[inspect\]'"):
        bank_figures.require_tsne()
    with pytest.raises(UserError, match="--map umap: expected one of pca, tsne, none"):
        bank_figures.flat_map(np.eye(3), "umap")


def test_names_in_a_map_cover_no_mark_and_no_name(monkeypatch):
    boxes = []
    genuine = bank_figures._overlap
    monkeypatch.setattr(bank_figures, "_overlap", lambda one, other: boxes.append(one) or genuine(one, other))
    found = many(40, unseen=[3])
    pixels, of = RNG.normal(size=(50, 8)), RNG.integers(0, 40, 50)
    written, annotate = [], Axes.annotate
    monkeypatch.setattr(Axes, "annotate", lambda self, s, *a, **k: written.append(s) or annotate(self, s, *a, **k))
    picture, _ = bank_figures.map_picture(found, pixels, of, "pca")
    assert size(picture)[0] > 1500 and boxes
    assert 10 < len(written) <= 39 and "class 3" not in written


@pytest.mark.parametrize("count", [0, 5])
def test_names_are_placed_where_the_marks_are_drawn(count, monkeypatch):
    kept, genuine = [], bank_figures._name_where_there_is_room

    def name(axes, places, names):
        kept.append((axes, places, axes.transData.transform(places)))
        genuine(axes, places, names)

    monkeypatch.setattr(bank_figures, "_name_where_there_is_room", name)
    bank_figures.map_picture(many(12), RNG.normal(size=(count, 8)), np.zeros(count, int), "pca")
    ((axes, places, at),) = kept
    np.testing.assert_allclose(at, axes.transData.transform(places), atol=1e-6)


def test_over_time_with_one_step_and_with_several():
    one = many(6)
    later = Vectors(**{**vars(one), "step": 9, "vectors": one.vectors + 0.1, "count": one.count + 1})
    single = bank_figures.over_time([one], [])
    rows = [{"step": 4, "bank_cosine": 0.5, "classes_seen": 6}, {"step": 8, "bank_cosine": None}]
    assert size(bank_figures.over_time([one, later], rows))[1] > size(single)[1]
