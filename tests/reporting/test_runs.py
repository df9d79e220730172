"""What the report of a pretraining says of its bank, worked by hand."""

import numpy as np
import pytest

from mdp_jax import configs
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank
from mdp_jax.reporting import runs
from tests import tiny
from tests.data.fixtures import numbered_source

SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d",))))


def summary(vectors, images):
    return dict(runs.bank_summary(Bank(np.float32(vectors), np.int32(images)), SPACE).rows)


def test_bank_summary():
    found = summary([[1, 0], [0.6, 0.8], [0, 1], [0, 0]], [1, 2, 3, 0])
    assert found == {
        "classes seen": "3 of 4",
        # (0.6 + 0 + 0.8) / 3
        "mean cosine between classes": "0.467; less is better; good: well apart, as up to 0.5",
        "largest cosine between classes": "0.800",
        "classes with another above 0.95": "0 (0 is best: such classes are hardly told apart)",
        # shares 2/3 and 1/3: 3 / 2^(2/3)
        "effective dimension": "1.9 of 2; more is better; too few classes to judge",
        "never seen": "second/d",
    }


def test_close_classes():
    found = summary([[1, 0], [0.96, 0.28], [0, 1], [0, -1]], [1, 1, 1, 1])
    assert found["classes with another above 0.95"].startswith("2 (")


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


@pytest.mark.parametrize(
    ("found", "most", "said"),
    [
        (1.2, 64, "1.2 of 64; more is better; collapsed: the prototypes lie almost on a line"),
        (2.0, 64, "2.0 of 64; more is better; poor: the prototypes lie almost in a plane"),
        (9.0, 64, "9.0 of 64; more is better; fair: well spread from 16 on"),
        (20.0, 64, "20.0 of 64; more is better; good: well spread, as from 16 on"),
    ],
)
def test_dimension_in_words(found, most, said):
    assert runs.dimension_in_words(found, most) == said


@pytest.mark.parametrize(("found", "verdict"), [(0.95, "collapsed"), (0.7, "crowded"), (0.2, "good")])
def test_cosine_in_words(found, verdict):
    assert verdict in runs.cosine_in_words(found)


def test_a_report_says_how_it_was_made(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/mdp", "finetune", "--workdir", "my run"])
    rows = dict(runs.about([("seed", "7")]).tables[0].rows)
    assert rows["command"] == "mdp finetune --workdir 'my run'" and rows["seed"] == "7"
    assert rows["versions"].startswith("mdp_jax ") and ", jax " in rows["versions"]
    assert rows["written"][:2] == "20" and "cpu" in rows["devices"]


def test_settings_in_words():
    config = configs.typed(tiny.finetune_config(seed=3))
    found = dict(runs.finetune_settings(config, "a network"))
    assert found["steps"] == "12 of 8 samples" and found["seed"] == "3" and found["learning rate"] == "0.01"
    assert found["set"] == "valley (synthetic)" and found["network"] == "a network"
    config = configs.typed(tiny.pretrain_config())
    found = dict(runs.pretrain_settings(config, 12, "a network", "the start"))
    assert found["sets"] == "harbor (synthetic), town (synthetic)"
    assert found["learning rate"] == "1 at a batch of 256: 0.03125"
