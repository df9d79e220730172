"""What names of classes say, and files of names that cannot be used."""

import pathlib
import re
import zipfile

import numpy as np
import pytest

from mdp_jax.configs import MethodConfig
from mdp_jax.data import class_names
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError

SPACE = LabelSpace((("one", ("Sky", "sign_symbol", "tree")), ("two", ("trees", "sky", "Sign  Symbol"))))
NAMES = ("sky", "sign symbol", "tree", "trees")
VECTORS = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.6, 0.8]])
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "relations.md"


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "names.npz", names=np.array(NAMES), vectors=VECTORS)
    return str(tmp_path / "names.npz")


def related(space=SPACE, **method):
    return class_names.of_run(MethodConfig(**method), space, 5, seed=0).relations.related


def pairs(matrix):
    assert (matrix == matrix.T).all()
    return {tuple(pair) for pair in np.argwhere(np.triu(matrix)).tolist()}


def test_an_accent_in_two_forms_of_unicode():
    for name in ("M\u00d6BEL_Haus", "mo\u0308bel  haus"):
        assert class_names.normalised(name) == "m\u00f6bel haus"


def test_which_classes_are_related(file):
    assert class_names.of_run(MethodConfig(), SPACE, 5, 0) == class_names.Named(class_names.NO_RELATIONS, None)
    assert pairs(related(relations="names")) == {(0, 4), (1, 5)}  # neither plural nor anything else is touched
    # tree and trees have a cosine of 0.8; trees and sign symbol, of one set, one of 0.6; of both sets too.
    for threshold, expected in ((0.81, set()), (0.8, {(2, 3)}), (0.6, {(2, 3), (1, 3)})):
        found = related(relations="text", names_file=file, relation_threshold=threshold)
        assert pairs(found) == expected | {(0, 4), (1, 5)}


def test_what_is_said_and_kept_of_them(tmp_path, file):
    found = class_names.of_run(MethodConfig(relations="text", names_file=file), SPACE, 5, seed=0)
    assert found.lines("positives") == [
        "relations: 4 pairs of classes, such as one/Sky and two/sky (positives); relations.json has all of them"
    ]
    assert ["one/tree", "two/trees", 0.8] in found.record["pairs"]
    found.save(tmp_path)
    found.require_same(tmp_path)
    np.savez(file, names=np.array(NAMES), vectors=2 * VECTORS)
    other = class_names.of_run(MethodConfig(relations="text", names_file=file), SPACE, 5, seed=0)
    with pytest.raises(UserError, match=r"relations\.json: the vectors of the names are others than when the run"):
        other.require_same(tmp_path)
    alone = LabelSpace((("one", ("sky", "tree")), ("two", ("road",))))
    nothing = class_names.of_run(MethodConfig(relations="names"), alone, 5, seed=0)
    assert "relations: none, as no two" in nothing.lines("no_negatives")[0] and not nothing.relations.related.any()


def test_shuffled_names_have_as_many_relations_within_the_same_sets():
    names = tuple(f"class {i}" for i in range(9))
    space = LabelSpace((("one", names), ("two", names[:4])))
    for seed in range(3):
        method = MethodConfig(relations="names", shuffle_names=True)
        found = class_names.of_run(method, space, 5, seed).relations.related
        assert len(pairs(found)) == 4 and not found[:9, :9].any()
        assert all(found.sum(axis=1)[9:] == 1)
    exchanged = class_names._exchanged(names, np.random.default_rng(0))
    assert sorted(exchanged) == sorted(names) and all(a != b for a, b in zip(names, exchanged, strict=True))


def test_starts_keep_the_angles_between_names(file):
    method = MethodConfig(start_from_names=True, names_file=file)
    found = class_names.of_run(method, SPACE, 4000, seed=0).relations
    assert found.related is None
    np.testing.assert_allclose(np.linalg.norm(found.starts, axis=1), 1, rtol=1e-5)
    rows = VECTORS[[0, 1, 2, 3, 0, 1]] / np.linalg.norm(VECTORS[[0, 1, 2, 3, 0, 1]], axis=1, keepdims=True)
    np.testing.assert_allclose(found.starts @ found.starts.T, rows @ rows.T, atol=0.08)  # 5 / sqrt(4000)
    again = class_names.of_run(method, SPACE, 4000, seed=0).relations
    np.testing.assert_array_equal(found.starts, again.starts)
    assert (class_names.of_run(method, SPACE, 4000, seed=1).relations.starts != found.starts).any()


