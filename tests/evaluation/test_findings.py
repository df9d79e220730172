"""Confusions and photos, worked by hand and against plain loops."""

import csv

import numpy as np
import pytest

from mdp_jax.evaluation import findings, inference, metrics
from mdp_jax.evaluation.metrics import PhotoScore
from tests.evaluation.test_inference import CLASSES, NORMALISE, SIZES, PixelNetwork, made_up_photos, matrix

NAMES = ("sky", "road", "car")
#          sky road car stranger
COUNTS = [[70, 30, 0, 0], [0, 90, 10, 0], [10, 10, 80, 0], [0, 0, 0, 0]]


def test_the_largest_confusions_in_words():
    assert findings.in_words(np.array(COUNTS), NAMES) == [
        "30 % of the pixels of sky are called road, which is 50 % of all errors.",
        "10 % of the pixels of road are called car, which is 17 % of all errors.",
        "10 % of the pixels of car are called sky, which is 17 % of all errors.",
        "10 % of the pixels of car are called road, which is 17 % of all errors.",
    ]
    assert len(metrics.largest_confusions(np.array(COUNTS), 2)) == 2
    assert not metrics.largest_confusions(np.diag([5, 6, 7, 0]), 9)


def test_precision_accuracy_and_dice_by_hand():
    scores = metrics.scores(np.array(COUNTS), NAMES)
    assert scores["per_class_accuracy"] == pytest.approx({"sky": 70, "road": 90, "car": 80})
    assert scores["per_class_precision"] == pytest.approx({"sky": 87.5, "road": 100 * 90 / 130, "car": 100 * 80 / 90})
    assert scores["per_class_dice"] == pytest.approx({"sky": 14000 / 180, "road": 18000 / 230, "car": 16000 / 190})
    assert scores["mDice"] == pytest.approx(np.mean([14000 / 180, 18000 / 230, 16000 / 190]))
    assert scores["mPrecision"] == pytest.approx(np.mean([87.5, 9000 / 130, 8000 / 90]))


def test_the_score_of_a_photo_is_over_the_classes_of_either_map():
    assert metrics.photo_score(7, np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])) == (7, 37.5, 75.0)
    assert metrics.photo_score(7, np.zeros((4, 4), int)) is None


def test_each_photo_is_scored_by_itself():
    photos = made_up_photos(SIZES)
    photos.samples[4] = (photos.samples[4][0], np.full_like(photos.samples[4][1], -1))
    evaluator = inference.Evaluator(PixelNetwork(), photos, NORMALISE, pixels=2 * 6 * 8)
    found = findings.measure(evaluator, matrix(), len(photos))
    assert [one.photo for one in found.photos] == [0, 1, 2, 3, 5, 6, 7]
    for one in found.photos:
        image, label = photos.samples[one.photo]
        guess = inference.Predictor(PixelNetwork(), NORMALISE)(matrix(), image, label.shape)
        known = label >= 0
        ious = [
            np.sum((label == c) & (guess == c)) / np.sum(known & ((label == c) | (guess == c)))
            for c in range(len(CLASSES))
            if np.any(known & ((label == c) | (guess == c)))
        ]
        assert one.miou == pytest.approx(100 * np.mean(ious))
        assert one.right == pytest.approx(100 * np.mean(label[known] == guess[known]))
    assert found.scores == evaluator(matrix())


def test_processes_exchange_the_scores_of_their_photos(monkeypatch):
    own = [[PhotoScore(0, 100 / 3, 99.9)], [PhotoScore(1, 0.0, 0.0), PhotoScore(3, 100.0, 50.0)]]
    tables = []
    monkeypatch.setattr(findings.jax, "process_count", lambda: 2)
    monkeypatch.setattr(findings.distributed, "total", lambda table: tables.append(table) or table)
    for found in own:
        findings._of_all(found, 4)
    monkeypatch.setattr(findings.distributed, "total", lambda table: sum(tables))
    for found in own:
        of_all = findings._of_all(found, 4)
        assert [one.photo for one in of_all] == [0, 1, 3]
        np.testing.assert_allclose([one[1:] for one in of_all], [one[1:] for some in own for one in some], atol=1e-8)


def test_a_matrix_of_many_classes_is_drawn_in_part(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        findings.figures, "confusion_matrix", lambda counts, classes: drawn.append((counts, classes)) or b""
    )
    rng = np.random.default_rng(0)
    counts = np.pad(rng.integers(0, 9, (70, 70)), (0, 1))
    counts[5, 60] = 10**6
    section = findings.confusions_section(counts, [f"c{i}" for i in range(70)])
    ((shown, names),) = drawn
    assert len(names) == len(shown) == 25 and names[-1] == "(other classes)" and {"c5", "c60"} <= set(names)
    assert shown.sum() == counts.sum()
    ids = [int(name[1:]) for name in names[:-1]]
    np.testing.assert_array_equal(shown[:-1].sum(axis=1), counts[ids].sum(axis=1))
    assert section.text.startswith("100 % of the pixels of c5 are called c60, which is 9")


def test_csv(tmp_path):
    findings.confusions_csv(tmp_path / "c.csv", np.array(COUNTS), ("sky, cloudy", "road", "car"))
    rows = list(csv.reader((tmp_path / "c.csv").open()))
    assert rows[0][1:] == ["sky, cloudy", "road", "car"] and rows[1] == ["sky, cloudy", "70", "30", "0"]
    assert len(rows) == 4


def test_the_worst_photos_come_before_the_best(monkeypatch):
    """Of ten photos four of each, the worst one first among the worst, and the best one among the best."""
    shown = []
    monkeypatch.setattr(findings, "_grid", lambda photos, *rest: shown.append([one.photo for one in photos]) or b"")
    scores = [
        PhotoScore(photo, float(miou), 50.0) for photo, miou in enumerate([50, 10, 90, 30, 70, 20, 80, 40, 60, 0])
    ]
    findings.photos_section(scores, made_up_photos(SIZES), lambda photo, size: None, np.zeros((3, 3), np.uint8))
    assert shown == [[9, 1, 5, 3], [2, 6, 4, 8]]
