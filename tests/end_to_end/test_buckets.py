"""One run with everything in a bucket, beside the same on disk; the long forms are commands (end_to_end/buckets.py)."""

import jax
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import config as config_files
from mdp_jax.storage import buckets, checkpoints
from mdp_jax.training.transfer import transfer
from tests.end_to_end import buckets as study
from tests.storage.emulators import started

pytestmark = pytest.mark.usefixtures("shallow")


def status_of(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    return stop.value.code, capsys.readouterr()


def test_a_run_in_a_bucket_is_the_run_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study.draw(tmp_path / "data")
    disk, few = str(tmp_path / "disk"), ("--config.devices=2", "--config.steps=4")
    assert status_of(study.words(str(tmp_path / "data"), disk, *few), capsys)[0] == 0
    with started("s3") as storage:
        data, run = f"{storage.url}/data", f"{storage.url}/runs/one"
        study.copied(tmp_path / "data", data)
        command = study.words(data, run, *few)
        storage.refuses = {"PUT"}
        code, said = status_of(command, capsys)
        assert code == 2 and said.err.count("\n") == 1 and "no right to write there" in said.err
        storage.refuses = set()
        storage.faults[:] = ["ok"] * 40 + ["503", "cut", "503", "slow"]
        code, said = status_of(command, capsys)
        assert code == 0, said
        assert not storage.faults
        assert study.require_same(run, disk) > 50
        assert {"report.html", "config.json", "label_space.json"} <= set(buckets.entries(run))
        assert not [name for name in buckets.entries(run) if name.startswith(("run.lock", ".mdp"))]
        for words in (
            ["evaluate", "--checkpoint", run],
            ["inspect", "--checkpoint", run, "--map", "none"],
            ["convert", "--from", "mdp", "--to", "mmseg", run, f"{storage.url}/w.safetensors"],
            ["predict", "--checkpoint", run, "--as", "town", "--out", f"{storage.url}/out", f"{data}/town/images/val"],
        ):
            code, said = status_of(words, capsys)
            assert code == 0, said
        assert {"evaluation.json", "inspect"} <= set(buckets.entries(run))
        assert {"0000.png", "0000_overlay.jpg"} <= set(buckets.entries(f"{storage.url}/out"))
        # --init of both forms, into a network of zeros.
        saved = checkpoints.choose(run).saved.state
        zeros = jax.tree.map(np.zeros_like, saved)
        for init in (run, f"{storage.url}/w.safetensors"):
            taken = transfer(init, ("backbone", "decoder"), zeros["params"], zeros["batch_stats"])
            for part in ("backbone", "decoder"):
                jax.tree.map(np.testing.assert_array_equal, taken.params[part], saved["params"][part])
        assert config_files.load(f"{data}/finetune.py").dataset.name == "town"
        code, said = status_of(["pretrain", "--config", f"{data}/none.py", "--workdir", run], capsys)
        assert code == 2 and "no such object" in said.err