def _npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def _with(index, row, names=NAMES):
    vectors = VECTORS.copy()
    vectors[index] = row
    return _npz(names=np.array(names), vectors=vectors)


def _broken(path):
    np.savez(path, names=np.array(NAMES), vectors=VECTORS)
    path.write_bytes(path.read_bytes()[:-40])


def _of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("names", "sky")
        archive.writestr("vectors", "1 2 3")


BAD = {
    "missing": (lambda path: None, r"names\.npz cannot be read \(No such file"),
    "no_npz": (lambda path: path.write_text("sky 1 0 0"), "cannot be read; expected an .npz file with the arrays"),
    "npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00"), "cannot be read; expected an .npz"),
    "truncated": (_broken, "cannot be read; expected an .npz"),
    "no_arrays": (_of_text, "names or vectors is no array; expected an .npz"),
    "other_arrays": (_npz(sky=VECTORS[0], tree=VECTORS[1]), "holds sky, tree, and no names; expected an .npz"),
    "objects": (_npz(names=np.array([*NAMES], object), vectors=VECTORS), "cannot be read; expected an .npz"),
    "numbers": (_npz(names=np.arange(4), vectors=VECTORS), r"names is int64 of shape \(4,\); expected text \[n\]"),
    "flat": (_npz(names=np.array(NAMES), vectors=VECTORS[0]), r"of shape \(3,\); expected numbers \[4, d\], a row for"),
    "short": (_npz(names=np.array(NAMES), vectors=VECTORS[:3]), r"of shape \(3, 3\); expected numbers \[4, d\]"),
    "complex": (_npz(names=np.array(NAMES), vectors=VECTORS * 1j), r"vectors is complex128 of shape \(4, 3\)"),
    "nan": (_with(1, np.nan), "the vector of 'sign symbol' is not finite; expected finite numbers"),
    "zero": (_with(2, 0.0), "the vector of 'tree' is zero; expected a direction: leave the name out"),
    "twice": (_with(0, 1.0, ("sky", "sky_", "tree", "trees")), "names has 'sky_' twice, but for case, underscores"),
    "class": (
        _npz(names=np.array(NAMES[:3]), vectors=VECTORS[:3]),
        "no vector of class two/trees; expected a vector of",
    ),
    "classes": (
        _npz(names=np.array(NAMES[:2]), vectors=VECTORS[:2]),
        "no vector of class one/tree; the same holds for 2 of 6 classes: one/tree, two/trees; expected a vector of",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_files_that_cannot_be_used(tmp_path, make, message):
    path = tmp_path / "names.npz"
    make(path)
    with pytest.raises(UserError, match=message) as error:
        related(relations="text", names_file=str(path))
    assert "names.npz" in str(error.value)


def test_the_encoder_of_the_page_made_the_file_of_the_study(tmp_path, monkeypatch):
    """docs/relations.md: its script gives the vectors that configs/studies has, and a file that is read."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    script: dict = {"__name__": "my_names"}
    exec(code, script)
    study = class_names.read_vectors("configs/studies/names.npz", "--names")
    assert len(study.vectors) > 90
    for name, vector in study.vectors.items():
        np.testing.assert_array_equal(script["encode"](name), vector)
    lists = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path, (_, classes) in zip(lists, SPACE.datasets, strict=True):
        path.write_text("\n".join(classes) + "\n")
    monkeypatch.setattr("sys.argv", ["my_names.py", str(tmp_path / "names.npz"), *map(str, lists)])
    exec(code, {"__name__": "__main__"})
    found = related(relations="text", names_file=str(tmp_path / "names.npz"))
    assert pairs(found) == {(0, 4), (1, 5), (2, 3)}  # it sees that tree and trees are spelt alike
