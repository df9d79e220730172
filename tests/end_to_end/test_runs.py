"""Whole runs: what they leave behind, going on after being stopped, stopping on values that are not finite."""

import gzip
import json
import pathlib
import signal

import jax
import numpy as np
import pytest
from PIL import Image

import mdp_jax
from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.cli import run as mdp
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import NonFiniteError, PreemptedError, UserError
from mdp_jax.evaluation import findings, workdirs
from mdp_jax.evaluation.banks import history
from mdp_jax.evaluation.chosen_weights import weights_of
from mdp_jax.reporting import bank as bank_of
from mdp_jax.reporting import contact_sheet, figures
from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training import profiling, programs, sharding
from mdp_jax.training.best import Best
from mdp_jax.training.continuing import continue_from, with_first_average
from mdp_jax.training.finetuning import finetune
from mdp_jax.training.pretraining import pretrain
from mdp_jax.training.profiling import Profile
from mdp_jax.training.signals import Stop, StoppedError
from mdp_jax.weights import files
from mdp_jax.weights.init import load_init
from tests import tiny
from tests.data.fixtures import write_folder

pytestmark = pytest.mark.usefixtures("shallow", "shared_programs")


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_after(monkeypatch, name, batches):
    """Makes the pipeline's function `name` fail after so many batches."""
    genuine = getattr(pipeline, name)

    def stopping(*args, **kwargs):
        for i, batch in enumerate(genuine(*args, **kwargs)):
            if i == batches:
                raise Stopped
            yield batch

    monkeypatch.setattr(pipeline, name, stopping)


def values(workdir):
    """Rows of metrics.jsonl without the speed, which no two runs share."""
    speed = ("images_per_second", "data_wait_fraction")
    return [{key: value for key, value in row.items() if key not in speed} for row in read_metrics(workdir)]


def assert_same_state(workdir, expected):
    state, meta = checkpoint.load(workdir)
    expected_state, expected_meta = checkpoint.load(expected)
    jax.tree.map(np.testing.assert_array_equal, state, expected_state)
    assert meta == expected_meta


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The workdir of a pretraining run that was never stopped, with a profile of three of its steps."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    pretrain(tiny.pretrain_config(), folder, profile=Profile(5, 7))
    return folder


def averaging(pretrained, **overrides):
    """A fine-tuning from the workdir that keeps a moving average of its weights, and has an auxiliary head."""
    values = {"optim__ema_decay": 0.5, "model__auxiliary__weight": 0.4} | overrides
    return tiny.finetune_config(init=pretrained, **values)


@pytest.fixture(scope="module")
def finetuned(pretrained, tmp_path_factory):
    """The workdir of such a fine-tuning that was never stopped."""
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    finetune(averaging(pretrained), folder)
    return folder


