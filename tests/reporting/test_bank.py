"""mdp_jax/reporting/bank.py: neighbours against a loop, ages and drifts by hand, sentences."""

import csv
import dataclasses
import io
import math

import numpy as np
import pytest

from mdp_jax.reporting import bank, health
from mdp_jax.reporting.bank import Pair, Vectors

RNG = np.random.default_rng(0)


def vectors(points, sets, count=None, step=10, unit=True):
    points = np.asarray(points, float)
    names = [chr(ord("a") + i) for i in range(len(points))]
    count = np.ones(len(points), int) if count is None else np.array(count)
    return Vectors(step, names, np.array(sets), ["one", "two", "three"], points, unit, count, "images")


def turned(degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_neighbours_by_hand():
    found = vectors(turned([0, 80, 10, 30]), [0, 0, 1, 1])  # a, b of one; c, d of two
    pairs = bank.neighbours(found)
    # a-c is 10 degrees; b's nearest is d (50), d's is a (30): not b.
    assert [(p.one, p.other, p.mutual) for p in pairs] == [(0, 2, True), (3, 0, False), (1, 3, False)]
    np.testing.assert_allclose([p.cosine for p in pairs], np.cos(np.radians([10, 30, 50])))


def test_neighbours_against_a_loop():
    sets = np.repeat([0, 1, 2], [5, 4, 6])
    found = vectors(RNG.normal(size=(15, 4)), sets, count=[*[1] * 6, 0, *[1] * 8], unit=False)
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)

    def nearest(i, other):
        there = [j for j in range(15) if sets[j] == other and found.count[j]]
        return max(there, key=lambda j: unit[i] @ unit[j])

    expected = set()
    for i in range(15):
        for other in {0, 1, 2} - {sets[i]} if found.count[i] else ():
            j = nearest(i, other)
            mutual = nearest(j, sets[i]) == i
            expected.add((min(i, j), max(i, j), True) if mutual else (i, j, False))
    pairs = bank.neighbours(found)
    assert {(p.one, p.other, p.mutual) for p in pairs} == expected and len(pairs) == len(expected)
    assert pairs == sorted(pairs, key=lambda p: (not p.mutual, -p.cosine))
    for p in pairs:
        np.testing.assert_allclose(p.cosine, unit[p.one] @ unit[p.other])


def test_mean_cosine_is_that_of_different_seen_classes():
    found = vectors(turned([0, 60, 90]), [0, 0, 1], count=[3, 1, 0])
    assert bank.mean_cosine(found) == pytest.approx(0.5)
    assert np.isnan(bank.mean_cosine(vectors(turned([0, 60]), [0, 1], count=[1, 0])))


@pytest.fixture
def history():
    """Steps 10, 20 and 40: a goes on, b was last seen by 20, c before 10, d never, e begins at 20."""
    first = vectors(turned([0, 0, 0, 0, 0]), [0, 0, 1, 1, 2], count=[1, 1, 4, 0, 0], step=10)
    second = dataclasses.replace(first, vectors=turned([5, 10, 0, 0, 50]), count=np.array([2, 2, 4, 0, 1]), step=20)
    return [
        first,
        second,
        dataclasses.replace(second, vectors=turned([7, 10, 0, 0, 80]), count=np.array([9, 2, 4, 0, 3]), step=40),
    ]


def test_ages_and_drifts_by_hand(history):
    assert bank.ages(history) == [(0, 19), (20, 29), (30, None), None, (0, 19)]
    assert list(map(bank.age_in_words, bank.ages(history))) == ["0 to 19", "20 to 29", "at least 30", None, "0 to 19"]
    assert bank.ages(history[:1]) == [None] * 5
    kept = dataclasses.replace(history[-1], last_seen=np.array([40, 0, 3, 0, 33]))  # b is not known of
    assert bank.ages([*history[:-1], kept]) == [(0, 0), (20, 29), (37, 37), None, (7, 7)]
    assert bank.ages([kept]) == [(0, 0), None, (37, 37), None, (7, 7)] and bank.age_in_words((7, 7)) == "7"
    assert "steps since seen" in bank.classes_table([kept]).columns
    assert "steps since seen" not in bank.classes_table(history[:1]).columns
    found = bank.drifts(history)
    np.testing.assert_allclose(found, [[5, 10, 0, np.nan, np.nan], [2, 0, 0, np.nan, 30]], atol=1e-6)
    assert bank.drifts(history[:1]).shape == (0, 5)


