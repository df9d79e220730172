"""mdp_jax/commands/report.py: several workdirs side by side, made up of the files that runs leave."""

import csv
import json

import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from mdp_jax.errors import UserError
from mdp_jax.evaluation import side_by_side
from tests import tiny


def write_run(folder, config, dataset, miou, per_class, checkpoint=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(configs.to_dict(config)))
    rows = [{"step": 4, "loss": 2.0, "lr": 0.1}, {"step": 8, "loss": 1.0, "lr": 0.05}, {"step": 8, "val_mIoU": miou}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # As an earlier version wrote them: without Dice and the other measures of a class.
    scores = {"mIoU": miou, "mAcc": 2 * miou, "aAcc": 60.0, "per_class": per_class, "images": 3}
    more = {"checkpoint": checkpoint} if checkpoint else {}
    (folder / "evaluation.json").write_text(json.dumps({"datasets": {dataset: scores}} | more))


@pytest.fixture
def runs(tmp_path):
    slow, fast = tiny.finetune_config(), tiny.finetune_config(optim__lr=0.5, seed=2, init="w")
    write_run(tmp_path / "one" / "valley", slow, "valley", 30.0, {"sky": 50.0, "road": 10.0})
    best = {"step": 4, "best": True}
    write_run(tmp_path / "two" / "valley", fast, "valley", 33.0, {"sky": 48.0, "road": 18.0}, best)
    write_run(tmp_path / "harbor", slow, "harbor", 41.0, {"sky": None, "boat": 41.0})
    return tmp_path


def report(folder, *names):
    out = ["--out", str(folder / "page.html"), "--csv", str(folder / "all.csv")]
    assert cli.run(["report", *(str(folder / name) for name in names), *out]) == 0
    return (folder / "page.html").read_text(), list(csv.reader((folder / "all.csv").open()))


def test_two_runs_of_one_set(runs, capsys):
    page, rows = report(runs, "one/valley", "two/valley")
    assert [row[:5] for row in rows[1:]] == [  # the better one first
        ["valley", "two/valley", "best, step 4", "3", "33.0"],
        ["valley", "one/valley", "last, step 8", "3", "30.0"],
    ]
    assert rows[1][-1] == "road (18.0)"
    assert "two/valley" in capsys.readouterr().out
    for row in ("<td>optim.lr</td><td>0.01</td><td>0.5</td>", "<td>init</td><td>&#x27;scratch&#x27;</td>"):
        assert row in page
    # Of each class both runs, and how far they are apart.
    road = '<td>road</td><td class="number">10.00</td><td class="number">18.00</td><td class="number">8.00</td>'
    assert road in page
    assert page.count("data:image/png;base64,") == 1


@pytest.mark.parametrize(("step", "words"), [(8, "last, step 8"), (4, "step 4")])
def test_scores_from_before_the_run_went_on(runs, step, words):
    """`mdp evaluate` took the newest checkpoint; the run, of 8 steps now, may have gone on since."""
    file = runs / "harbor" / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"step": step}))
    assert report(runs, "harbor")[1][1][:3] == ["harbor", "harbor", words]


def test_a_mean_over_all_sets_needs_each_of_them(runs):
    file = runs / "harbor" / "evaluation.json"
    scores = json.loads(file.read_text())["datasets"]["harbor"]
    file.write_text(json.dumps({"datasets": {"harbor": scores | {"mDice": 80.0, "aAcc": None}}}))
    _, rows = report(runs, "one/valley", "harbor")
    assert rows[-1][0] == "mean of 2 sets"
    # mIoU (30 + 41) / 2, mAcc (60 + 82) / 2; harbor has no aAcc, and valley no mDice.
    assert rows[-1][4:8] == ["35.5", "71.0", "", ""]


def test_one_table_over_all_sets(runs):
    page, rows = report(runs, "one/valley", "harbor")
    assert [(row[0], row[4]) for row in rows[1:]] == [
        ("valley", "30.0"),
        ("harbor", "41.0"),
        ("mean of 2 sets", "35.5"),
    ]
    assert "Classes" not in page


def test_a_workdir_that_has_not_trained(runs):
    """As after `mdp adopt --append`, with the steps of another workdir's checkpoint."""
    (runs / "harbor" / "metrics.jsonl").unlink()
    _, rows = report(runs, "harbor")
    assert rows[1][:3] == ["harbor", "harbor", "last"]


def test_a_run_without_scores_is_said(runs):
    (runs / "harbor" / "evaluation.json").unlink()
    page, rows = report(runs, "one/valley", "harbor")
    assert len(rows) == 2 and "Not scored yet: harbor; mdp evaluate scores them." in page


def test_a_pretraining_beside_a_finetuning(runs):
    write_run(runs / "p", tiny.pretrain_config(), "harbor", 20.0, {"sky": 20.0})
    found = side_by_side.read([runs / "p", runs / "harbor"])
    assert [run.loop for run in found] == ["pretraining", "fine-tuning"]
    assert [row[1:4] for row in side_by_side.runs_table(found).rows] == [
        ["pretraining", "harbor, town", "scratch"],
        ["fine-tuning", "valley", "scratch"],
    ]
    assert len(side_by_side.curves(found)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such folder; expected the workdir of a run"),
        ([""], "config.json: missing; expected the workdir of a run"),
        (["harbor/config.json"], "harbor/config.json: no such folder; expected the workdir of a run"),
        (["harbor", "one/../harbor"], "harbor: named twice; expected different workdirs"),
        (["harbor", "--out", "nowhere/x.html"], r"--out nowhere/x\.html: expected a file in a folder that exists"),
        (["harbor", "--config.steps=1"], r"--config\.steps: mdp report has no config"),
    ],
)
def test_wrong_use_is_one_line(runs, words, message, monkeypatch):
    monkeypatch.chdir(runs)
    with pytest.raises(UserError, match=message):
        cli.run(["report", *([str(runs)] if words == [""] else words)])
    assert not (runs / "runs.html").exists()