def test_what_a_pretraining_run_leaves(pretrained):
    label_space = json.loads((pretrained / "label_space.json").read_text())
    assert label_space[0] == {"dataset": "harbor", "class": "air", "global_id": 0}
    assert [row["global_id"] for row in label_space] == list(range(len(label_space)))
    assert json.loads((pretrained / "config.json").read_text())["steps"] == 12
    rows = read_metrics(pretrained)
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert all(row["loss"] > 0 and row["images_per_second"] > 0 for row in rows)
    assert rows[-1]["classes_seen"] > 15
    assert list(pretrained.glob("events.out.tfevents.*"))
    page = (pretrained / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert all(words in page for words in ("How this was made", "harbor (synthetic), town (synthetic)", "mdp_jax 0"))
    assert "http://" not in page.replace("http://www.w3.org", "")
    state, meta = checkpoint.load(pretrained)
    assert meta["next_batch"] == 12
    assert meta["label_space"] == label_space
    assert sum(rows[-1]["dataset_images"]) == 12 * 8
    assert rows[-1]["dataset_images"] == [row[0] for row in meta["ledger"]]
    assert rows[-1]["dataset_valid_pixels"] == [sum(row[1:]) for row in meta["ledger"]]
    ledger, last_seen = np.array(meta["ledger"]), np.array(meta["last_seen"])
    np.testing.assert_array_equal(last_seen > 0, ledger > 0)
    assert last_seen.max() == last_seen[:, 0].max() == 12  # a photo and a pixel of the last batch
    assert {age for age in bank_of.ages([history(pretrained).steps[-1]]) if age} == {
        (12 - step, 12 - step) for step in last_seen[:, 1:].ravel().tolist() if step
    }
    bank = state["memory"]["bank"]
    norms = np.linalg.norm(bank["vectors"], axis=1)
    np.testing.assert_allclose(norms[bank["images_seen"] > 0], 1.0, atol=1e-5)


def test_a_profile_opens_in_tensorboard_and_perfetto(pretrained):
    """TensorBoard reads plugins/profile/TIME/*.xplane.pb and *.trace.json.gz, Perfetto perfetto_trace.json.gz."""
    (folder,) = (pretrained / "profile/steps_5_7/process_0/plugins/profile").iterdir()
    (file,) = folder.glob("*.xplane.pb")
    found = profiling.read(file)
    assert found.busy > 0 and found.seconds > 0
    assert min(found) >= 0 and sum(found[:3]) == pytest.approx(1)
    events = [
        event
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
    ]
    assert sorted(dict(event.stats)["step_num"] for event in events if event.name == "step") == [5, 6, 7]
    assert {"wait for data", "read photo", "augment", "finish"} <= {event.name for event in events}
    for name in ("*.trace.json.gz", "perfetto_trace.json.gz"):
        (file,) = set(folder.glob(name)) - (set(folder.glob("perfetto*")) if name[0] == "*" else set())
        shown = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        whole = [event for event in shown if event.get("ph") == "X"]
        assert len([event for event in whole if event["name"] == "step"]) == 3
        assert all(event["dur"] >= 0 and {"pid", "tid", "ts"} <= event.keys() for event in whole)


def test_what_a_finetuning_run_leaves(finetuned):
    rows = read_metrics(finetuned)
    assert [row["step"] for row in rows] == [4, 8, 8, 12, 12]
    assert "val_mIoU" in rows[2]
    scores = json.loads((finetuned / "evaluation.json").read_text())["datasets"]["valley"]
    assert scores["images"] == 3
    assert 0 <= scores["mIoU"] <= 100
    assert scores["mIoU"] == max(row.get("val_mIoU", 0) for row in rows)  # of the best checkpoint
    origins = json.loads((finetuned / "transfer.json").read_text())
    assert origins["source"].startswith("step 12 of the workdir")
    parts = {row["leaf"].split("/")[1]: row["from"] for row in origins["leaves"]}
    assert parts["classifier"] == "" and parts["backbone"].startswith("params/backbone/")
    assert {name.split("/")[1] for name in origins["not taken"]} == {"projection"}
    page = (finetuned / "report.html").read_text()
    assert "Where the weights come from" in page
    assert page.count("data:image/png;base64,") == 5  # photos, confusions, worst, best, curves
    for value in (scores["mIoU"], scores["mAcc"], scores["aAcc"], *scores["per_class"].values()):
        assert value is None or f">{value:.2f}<" in page  # the page is made of the scores of the file


@pytest.mark.usefixtures("plain_pages")
def test_scores_are_said_while_a_run_goes_on_and_at_its_end(tmp_path, capsys):
    config = tiny.finetune_config(steps=2, evaluate_every=1, optim__lr=1e-6, optim__lr_min=0.0)
    scores = finetune(config, tmp_path / "run")
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith(("step 1: ", "step 2: "))]
    assert len([line for line in lines if " mIoU " in line and " aAcc " in line]) == 2
    assert f"step {Best(tmp_path / 'run').step}: mIoU {scores['mIoU']:.2f} %" in printed.err
    # A network that has learnt nothing misses classes.
    assert any("never predicted: " in line or "predicts one class only: " in line for line in lines)
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["mIoU", f"{scores['mIoU']:.2f}"] in rows and ["sky"] not in rows
    (first, *_) = scores["per_class"]
    assert any(row[:1] == first.split()[:1] for row in rows)


