"""The quickstart from end to end, with a few steps of a small network; docs/results.md has its real size."""

import json

import pytest

from mdp_jax import cli
from mdp_jax.commands import quickstart
from mdp_jax.errors import UserError


@pytest.mark.usefixtures("plain_pages")
def test_quickstart(shallow, tmp_path, capsys):
    small = ["--config.steps=2", "--config.model.width=0.0625", "--config.model.decoder.channels=8"]
    small += ["--config.data.crop=(32,32)", "--config.batch=4", "--config.devices=1"]
    assert cli.run(["quickstart", "--workdir", str(tmp_path / "q"), *small]) == 0
    summary = json.loads((tmp_path / "q" / "summary.json").read_text())
    assert set(summary) == {"pretrained", "scratch", "seconds"}
    page = (tmp_path / "q" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert all(name in page for name in ("harbor", "meadow", "town", "valley"))
    out = capsys.readouterr().out
    for start in ("pretrained", "scratch"):
        scores = json.loads((tmp_path / "q" / start / "evaluation.json").read_text())
        assert summary[start] == round(scores["datasets"]["valley"]["mIoU"], 2)
    assert "pretrained" in out


@pytest.mark.parametrize("key", ["method.temperature=0.2", "trainable=head"])  # of the pretraining, of the fine-tuning
def test_values_that_one_loop_alone_has_are_refused_before_anything_runs(tmp_path, key):
    with pytest.raises(UserError, match=f"--config.{key.split('=')[0]}: no such key"):
        cli.run(["quickstart", "--workdir", str(tmp_path / "q"), f"--config.{key}"])
    assert not (tmp_path / "q").exists()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty and not of a quickstart"):
        cli.run(["quickstart", "--workdir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_quickstart_that_was_killed_at_once_begins_again(tmp_path, monkeypatch):
    """Its folder has that of the pretraining, and nothing in it tells of a run yet."""
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "run.lock").touch()
    begun = []
    monkeypatch.setattr(quickstart, "pretrain", lambda config, folder, **_: begun.append(folder))
    monkeypatch.setattr(quickstart, "finetune", lambda *_, **__: (_ for _ in ()).throw(UserError("far enough")))
    with pytest.raises(UserError, match="far enough"):
        cli.run(["quickstart", "--workdir", str(tmp_path)])
    assert begun == [tmp_path / "pretrain"]
