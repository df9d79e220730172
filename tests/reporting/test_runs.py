"""What the report of a pretraining says of its bank, worked by hand."""

import numpy as np
import pytest

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank
from mdp_jax.reporting import runs
from tests.data.fixtures import numbered_source

SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d",))))


def summary(vectors, images):
    return dict(runs.bank_summary(Bank(np.float32(vectors), np.int32(images)), SPACE).rows)


def test_bank_summary():
    found = summary([[1, 0], [0.6, 0.8], [0, 1], [0, 0]], [1, 2, 3, 0])
    assert found == {
        "classes seen": "3 of 4",
        "mean cosine between classes": "0.467",  # (0.6 + 0 + 0.8) / 3
        "largest cosine between classes": "0.800",
        "classes with another above 0.95": "0",
        "effective dimension (1 = collapsed)": "1.9",  # shares 2/3 and 1/3: 3 / 2^(2/3)
        "never seen": "second/d",
    }


def test_close_classes():
    found = summary([[1, 0], [0.96, 0.28], [0, 1], [0, -1]], [1, 1, 1, 1])
    assert found["classes with another above 0.95"] == "2"


def test_related_classes():
    """Cosines by hand: the nearest first, not the class itself, and none that was never seen."""
    vectors = [[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]]
    table = runs.related_classes(Bank(np.float32(vectors), np.int32([1, 1, 0, 1])), SPACE)
    assert table.rows == [
        ["first", "a", "second/d 0.80, first/b 0.60", "second/d 0.80"],
        ["first", "b", "second/d 0.96, first/a 0.60", "second/d 0.96"],
        ["second", "d", "first/b 0.96, first/a 0.80", "first/b 0.96, first/a 0.80"],
    ]
    table = runs.related_classes(Bank(np.float32(vectors), np.int32([1, 1, 0, 0])), SPACE, shown=1)
    assert [row[2:] for row in table.rows] == [["first/b 0.60", "–"], ["first/a 0.60", "–"]]


def test_one_class_has_no_other():
    found = summary([[1, 0], [0, 0], [0, 0], [0, 0]], [1, 0, 0, 0])
    assert [found[name] for name in found if name.startswith(("mean", "largest", "effective"))] == ["–"] * 3


@pytest.mark.parametrize(
    ("steps", "warmup", "said"),
    [
        (9, 5.0, "9 steps of 4 samples: 6.0 epochs"),
        (6, 4.0, "4.0 epochs; the learning rate rises to the end, as config.optim.warmup_epochs=4.0"),
        (6, 0.0, "6 steps of 4 samples: 4.0 epochs"),
    ],
)
def test_a_run_that_is_all_warm_up_is_said(capsys, steps, warmup, said):
    datasets = [numbered_source("first", 2, 6)]
    shares = {"datasets": [1.0], "plain": 1.0, "region": 0.0, "pixel": 0.0}
    runs.print_datasets(datasets, shares, steps, 4, warmup)
    assert " ".join(capsys.readouterr().err.split()).endswith(said)


@pytest.mark.parametrize(
    ("vectors", "dimension"),
    [
        (np.eye(4), 4),
        (np.tile([[0.6, 0.8]], (5, 1)), 1),
        # Shares 3/4 and 1/4: exp(-(3/4) log(3/4) - (1/4) log(1/4)) = 4 / 3^(3/4).
        ([[1, 0], [1, 0], [1, 0], [0, 1]], 4 / 3**0.75),
    ],
)
def test_effective_dimension(vectors, dimension):
    assert runs.effective_dimension(np.array(vectors, float)) == pytest.approx(dimension)