@pytest.mark.usefixtures("plain_pages")
def test_the_colours_of_a_set_stay_with_its_run(tmp_path):
    """palette.txt is in the workdir, so that mdp predict has it wherever the data are by then."""
    root = write_folder(tmp_path / "mine", photos=4)
    (root / "palette.txt").write_text("1 2 3\n#040506\n7 8 9\n")
    config = tiny.finetune_config(steps=1, data_dir=tmp_path)
    with config.unlocked():
        config.dataset = base.folder("mine", "mine")
    finetune(config, tmp_path / "run")
    root.rename(tmp_path / "elsewhere")
    photo = tmp_path / "elsewhere" / "images" / "val" / "p0.jpg"
    mdp(["predict", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "out"), str(photo)])
    label = Image.open(tmp_path / "out" / "p0.png")
    assert label.mode == "P" and label.getpalette()[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert np.asarray(label).max() <= 2
    (tmp_path / "run" / "palette.json").write_text("[[1, 2, 3]]")
    with pytest.raises(UserError, match=r"palette\.json: expected 3 colours"):
        mdp(["predict", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "out"), str(photo)])
    (tmp_path / "elsewhere").rename(root)
    (root / "palette.txt").unlink()
    finetune(config, tmp_path / "run")
    assert not (tmp_path / "run" / "palette.json").exists()


def test_a_multi_head_run_has_no_bank_and_can_be_started_from(monkeypatch, tmp_path):
    folder, stopped = tmp_path / "run", tmp_path / "stopped"
    config = tiny.pretrain_config(objective="multi_head", steps=8)
    pretrain(config, folder)
    state, _ = checkpoint.load(folder)
    assert set(state["params"]) == {"backbone", "decoder", "classifier"}
    assert not state.get("memory")
    rows = read_metrics(folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert len(rows[0]["dataset_loss"]) == 2
    page = (folder / "report.html").read_text()
    assert "Training" in page
    assert "Prototypes" not in page
    with monkeypatch.context() as patch:
        stop_after(patch, "pretrain_batches", 5)
        with pytest.raises(Stopped):
            pretrain(config, stopped)
    pretrain(config, stopped)
    assert_same_state(stopped, folder)
    scores = finetune(tiny.finetune_config(init=str(folder), steps=1), tmp_path / "finetuned")
    assert scores["images"] == 3


def test_weights_come_from_the_query_encoder(pretrained, monkeypatch, tmp_path):
    genuine, seen = programs.finetuning, []

    def build(*args):
        built = genuine(*args)

        def step(state, batch):
            seen.append(jax.device_get(state.params["backbone"]))
            raise Stopped

        return built._replace(step=step)

    monkeypatch.setattr(programs, "finetuning", build)
    with pytest.raises(Stopped):
        finetune(tiny.finetune_config(init=pretrained), tmp_path / "run")
    state, _ = checkpoint.load(pretrained)
    jax.tree.map(np.testing.assert_array_equal, seen[0], state["params"]["backbone"])


@pytest.mark.usefixtures("plain_pages")
@pytest.mark.parametrize(("checkpoint_every", "stopped_after"), [(1, 1), (4, 11)])
def test_pretraining_goes_on_bit_for_bit(pretrained, monkeypatch, tmp_path, checkpoint_every, stopped_after):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, "pretrain_batches", stopped_after)
        pretrain(tiny.pretrain_config(checkpoint_every=checkpoint_every), tmp_path / "run")
    kept = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == stopped_after // checkpoint_every * checkpoint_every
    pretrain(tiny.pretrain_config(), tmp_path / "run")
    assert_same_state(tmp_path / "run", pretrained)


