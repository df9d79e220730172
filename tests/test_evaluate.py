"""mdp_jax/evaluate.py: the command on a workdir of seeded weights."""

import json
import shutil

import cv2
import numpy as np
import pytest

from mdp_jax import cli, evaluate
from mdp_jax.errors import UserError
from mdp_jax.evaluation import metrics
from tests.evaluation import finetuned


@pytest.fixture(autouse=True)
def quick_network(monkeypatch):
    monkeypatch.setattr(evaluate.network, "segmenter", lambda model_config, num_classes: finetuned.StridedNetwork())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data_dir, workdir, config, variables)."""
    folder = tmp_path_factory.mktemp("evaluate")
    finetuned.write_dataset(folder / "data" / "noise")
    config, variables = finetuned.write_workdir(folder / "run", folder / "data")
    return folder / "data", folder / "run", config, variables


def test_scores_table_and_json(made, capsys):
    data_dir, run, config, variables = made
    assert cli.run(["evaluate", "--checkpoint", str(run)]) == 0
    counts = np.zeros((4, 4), int)
    for name in "abc":
        image = cv2.imread(str(data_dir / "noise" / "images" / "val" / f"{name}.png"))[..., ::-1]
        mask = cv2.imread(str(data_dir / "noise" / "masks" / "val" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        labels = finetuned.expected_labels(config, variables, image, mask.shape)
        for truth, guess in zip(mask[mask < 255].tolist(), labels[mask < 255].tolist(), strict=True):
            counts[truth, guess] += 1
    expected = metrics.scores(counts, finetuned.CLASSES) | {"images": 3}
    assert len(set(np.flatnonzero(counts.sum(axis=0)))) > 1  # more than one class is predicted
    assert json.loads((run / "evaluation.json").read_text()) == {"datasets": {"noise": expected}}
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.strip()]
    assert ["sky", f"{expected['per_class']['sky']:.2f}"] in rows
    assert [row[0] for row in rows[-6:]] == ["sky", "road", "car", "mIoU", "mAcc", "aAcc"]
    assert "3 photos of 2 shapes" in printed.out
    assert "photo 3/3" in printed.err


def test_another_split_has_a_file_of_its_own(made):
    run = made[1]
    before = (run / "evaluation.json").read_bytes() if (run / "evaluation.json").exists() else None
    cli.run(["evaluate", "--checkpoint", str(run), "--split", "train", "--config.data.short_side=16"])
    assert json.loads((run / "evaluation_train.json").read_text())["datasets"]["noise"]["images"] == 1
    assert before == ((run / "evaluation.json").read_bytes() if before else None)


def test_a_dataset_of_other_classes_is_one_line(made, tmp_path, capsys):
    data_dir, run, _, _ = made
    shutil.copytree(data_dir, tmp_path / "data")
    (tmp_path / "data" / "noise" / "classes.txt").write_text("sky\nstreet\ncar\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "--checkpoint", str(run), f"--config.data_dir={tmp_path / 'data'}"])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and "class 1 is 'street'" in message and "'road'" in message


@pytest.mark.parametrize("extra", [["--mode", "slide"], ["--split", "all"], ["--config.no_such_key=1"]])
def test_wrong_use_is_an_error_of_the_user(made, extra):
    with pytest.raises(UserError):
        cli.run(["evaluate", "--checkpoint", str(made[1]), *extra])


def test_a_missing_workdir_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        cli.run(["evaluate", "--checkpoint", str(tmp_path / "nowhere")])


class Classes:
    name = "noise"

    def __init__(self, classes):
        self.classes = classes


@pytest.mark.parametrize("classes", [("sky",), ("sky", "road", "car"), ("road", "sky")])
def test_classes_must_agree_in_number_and_order(classes):
    with pytest.raises(UserError, match="noise"):
        evaluate.require_classes(Classes(classes), ("sky", "road"), "runs/w")
    evaluate.require_classes(Classes(classes), classes, "runs/w")


def test_scores_of_nothing_measured_become_null(tmp_path):
    scores = metrics.scores(np.zeros((3, 3), int), ["sky", "road"]) | {"images": 1}
    evaluate.write_scores(tmp_path, "noise", scores)
    assert '"mIoU": null' in (tmp_path / "evaluation.json").read_text()
