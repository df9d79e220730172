"""One run with everything in a bucket, beside the same on disk; the long forms are commands (end_to_end/buckets.py)."""

import argparse
import importlib
import json
import os
import re
import types
from unittest import mock

import jax
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import config as config_files
from mdp_jax.commands import arguments, reproduce, serve
from mdp_jax.commands.data import COMMANDS
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.evaluation import scoring
from mdp_jax.planning import steps
from mdp_jax.storage import buckets, checkpoints
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.paths import as_path
from mdp_jax.training.transfer import transfer
from tests import small
from tests.end_to_end import buckets as study
from tests.storage.emulators import started

pytestmark = pytest.mark.usefixtures("shallow", "shared_programs")
OF_THIS_MACHINE = {arguments.path, arguments.named_here, arguments.workdir_here}


@pytest.fixture(scope="module", autouse=True)
def plain_pages():
    with small.pages():
        yield


def status_of(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    return stop.value.code, capsys.readouterr()


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """S3 on loopback with two small sets in it, and a cache of their photos."""
    folder = tmp_path_factory.mktemp("bucket")
    study.draw(folder / "data")
    with pytest.MonkeyPatch.context() as patch, started("s3") as found:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        study.copied(folder / "data", f"{found.url}/data")
        found.on_disk = folder / "data"
        yield found
        assert not [name for name in os.listdir() if ":" in name]  # a folder s3: of this machine


@pytest.fixture(scope="module")
def run(storage):
    """A workdir in the bucket, of a few steps on the sets there; other tests do not write over it."""
    place = f"{storage.url}/runs/one"
    storage.faults[:] = ["ok"] * 40 + ["503", "cut", "503", "slow"]
    with pytest.raises(SystemExit) as stop:
        cli.main(study.words(f"{storage.url}/data", place, "--config.devices=2", "--config.steps=4"))
    assert stop.value.code == 0 and not storage.faults
    return place


def test_a_bucket_without_the_right_to_write_is_one_line(storage, capsys):
    storage.refuses = {"PUT"}
    try:
        code, said = status_of(study.words(f"{storage.url}/data", f"{storage.url}/runs/none"), capsys)
    finally:
        storage.refuses = set()
    assert code == 2 and said.err.count("\n") == 1 and "no right to write there" in said.err


def test_a_run_in_a_bucket_is_the_run_on_disk(storage, run, tmp_path, capsys):
    disk, few = str(tmp_path / "disk"), ("--config.devices=2", "--config.steps=4")
    assert status_of(study.words(str(storage.on_disk), disk, *few), capsys)[0] == 0
    assert study.require_same(run, disk) > 50
    assert {"report.html", "config.json", "label_space.json"} <= set(buckets.entries(run))
    assert not [name for name in buckets.entries(run) if name.startswith(("run.lock", ".mdp"))]


def test_what_reads_a_run(storage, run, capsys):
    data = f"{storage.url}/data"
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


@pytest.mark.usefixtures("plain_pages")
def test_a_finetuning_in_a_bucket_is_the_one_on_disk(storage, run, tmp_path, capsys):
    data, disk, made = f"{storage.url}/data", str(tmp_path / "disk"), f"{storage.url}/made/finetuned"
    words = ["finetune", "--config", f"{data}/finetune.py", "--init", run]
    words += ["--config.devices=2", "--config.steps=2", "--config.evaluate_every=1"]
    for data_dir, workdir in ((str(storage.on_disk), disk), (data, made)):
        code, said = status_of([*words, f"--config.data_dir={data_dir}", "--workdir", workdir], capsys)
        assert code == 0, said
    assert study.require_same(made, disk) > 50
    assert set(os.listdir(disk)) - set(buckets.entries(made)) <= {"metrics.jsonl", "run.lock", *events_in(disk)}
    best = [checkpoints.choose(workdir, checkpoints.BEST) for workdir in (made, disk)]
    jax.tree.map(np.testing.assert_array_equal, *(found.saved.state for found in best))
    scores = [json.loads(as_path(workdir).joinpath("evaluation.json").read_bytes()) for workdir in (made, disk)]
    assert scores[0] == scores[1] and best[0].step == best[1].step
    code, said = status_of([*words, f"--config.data_dir={data}", "--workdir", f"{storage.url}/runs/one"], capsys)
    assert code == 2 and said.err.strip().splitlines()[-1].startswith(
        f"mdp: {run}: the workdir of mdp pretrain; expected"
    )


def events_in(folder):
    """The logs of TensorBoard in a folder; of a bucket they have names of their own."""
    return [name for name in os.listdir(folder) if name.startswith("events.out.tfevents")]


def test_scores_that_could_not_be_written_are_not_taken(storage, run, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "measure", lambda *_: pytest.fail("photos were scored"))
    monkeypatch.setattr(storage, "refuses", {"PUT"})
    code, said = status_of(["evaluate", "--checkpoint", run], capsys)
    assert code == 2 and f"--checkpoint {run}: these credentials have no right to write there" in said.err


def test_tables_go_into_a_bucket(storage, monkeypatch, capsys):
    data, made = f"{storage.url}/data", f"{storage.url}/tables"
    monkeypatch.setattr(steps, "prepare", lambda cases: None)
    monkeypatch.setattr(steps, "rows", lambda cases, *_: [plan_row(case) for case in cases])
    of_data = ["--config", f"{data}/pretrain.py", f"--config.data_dir={data}"]
    plan = ["plan", *of_data, "--topology", "a10g:1", "--json", f"{made}/plan.json"]
    bench = ["bench", "data", *of_data, "--config.batch=16", "--seconds", "0.01", "--json", f"{made}/bench.json"]
    compare = ["compare", "--precision", "--backbone", "resnet18", "--json", f"{made}/compare.json"]
    for words in (plan, bench, [*bench, "--against", f"{made}/bench.json", "--margin", "0.99"], compare):
        code, said = status_of(words, capsys)
        assert code == 0, said
    assert json.loads(buckets.read(f"{made}/plan.json"))[0]["classes"] == 24  # of the photos in the bucket
    assert len(json.loads(buckets.read(f"{made}/bench.json"))) > 5 and json.loads(buckets.read(f"{made}/compare.json"))
    for words in (plan, bench, compare, ["report", data, "--out", f"{made}/plan.json"]):
        code, said = status_of([*words[:-1], words[-1].replace("mdp-tests", "no-such-bucket")], capsys)
        assert code == 2 and said.err.count("\n") == 1 and "no such bucket 'no-such-bucket'; expected one" in said.err


def plan_row(case):
    """A row as mdp plan prints it, without the compiled program."""
    row = {"topology": case.topology, "batch": case.config.batch, "classes": case.label_space.num_classes, "steps": 1}
    return row | {"over DCN (MiB)": 0, "verdict": ["fits"]}


SUITE = """from mdp_jax.studies.experiments import Contrast, Pretraining, Suite, Target


def get_suite():
    starts = tuple(Pretraining(name, "none", targets=("town",), seeds=1) for name in ("one", "two"))
    town = Target("town", "town", {config!r}, (("devices", "1"),))
    return Suite("here", "", starts, (town,), (Contrast("c", "same", (("one", "town"),), (("two", "town"),)),), ())
"""


def test_a_study_of_photos_in_a_bucket(storage, monkeypatch, tmp_path, capsys):
    """The runs themselves are those of mdp finetune; here none is carried out."""
    (tmp_path / "suite.py").write_text(SUITE.format(config=str(storage.on_disk / "finetune.py")))
    started_with = []
    monkeypatch.setattr(reproduce.Engine, "carry_out", lambda engine, chosen: started_with.extend(chosen))
    words = ["reproduce", "--suite", str(tmp_path / "suite.py"), "--workdir", str(tmp_path / "w")]
    words += ["--json", f"{storage.url}/study.json", "--data_dir"]
    code, said = status_of([*words, f"{storage.url}/data"], capsys)
    assert code == 0 and "2 of 2 fine-tunings are missing" in said.out
    assert [f"--config.data_dir={storage.url}/data" in each.words for each in started_with] == [True, True]
    photos = json.loads((tmp_path / "w" / "here" / "photos.json").read_text())
    assert [row["count"] for row in photos.values()] == [6, 2]
    assert json.loads(buckets.read(f"{storage.url}/study.json"))
    code, said = status_of([*words, f"{storage.url}/nowhere"], capsys)
    assert code == 2 and f"--data_dir {storage.url}/nowhere: no folder town in it; expected that dataset" in said.err
    for option in ("--suite", "--workdir", "--scores", "--docs"):
        code, said = status_of(["reproduce", "--suite", "full", option, f"{storage.url}/x"], capsys)
        assert code == 2 and f"{option}: {storage.url}/x: in a bucket, which this argument does not take" in said.err


def test_what_is_made_of_a_run(storage, run, monkeypatch, capsys):
    data, made = f"{storage.url}/data", f"{storage.url}/made"
    words = ["adopt", "--checkpoint", run, "--config", f"{data}/finetune.py", f"--config.data_dir={data}"]
    words += ["--workdir", f"{made}/adopted"]
    code, said = status_of(words, capsys)
    assert code == 0, said
    assert {"config.json", "evaluation.json", "checkpoints"} <= set(buckets.entries(f"{made}/adopted"))
    code, said = status_of(words, capsys)
    assert code == 2 and "adopted: holds a run; expected a new folder" in said.err
    export = ["export", "--checkpoint", f"{made}/adopted", "--out", f"{made}/exported", "--no_check"]
    export += ["--platforms", "cpu", "--size", "32", "32", "--batch", "1"]
    code, said = status_of(export, capsys)
    assert code == 0, said
    assert set(buckets.entries(f"{made}/exported")) == {"README.md", "classes.json", "model.stablehlo"}
    code, said = status_of(export, capsys)
    assert code == 2 and "exported: exists already; expected a new folder" in said.err
    # A server that ends at once; uvicorn's own settings of the log would close the streams that pytest captures.
    ends = types.SimpleNamespace(Config=mock.MagicMock(), Server=mock.MagicMock())
    monkeypatch.setattr(serve, "_web", lambda: serve._Web(pytest.importorskip("mdp_jax.serving.app"), ends))
    code, said = status_of(["serve", "--checkpoint", f"{made}/adopted", "--port", "0"], capsys)
    assert code == 0 and f"shows {made}/adopted" in said.out
    report = ["report", run, f"{made}/adopted", "--out", f"{made}/runs.html", "--csv", f"{made}/runs.csv"]
    code, said = status_of(report, capsys)
    assert code == 0, said
    assert buckets.read(f"{made}/runs.csv").startswith(b"set,run,") and b"<html" in buckets.read(f"{made}/runs.html")
    code, said = status_of(["report", run, "--out", made], capsys)
    assert code == 2 and f"--out {made}: expected a file in a folder that exists" in said.err
    # The config that is left in a bucket is one that a run can go on with.
    code, said = status_of(
        ["edit-bank", "--checkpoint", run, "--workdir", f"{made}/edited", "--drop", "harbor"], capsys
    )
    assert code == 0, said
    assert [source.name for source in config_files.load(f"{made}/edited/config.py").sources] == ["town"]
    assert LabelSpace.load(BucketPath(f"{made}/edited/label_space.json")).datasets[0][0] == "town"
    before, after = checkpoints.load(run).state, checkpoints.load(f"{made}/edited").state
    jax.tree.map(np.testing.assert_array_equal, before["params"], after["params"])


def test_work_on_data(storage, capsys):
    data, made = f"{storage.url}/data", f"{storage.url}/data-made"
    found = ["data", "check", "town", "--data_dir", data, "--json", f"{made}/found.json", "--html", f"{made}/page.html"]
    code, said = status_of(found, capsys)
    assert code == 0, said
    assert json.loads(buckets.read(f"{made}/found.json")) and b"<html" in buckets.read(f"{made}/page.html")
    code, said = status_of(["data", "browse", "town", "--data_dir", data, "--out", made, "--count", "1"], capsys)
    assert code == 0, said
    assert {"town.png", "town.html"} <= set(buckets.entries(made))
    prepare = ["data", "prepare", "town", "--data_dir", data, "--jobs", "2"]
    code, said = status_of(prepare, capsys)
    assert code == 0, said
    records = f"{data}/prepared/town"
    assert {"manifest.json", "features.json", "dataset_info.json"} < set(buckets.entries(records))
    storage.requests.clear()
    code, said = status_of(prepare, capsys)
    assert code == 0 and "2 of 2 shards are there and whole" in said.err
    assert not [path for method, path in storage.requests if method == "PUT" and "array_record" in path]
    code, said = status_of([*prepare, "--archive", "x.zip"], capsys)
    assert code == 2 and "--archive: --data_dir s3://" in said.err
    check = ["data", "check", "town", "--kind", "array_record", "--data_dir", data, "--splits", "train,val"]
    code, said = status_of(check, capsys)
    assert code == 0, said


def every_parser():
    """The words of each part and command, and its parser."""
    for name in [*cli.PARTS, *(f"data {command}" for command in COMMANDS)]:
        if name != "data":
            parser = argparse.ArgumentParser(prog=name)
            importlib.import_module(f"mdp_jax.commands.{re.sub('[ -]', '_', name)}").add_arguments(parser)
            yield name, parser


def test_the_document_names_what_takes_no_bucket(pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "scaling.md").read_text()
    table = text.split("## Buckets")[1].split("\n## ")[0]
    rows = {part: options for part, options in re.findall(r"^\| `mdp ([a-z -]+)` \| ([^|]+) \|", table, re.MULTILINE)}
    found = {}
    for name, parser in every_parser():
        named = [
            (action.option_strings or [action.metavar or action.dest])[0]
            for action in parser._actions
            if action.type in OF_THIS_MACHINE
        ]
        if named:
            found[name] = named
    assert {part: re.findall(r"`([^`]+)`", options) for part, options in rows.items()} == found