@pytest.mark.usefixtures("plain_pages")
def test_finetuning_goes_on_bit_for_bit(finetuned, pretrained, monkeypatch, tmp_path):
    config = averaging(pretrained)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, "finetune_batches", 9)
        finetune(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 8
    finetune(config, tmp_path / "run")
    assert_same_state(tmp_path / "run", finetuned)
    assert values(tmp_path / "run") == values(finetuned)


@pytest.mark.usefixtures("plain_pages")
def test_finetuning_that_is_told_to_stop(finetuned, pretrained, monkeypatch, tmp_path):
    """It saves after the step under way, at which it would have been scored too, and leaves that for later."""
    config = averaging(pretrained, checkpoint_every=100)
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="goes on after step 8"):
        patch.setattr(Stop, "reached", tiny.stop_after(8))
        finetune(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["8"]
    assert not any("val_mIoU" in row for row in read_metrics(tmp_path / "run"))
    finetune(averaging(pretrained), tmp_path / "run")
    assert_same_state(tmp_path / "run", finetuned)


@pytest.mark.usefixtures("plain_pages")
@pytest.mark.parametrize("step", [8, 12])
def test_finetuning_that_is_told_to_stop_while_it_validates(finetuned, pretrained, monkeypatch, tmp_path, step):
    """The validation is left, the step is saved; started again, also after its last step, the run is scored."""
    config = averaging(pretrained, checkpoint_every=100)

    def check(self):
        if len(list(read_metrics(tmp_path / "run"))) >= {8: 2, 12: 4}[step]:
            self.noted = signal.SIGINT
            raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match=f"goes on after step {step}") as stopped:
        patch.setattr(Stop, "check", check)
        finetune(config, tmp_path / "run")
    assert stopped.value.status == 130
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [str(step)]
    scores = finetune(averaging(pretrained), tmp_path / "run")
    states = [checkpoint.load(folder).state for folder in (tmp_path / "run", finetuned)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["datasets"]["valley"] == scores
    assert scores["images"] == 3


@pytest.mark.usefixtures("plain_pages")
def test_a_finished_run_started_again_changes_nothing(pretrained, tmp_path):
    before = {file: file.read_bytes() for file in pretrained.glob("checkpoints/12/**/*") if file.is_file()}
    pretrain(tiny.pretrain_config(), pretrained)
    assert before == {file: file.read_bytes() for file in pretrained.glob("checkpoints/12/**/*") if file.is_file()}


def test_non_finite_loss_keeps_the_last_good_checkpoint(monkeypatch, tmp_path):
    genuine = programs.pretraining

    def build(*args):
        built = genuine(*args)

        def poisoned(state, batch):
            state, metrics = built.step(state, batch)
            return state, metrics | {"loss": metrics["loss"] * (float("nan") if int(state.step) == 6 else 1.0)}

        return built._replace(step=poisoned)

    monkeypatch.setattr(programs, "pretraining", build)
    with pytest.raises(NonFiniteError, match="step 6: loss is nan"):
        pretrain(tiny.pretrain_config(), tmp_path / "run")
    assert int(checkpoint.load(tmp_path / "run")[0]["step"]) == 4
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [4]


def test_evaluate_agrees_with_the_run(finetuned, capsys):
    before = json.loads((finetuned / "evaluation.json").read_text())
    (finetuned / "evaluation.json").unlink()
    mdp(["evaluate", "--checkpoint", str(finetuned)])
    assert "mIoU" in capsys.readouterr().out
    now = json.loads((finetuned / "evaluation.json").read_text())
    assert now == {key: value for key, value in before.items() if key != "photos"}  # which only the run knows


def test_the_moving_average_is_what_is_used(finetuned, pretrained, tmp_path, capsys):
    """By all that takes a network; --weights plain gives the weights of the steps."""
    assert json.loads((finetuned / "evaluation.json").read_text())["weights"] == "ema"
    for nothing in ({}, {"ema": {}}):  # a checkpoint without an average, of an earlier version and of this one
        state = {"params": {}, "batch_stats": {}} | nothing
        assert weights_of(state, {"config": {}}, "", "a run").name == "plain"
        with pytest.raises(UserError, match="--weights ema: a run keeps no moving average"):
            weights_of(state, {"config": {}}, "ema", "a run")
    mdp(["evaluate", "--checkpoint", str(finetuned), "--weights", "plain", "--step", "last"])
    assert "step 12" in capsys.readouterr().out
    (file,) = finetuned.glob("evaluation*_plain.json")
    assert json.loads(file.read_text())["weights"] == "plain"
    saved = checkpoint.load(finetuned).state
    plain, average = (leaves["params"]["classifier"]["conv"]["kernel"] for leaves in (saved, saved["ema"]))
    assert not np.array_equal(plain, average)
    for weights, expected in (("", average), ("ema", average), ("plain", plain)):
        network = mdp_jax.load(finetuned, step="last", weights=weights)
        np.testing.assert_array_equal(network.variables["params"]["classifier"]["conv"]["kernel"], expected)
        assert set(network.variables["params"]) == {"backbone", "decoder", "classifier"}
        out = tmp_path / f"{weights or 'usual'}.safetensors"
        words = ["convert", "--from", "mdp", "--to", "mmseg", "--step", "last", str(finetuned), str(out)]
        mdp([*words, *(["--weights", weights] if weights else [])])
        written = files.read(str(out))[0]
        np.testing.assert_array_equal(
            written["decode_head.conv_seg.weight"], np.moveaxis(np.asarray(expected), (2, 3), (1, 0))
        )
        assert written["auxiliary_head.convs.0.bn.running_var"].shape == (256,)
        assert written["auxiliary_head.conv_seg.bias"].shape == written["decode_head.conv_seg.bias"].shape
        own = saved["ema"] if weights != "plain" else saved
        blank = [jax.tree.map(lambda leaf: np.asarray(leaf) + 1, own[part]) for part in ("params", "batch_stats")]
        back = load_init(out, *blank, checks.TRANSFERABLE)
        for taken, part in ((back.params, "params"), (back.batch_stats, "batch_stats")):
            jax.tree.map(np.testing.assert_array_equal, taken, own[part])
        assert ("step 12, moving average\n" in capsys.readouterr().out) == (weights != "plain")


def test_a_run_that_goes_on_with_another_choice_of_average(finetuned):
    """One without an average leaves it out; one that wants it, from a run without one, begins it with the weights."""
    saved = checkpoint.load(finetuned)
    label_space = LabelSpace.from_rows(saved.meta["label_space"])
    with_average, without = (
        jax.eval_shape(tiny.finetuning(config, sharding.make_mesh(2), label_space.num_classes).make)
        for config in (averaging("scratch"), averaging("scratch", optim__ema_decay=0.0))
    )
    left_out = continue_from(str(finetuned), "last", 99, without, label_space).state
    assert left_out.ema == {} and int(left_out.step) == 12
    taken = continue_from(str(finetuned), "last", 99, with_average, label_space).state
    jax.tree.map(np.testing.assert_array_equal, taken.ema, saved.state["ema"])
    begun = with_first_average({name: part for name, part in saved.state.items() if name != "ema"}, wanted=True)
    jax.tree.map(np.testing.assert_array_equal, begun["ema"]["params"], saved.state["params"])


@pytest.mark.usefixtures("plain_pages")
def test_the_momentum_encoder_of_a_pretraining(pretrained, tmp_path, capsys):
    memory = checkpoint.load(pretrained).state["memory"]
    own = memory["momentum_params"]["backbone"]["conv1"]["kernel"]
    network = mdp_jax.load(pretrained, weights="momentum")
    np.testing.assert_array_equal(network.variables["params"]["backbone"]["conv1"]["kernel"], own)
    statistics = network.variables["batch_stats"]["backbone"]["bn1"]["mean"]
    np.testing.assert_array_equal(statistics, memory["momentum_batch_stats"]["backbone"]["bn1"]["mean"])
    mdp(["evaluate", "--checkpoint", str(pretrained), "--split", "train", "--weights", "momentum"])
    assert "step 12, momentum encoder" in capsys.readouterr().out
    assert json.loads((pretrained / "evaluation_train_momentum.json").read_text())["weights"] == "momentum"
    config = tiny.finetune_config(init=pretrained, init_weights="momentum", steps=1, optim__lr=1e-30, optim__lr_min=0.0)
    finetune(config, tmp_path / "from")
    kernel = checkpoint.load(tmp_path / "from").state["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, own)
    assert "step 12, momentum encoder of the workdir" in (tmp_path / "from" / "transfer.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--weights", "ema"], "--weights ema: PLACE keeps no moving average of its weights; expected"),
        (["export", "--weights", "ema", "--out", "OUT"], "is of a pretraining|the workdir of a pretraining"),
        (["adopt", "--weights", "ema", "--config", "configs/mini/ccp.py", "--workdir", "OUT"], "no moving average"),
    ],
)
def test_weights_that_are_not_there(pretrained, tmp_path, words, message):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    with pytest.raises(UserError, match=message.replace("PLACE", str(pretrained))):
        mdp([*words, "--checkpoint", str(pretrained)])
    assert not (tmp_path / "out").exists()


