"""mdp_jax/commands/evaluate.py: the command on a workdir of seeded weights."""

import json
import shutil

import cv2
import numpy as np
import pytest

from mdp_jax import cli, configs
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import metrics, scoring, workdirs
from mdp_jax.evaluation.scores import write_scores
from tests.evaluation import finetuned


@pytest.fixture(autouse=True)
def quick_network(monkeypatch):
    monkeypatch.setattr(scoring.network, "segmenter", lambda model_config, num_classes: finetuned.StridedNetwork())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data_dir, workdir, config, variables)."""
    folder = tmp_path_factory.mktemp("evaluate")
    finetuned.write_dataset(folder / "data" / "noise")
    config, variables = finetuned.write_workdir(folder / "run", folder / "data")
    return folder / "data", folder / "run", config, variables


def scores_by_a_loop(made, **views):
    data_dir, _, config, variables = made
    counts = np.zeros((4, 4), int)
    for name in "abc":
        image = cv2.imread(str(data_dir / "noise" / "images" / "val" / f"{name}.png"))[..., ::-1]
        mask = cv2.imread(str(data_dir / "noise" / "masks" / "val" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        labels = finetuned.expected_labels(config, variables, image, mask.shape, **views)
        for truth, guess in zip(mask[mask < 255].tolist(), labels[mask < 255].tolist(), strict=True):
            counts[truth, guess] += 1
    assert len(set(np.flatnonzero(counts.sum(axis=0)))) > 1  # more than one class is predicted
    return metrics.scores(counts, finetuned.CLASSES) | {"images": 3}


def test_scores_table_and_json(made, capsys):
    run, expected = made[1], scores_by_a_loop(made)
    assert cli.run(["evaluate", "--checkpoint", str(run)]) == 0
    assert json.loads((run / "evaluation.json").read_text()) == {"datasets": {"noise": expected}, "step": 0}
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.strip()]
    names = ("per_class", "per_class_accuracy", "per_class_precision", "per_class_dice")
    assert ["sky", *(f"{expected[name]['sky']:.2f}" for name in names)] in rows
    first = next(number for number, row in enumerate(rows) if row[0] == "sky")
    shown = [row[0] for row in rows[first : first + 8]]
    assert shown == ["sky", "road", "car", "mIoU", "mAcc", "mPrecision", "mDice", "aAcc"]
    assert "3 photos of 2 shapes" in printed.out
    assert "photo 3/3" in printed.err


@pytest.mark.parametrize(
    ("arguments", "views", "said", "written", "name"),
    [
        (
            "--mode slide --config.data.crop=(16,24)",
            {"windows": ((16, 24), (11, 16))},
            "windows of 16x24 every 11x16",
            {"crop": [16, 24], "stride": [11, 16], "scales": [1.0], "flip": False},
            "evaluation_slide16x24_changed.json",
        ),
        (
            "--scales 0.75 1.5 --flip",
            {"scales": (0.75, 1.5), "flips": (1, -1)},
            "scales 0.75 1.5, mirrored too",
            {"crop": None, "stride": None, "scales": [0.75, 1.5], "flip": True},
            "evaluation_scales_flip.json",
        ),
    ],
    ids=["slide", "scales"],
)
def test_several_views(made, capsys, arguments, views, said, written, name):
    cli.run(["evaluate", "--checkpoint", str(made[1])])
    plain = (made[1] / "evaluation.json").read_bytes()
    run, expected = made[1], scores_by_a_loop(made, **views)
    assert expected != scores_by_a_loop(made)
    assert cli.run(["evaluate", "--checkpoint", str(run), *arguments.split()]) == 0
    assert (run / "evaluation.json").read_bytes() == plain  # which nothing but the same way of scoring replaces
    found = json.loads((run / name).read_text())
    changed = {"config": {"data.crop": "(16,24)"}} if "--config" in arguments else {}
    assert found == {"datasets": {"noise": expected}, "views": written, "step": 0} | changed
    assert said in " ".join(capsys.readouterr().out.split())


def test_another_split_has_a_file_of_its_own(made, capsys):
    run = made[1]
    (run / "evaluation_train.html").touch()  # of a command with --page
    before = (run / "evaluation.json").read_bytes() if (run / "evaluation.json").exists() else None
    cli.run(["evaluate", "--checkpoint", str(run), "--split", "train", "--config.data.short_side=16"])
    assert f"{run}/evaluation_train.html: of an earlier command, and not written again" in capsys.readouterr().err
    assert json.loads((run / "evaluation_train.json").read_text())["datasets"]["noise"]["images"] == 1
    assert before == ((run / "evaluation.json").read_bytes() if before else None)


def test_training_photos_are_scored_in_the_size_of_their_own_masks(made, monkeypatch):
    genuine, sizes = scoring.Evaluator, []

    def evaluator(scorer, source, *rest, **more):
        sizes.append((source[0]["image"].shape[:2], source[0]["label"].shape))
        return genuine(scorer, source, *rest, **more)

    monkeypatch.setattr(scoring, "Evaluator", evaluator)
    cli.run(["evaluate", "--checkpoint", str(made[1]), "--split", "train", "--config.data.short_side=12"])
    assert sizes == [((12, 16), (24, 32))]


def test_a_dataset_of_other_classes_is_one_line(made, tmp_path, capsys):
    data_dir, run, _, _ = made
    shutil.copytree(data_dir, tmp_path / "data")
    (tmp_path / "data" / "noise" / "classes.txt").write_text("sky\nstreet\ncar\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "--checkpoint", str(run), f"--config.data_dir={tmp_path / 'data'}"])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and "class 1 is 'street'" in message and "'road'" in message


@pytest.mark.parametrize("key", ["method.temperature=0.0", "model.output_stride=16", "seed=1", "objective=mdp"])
def test_what_the_training_fixed_cannot_be_changed(made, key):
    before = (made[1] / "evaluation.json").stat().st_mtime_ns
    with pytest.raises(
        UserError, match=rf"--config\.{key.split('=')[0]}: (fixed when .* was trained|no such key); expected a"
    ):
        cli.run(["evaluate", "--checkpoint", str(made[1]), f"--config.{key}"])
    assert (made[1] / "evaluation.json").stat().st_mtime_ns == before


def test_values_that_cannot_be_are_refused(made):
    with pytest.raises(UserError, match=r"config\.data\.threads=0: expected at least 1"):
        cli.run(["evaluate", "--checkpoint", str(made[1]), "--config.data.threads=0"])


@pytest.mark.parametrize("extra", [["--mode", "windows"], ["--split", "all"], ["--config.no_such_key=1"]])
def test_wrong_use_is_an_error_of_the_user(made, extra):
    with pytest.raises(UserError):
        cli.run(["evaluate", "--checkpoint", str(made[1]), *extra])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--scales 1 0", "--scales 1 0: expected factors above 0"),
        ("--scales half", "'half'; expected a number"),
        ("--mode slide --crop 16 16 --stride 16 17", "--stride 16 17: expected 1 pixel to those of --crop 16 16"),
        ("--mode slide --crop 16", "--crop: expected 2 arguments"),
        ("--crop 16 16", "--crop 16 16: has a meaning with --mode slide alone"),
    ],
)
def test_views_that_cannot_be_are_one_line(made, capsys, arguments, message):
    run = made[1]
    before = sorted((file.name, file.stat().st_mtime_ns) for file in run.iterdir())
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "--checkpoint", str(run), *arguments.split()])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and message in said
    assert before == sorted((file.name, file.stat().st_mtime_ns) for file in run.iterdir())


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
        scoring.require_classes(Classes(classes), ("sky", "road"), "runs/w")
    scoring.require_classes(Classes(classes), classes, "runs/w")


def test_scores_of_nothing_measured_become_null(tmp_path):
    scores = metrics.scores(np.zeros((3, 3), int), ["sky", "road"]) | {"images": 1}
    write_scores(tmp_path, {"noise": scores})
    assert '"mIoU": null' in (tmp_path / "evaluation.json").read_text()


def test_scores_of_other_photos_do_not_replace_those_that_the_report_is_of(made, tmp_path, capsys):
    data, run = shutil.copytree(made[0], tmp_path / "data"), shutil.copytree(made[1], tmp_path / "run")
    command = ["evaluate", "--checkpoint", str(run), f"--config.data_dir={data}"]
    config = configs.typed_finetune(made[2])
    photos = {"noise": sources.photos_of(sources.open_source(config.dataset, config.data, str(data), "val", 0))}
    loaded = workdirs.load(run)
    before = (run / "evaluation.json", scoring.score(loaded))
    write_scores(run, before[1], photos=photos, chosen=loaded.chosen)
    text = before[0].read_text()
    assert cli.run(command) == 0
    assert before[0].read_text() == text and "not the photos" not in capsys.readouterr().err
    mask = data / "noise" / "masks" / "val" / "a.png"
    cv2.imwrite(str(mask), 2 - cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) // 127)
    assert cli.run(command) == 0
    assert before[0].read_text() == text
    assert "mdp: these are not the photos that evaluation.json and report.html are of" in capsys.readouterr().err
    changed = json.loads((run / "evaluation_changed.json").read_text())
    assert changed["datasets"] != before[1] and changed["photos"] != photos
    before[0].write_text('{"datasets": {}, "photos": 3}')
    with pytest.raises(UserError, match=r"evaluation\.json: photos is 3; expected an object"):
        cli.run(command)