def test_sentences(history):
    said = bank.sentences(history)
    # Angles of 3, 7, 10, 70, 73 and 80 degrees.
    assert said[0] == "crowding: the mean cosine between classes is 0.63, above 0.5, below which they are well apart"
    assert any(line == "classes of one set above a cosine of 0.95: 1 pair (one: a and b 1.00)" for line in said)
    assert any(line == "never seen up to step 40: 1 class, which cannot be learnt (two/d)" for line in said)
    assert said[-1] == "not seen since step 20, though before: 2 classes (one/b, two/c)"
    assert bank.sentences([vectors(turned([0, 90, 180]), [0, 1, 2])]) == []


@pytest.mark.parametrize(("cosine", "kind"), [(0.95, "collapse"), (0.9, "crowding"), (0.51, "crowding"), (0.5, None)])
def test_limits_of_the_mean_cosine(cosine, kind):
    found = health.collapse(cosine)
    assert list(found) == ([kind] if kind else [])
    assert all(f"{cosine:.2f}" in sentence for sentence in found.values())


def test_what_training_says():
    unseen = {"one": ["a"], "two": ["b", "c"]}
    values = {"bank_cosine": np.float32(0.95), "dataset_epochs": np.array([0.5, 1.25])}
    assert set(health.of_training(values, 20, 100, unseen)) == {"dead"}  # all prototypes are alike in the beginning
    found = health.of_training(values, 25, 100, unseen)
    assert set(found) == {"dead", "collapse"}
    expected = "never seen in a whole epoch of their set: 2 classes, which cannot be learnt (two/b, two/c)"
    assert found["dead"] == expected
    assert health.of_training({"loss": 1.0}, 99, 100, unseen) == {}
    crowded = {"bank_cosine": 0.6}
    assert [list(health.of_training(crowded, step, 100, unseen)) for step in (50, 99, 100)] == [[], [], ["crowding"]]


def test_a_gradient_of_zero_is_said():
    """Its cause is named where it is known."""
    assert health.still({"gradient_norm": np.float32(1e-30)}) == {} == health.still({"loss": 0.0})
    ignored = health.still({"gradient_norm": np.float64(0), "valid_fraction": 0.0})["still"]
    nothing = {"gradient_norm": 0.0, "valid_fraction": 0.5}
    assert health.of_training(nothing, 1, 100, {}) == {}  # no class has a prototype yet
    dead = health.of_training(nothing, 2, 100, {})["still"]
    assert ignored.endswith("nothing was learnt: all pixels are ignored (`mdp data check` counts them)")
    assert dead.endswith("nothing was learnt: the features of all pixels are 0")
    assert " or the features" in health.still({"gradient_norm": 0.0})["still"]


def test_lengths_of_the_mean_feature(history):
    """Two that point one way, two that are at right angles, and a class without a pixel."""
    vectors = np.array([[3.0, 0], [1, 0], [1, 0], [0, 5]], np.float32)
    lengths = bank.mean_lengths(vectors, np.array([0, 0, 2, 2]), 3)
    np.testing.assert_allclose(lengths, [1, np.nan, math.sqrt(0.5)], rtol=1e-12)
    table = bank.classes_table(history[-1:], np.array([0.5, np.nan, 1, 1, 1]))
    assert table.columns[3] == "length of the mean feature" and [row[3] for row in table.rows[:2]] == [0.5, None]


def test_tables(history):
    table = bank.classes_table(history)
    assert table.columns[:5] == ["set", "class", "images seen", "steps since seen", "turned since 20 (°)"]
    assert table.rows[3] == ["two", "d", 0, "–", None, "–", None]
    assert table.rows[1][:4] == ["one", "b", 2, "20 to 29"] and table.rows[1][5] == "two/c"
    rows = list(csv.reader(io.StringIO(bank.as_csv(table))))
    assert len(rows) == 6 and rows[4][3:] == ["", "", "", ""] and float(rows[1][4]) == pytest.approx(2)
    own = bank.classes_table([dataclasses.replace(history[-1], vectors=3 * history[-1].vectors, unit=False)])
    assert own.columns == ["set", "class", "images seen", "norm", "nearest of another set", "cosine"]
    assert own.rows[0][3] == pytest.approx(3)
    pairs = bank.neighbours_table(history[-1], most=1, mutual=True)
    assert pairs.rows[0][0] == "one/a" and pairs.rows[0][3] == "both ways" and "(1 of " in pairs.caption
    assert Pair(0, 1, 0.5, True).mutual