def test_a_fine_tuning_has_no_momentum_encoder(finetuned, tmp_path):
    with pytest.raises(UserError, match="which has no momentum encoder; expected the workdir of mdp pretrain with"):
        mdp_jax.load(finetuned, weights="momentum")
    run = ["finetune", "--config", "configs/mini/camvid11.py", "--workdir", str(tmp_path / "run"), "--weights", "ema"]
    with pytest.raises(UserError, match="--weights ema: says which weights of --init; expected --init WORKDIR too"):
        mdp(run)


def test_a_pretrained_network_is_scored_on_its_own_sets(pretrained, capsys):
    mdp(["evaluate", "--checkpoint", str(pretrained), "--split", "train"])
    scores = json.loads((pretrained / "evaluation_train.json").read_text())["datasets"]
    assert list(scores) == ["harbor", "town"]
    names = [row["class"] for row in json.loads((pretrained / "label_space.json").read_text())]
    assert [name for of_dataset in scores.values() for name in of_dataset["per_class"]] == names
    assert all(of_dataset["images"] == 6 and 0 < of_dataset["aAcc"] <= 100 for of_dataset in scores.values())
    printed = capsys.readouterr().out
    assert "harbor train, 6 photos" in printed and "town train, 6 photos" in printed


def test_the_pages_of_a_pretraining_have_the_same_colours(pretrained, monkeypatch):
    """Those of report.html, in which equal names of different sets have one colour."""
    drawn = {}
    values = workdirs.load(pretrained).config
    opened = [sources.open_source(source, values.data, "", "train", values.seed) for source in values.sources]
    expected = contact_sheet.class_colours(opened)

    def grid(rows, classes, colours, *rest):
        drawn[tuple(classes)] = colours
        return figures.encode_png(np.zeros((2, 2, 3), np.uint8))

    monkeypatch.setattr(findings.figures, "prediction_grid", grid)
    mdp(["evaluate", "--checkpoint", str(pretrained), "--split", "train", "--page"])
    assert list(drawn) == [source.classes for source in opened]
    np.testing.assert_array_equal(np.concatenate([*drawn.values()]), expected)


