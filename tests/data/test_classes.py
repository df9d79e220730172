import numpy as np
import pytest

from mdp_jax.data.kinds import classes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], "7"),
        ([0, 1, 2], "0 to 2"),
        ([0, 1, 255], "0 to 1 or 255"),
        ([0, 2, 4, 5, 6, 255], "0, 2, 4 to 6 or 255"),
        (range(256), "0 to 255"),
    ],
)
def test_expected_values_in_words(values, expected):
    to_label = np.full(256, classes.NO_CLASS, np.int16)
    to_label[list(values)] = 0
    assert classes.ClassTable(("x",), to_label).expected() == expected


def test_numbered():
    table = classes.numbered(["sky", "road"])
    assert table.names == ("sky", "road")
    assert table.to_label.dtype == np.int16
    assert table.to_label.tolist() == [0, 1, *[-2] * 253, -1]


@pytest.mark.parametrize(
    ("name", "count", "ignored", "not_allowed"),
    [("voc", 21, 1, 234), ("ade20k", 150, 1, 105), ("coco_stuff", 171, 1, 84), ("cityscapes", 19, 16, 221)],
)
def test_released(name, count, ignored, not_allowed):
    table = classes.released(name)
    assert len(table.names) == len(set(table.names)) == count
    assert (table.to_label == -1).sum() == ignored
    assert (table.to_label == classes.NO_CLASS).sum() == not_allowed
    assert table.to_label[table.to_label >= 0].tolist() == list(range(count))
    assert all(label == label.strip() for label in table.names)
    assert table.palette is None or (table.palette.shape, table.palette.dtype) == ((count, 3), np.uint8)
