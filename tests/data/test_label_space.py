import json

import numpy as np
import pytest

from mdp_jax.data.label_space import LabelSpace, build
from mdp_jax.errors import UserError
from tests.data.fixtures import MemorySource

SPACE = LabelSpace((("town", ("sky", "car")), ("field", ("sky", "grass", "cow")), ("sea", ("water",))))


def test_ids_names_and_datasets():
    assert SPACE.num_classes == 6
    assert SPACE.global_ids == ((0, 1), (2, 3, 4), (5,))
    assert SPACE.global_names() == ["town/sky", "town/car", "field/sky", "field/grass", "field/cow", "sea/water"]
    np.testing.assert_array_equal(SPACE.dataset_of(), np.array([0, 0, 1, 1, 1, 2], np.int32), strict=True)


def test_rows_and_file(tmp_path):
    assert SPACE.rows()[3] == {"dataset": "field", "class": "grass", "global_id": 3}
    SPACE.save(tmp_path / "label_space.json")
    assert json.loads((tmp_path / "label_space.json").read_text()) == SPACE.rows()
    assert LabelSpace.load(tmp_path / "label_space.json") == SPACE
    assert LabelSpace.from_rows(SPACE.rows()) == SPACE


MERGED = LabelSpace(
    (("town", ("sky", "car")), ("photos", ()), ("field", ("Grass", " SKY", "cow")), ("sea", ("sky", "grass"))), "merged"
)


def test_merged_by_hand():
    """Sky is a class of three datasets, grass of two; the second dataset is unlabelled."""
    assert MERGED.global_ids == ((0, 1), (), (2, 0, 3), (0, 2))
    assert MERGED.num_classes == 4
    assert MERGED.global_names() == ["town/sky", "town/car", "field/Grass", "field/cow"]
    assert MERGED.blocks() == (("town", ("sky", "car")), ("field", ("Grass", "cow")))
    assert MERGED.dataset_of().tolist() == [4, 0, 4, 2]  # 4: several have it
    assert MERGED.first_rows().tolist() == [0, 1, 2, 4]
    assert MERGED.unlabelled().tolist() == [False, True, False, False]
    assert MERGED.rows()[3] == {"dataset": "field", "class": " SKY", "global_id": 0}


def test_a_merged_file_gives_the_labelled_datasets_back(tmp_path):
    MERGED.save(tmp_path / "label_space.json")
    loaded = LabelSpace.load(tmp_path / "label_space.json")
    assert loaded == LabelSpace((MERGED.datasets[0], *MERGED.datasets[2:]), "merged")
    MERGED.require_same(loaded, "W")
    loaded.require_same(MERGED, "W")
    with pytest.raises(UserError, match="W: the label space is concatenated, expected merged"):
        MERGED.require_same(LabelSpace(MERGED.datasets), "W")


def test_merged_names_that_look_the_same():
    """The accent is part of the letter in one name, and a character of its own in the other."""
    space = build([MemorySource("a", ("\u00c9tang", "sky"), []), MemorySource("b", ("e\u0301tang",), [])], "merged")
    assert space.global_ids == ((0, 1), (0,)) and space.num_classes == 2


def test_merged_names_are_equal_in_different_datasets_alone():
    with pytest.raises(UserError, match="dataset 'a' has class 'sky' twice"):
        build([MemorySource("a", ("Sky", "sky"), [])], "merged")
    assert build([MemorySource("a", ("Sky", "sky"), [])]).num_classes == 2


def test_only_unlabelled_datasets():
    with pytest.raises(UserError, match="no labels in a, b; expected a dataset with labels='masks'"):
        build([MemorySource("a", (), []), MemorySource("b", (), [])])


def test_build_keeps_order_and_equal_names_apart():
    sources = [MemorySource("b", ("x", "y"), []), MemorySource("a", ("x",), [])]
    assert build(sources) == LabelSpace((("b", ("x", "y")), ("a", ("x",))))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([("a", ("x",)), ("b", ("x",)), ("a", ("y",))], "two datasets are named 'a'"),
        ([("a", ("x", "y", "x"))], "dataset 'a' has class 'x' twice"),
        ([("a", tuple(map(str, range(32768))))], "32768 classes together; expected at most 32767"),
    ],
)
def test_build_errors(sources, message):
    with pytest.raises(UserError, match=message):
        build([MemorySource(name, classes, []) for name, classes in sources])


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ((("town", ("sky", "bus")), *SPACE.datasets[1:]), "W: class 1 of dataset 'town' is 'bus', expected 'car'"),
        ((("town", ("sky",)), *SPACE.datasets[1:]), "W: class 1 of dataset 'town' is missing, expected 'car'"),
        ((*SPACE.datasets[:2], ("sea", ("water", "ice"))), "W: class 1 of dataset 'sea' is 'ice', expected none"),
        ((SPACE.datasets[1], SPACE.datasets[0]), "W: dataset 0 is 'field', expected 'town'"),
        (SPACE.datasets[:2], "W: dataset 2 is missing, expected 'sea'"),
        ((*SPACE.datasets, ("more", ("x",))), "W: dataset 3 is 'more', expected none"),
    ],
)
def test_require_same_names_the_first_difference(datasets, message):
    with pytest.raises(UserError) as error:
        SPACE.require_same(LabelSpace(datasets), "W")
    assert str(error.value) == message


def test_require_same_accepts_an_equal_one():
    again = LabelSpace.from_rows(SPACE.rows())
    assert again is not SPACE
    SPACE.require_same(again, "W")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "the value is {}; expected a list"),
        ('[{"dataset": "a", "class": "x", "global_id": 1}]', "row 0 is .* global_id 0"),
        ('[{"dataset": "a", "class": "x"}]', r"\[0\] has no 'global_id'"),
        (json.dumps([{"dataset": d, "class": d, "global_id": i} for i, d in enumerate("aba")]), "row 2 returns"),
    ],
)
def test_load_errors_name_the_file(tmp_path, content, message):
    (tmp_path / "label_space.json").write_text(content)
    with pytest.raises(UserError, match=f"label_space.json.*{message}"):
        LabelSpace.load(tmp_path / "label_space.json")


def test_load_missing(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.json is missing"):
        LabelSpace.load(tmp_path / "nothing.json")


def test_a_single_class_is_refused():
    for sources, kind in (
        ([MemorySource("a", ("thing",), [])], "concatenated"),
        ([MemorySource("a", ("thing",), []), MemorySource("b", ("Thing",), [])], "merged"),
        ([MemorySource("a", ("thing",), []), MemorySource("b", (), [])], "concatenated"),
    ):
        with pytest.raises(UserError, match=r"the only class is a/thing, which is then always right; expected"):
            build(sources, kind)
    assert build([MemorySource("a", ("thing",), []), MemorySource("b", ("thing",), [])]).num_classes == 2