def test_a_workdir_of_another_config_or_label_space(pretrained):
    with pytest.raises(UserError, match=r"started with config\.optim\.lr=1\.0, now 2\.0"):
        pretrain(tiny.pretrain_config(optim__lr=2.0), pretrained)
    rows = json.loads((pretrained / "label_space.json").read_text())
    genuine = (pretrained / "label_space.json").read_text()
    rows[0]["class"] = "sky"
    (pretrained / "label_space.json").write_text(json.dumps(rows))
    try:
        with pytest.raises(UserError, match="class 0 of dataset 'harbor' is 'air', expected 'sky'"):
            pretrain(tiny.pretrain_config(), pretrained)
    finally:
        (pretrained / "label_space.json").write_text(genuine)


def test_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"not empty and without config\.json"):
        pretrain(tiny.pretrain_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_weights_of_another_architecture(pretrained, tmp_path):
    with pytest.raises(UserError, match=r"another architecture: backbone/.* has shape .*, expected") as error:
        finetune(tiny.finetune_config(init=pretrained, model__width=0.125), tmp_path / "run")
    assert "\n" not in str(error.value)
    there = json.loads((pretrained / "config.json").read_text())["model"]["width"]
    assert str(error.value).endswith(f"; set --config.model.width={there}, as in {pretrained}/config.json")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["init", "continue_from"])
def test_no_checkpoint_to_start_from(key, tmp_path, monkeypatch):
    """It is said before photos are read, which may take long."""
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(sources, "check_source", lambda *_, **__: pytest.fail("photos were read"))
    for start, message in (("nowhere", "no such file or folder"), ("empty", "empty; expected at least one")):
        for loop, config in ((finetune, tiny.finetune_config), (pretrain, tiny.pretrain_config)):
            with pytest.raises(UserError, match=rf"^--{key} \S+: {message}"):
                loop(config(**{key: tmp_path / start}), tmp_path / "run")
    for name, message in (("w.pth", "no such file"), ("w.npz", "no such file or folder")):
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            finetune(tiny.finetune_config(**{key: tmp_path / name}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("plain_pages")
def test_real_photos(shared_data, tmp_path):
    """Three real sets, a few steps through the command line, and fine-tuning on the fourth."""
    small = ["--config.steps=2", "--config.model.width=0.0625", "--config.model.decoder.channels=8"]
    small += ["--config.data.check_files=20", f"--config.data_dir={shared_data}"]
    mdp(["pretrain", "--config", "configs/mini/pretrain.py", "--workdir", str(tmp_path / "p"), *small])
    assert len(json.loads((tmp_path / "p" / "label_space.json").read_text())) == 23 + 8 + 59
    init = ["--init", str(tmp_path / "p"), "--workdir", str(tmp_path / "f")]
    mdp(["finetune", "--config", "configs/mini/camvid11_40.py", *init, *small, "--config.pictures=0"])
    scores = json.loads((tmp_path / "f" / "evaluation.json").read_text())["datasets"]["camvid11"]
    assert scores["images"] == 101
    assert configs.load_json(pathlib.Path(tmp_path / "f" / "config.json")).dataset.limit == 40
