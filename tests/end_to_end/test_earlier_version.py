"""Workdirs of an earlier version: opened, evaluated, started from, converted, and gone on with."""

import json
import shutil

import jax
import numpy as np
import pytest

from mdp_jax import checks
from mdp_jax.cli import run as mdp
from mdp_jax.evaluation import workdirs
from mdp_jax.storage import checkpoints
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.training import sharding
from mdp_jax.training.finetuning import finetune
from mdp_jax.training.pretraining import pretrain
from mdp_jax.training.transfer import transfer
from tests import earlier, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


# Of a fine-tuning that changes nothing.
ONE_STEP = earlier.VALUES | {"steps": 1, "optim__lr": 1e-12, "optim__lr_min": 1e-12}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(earlier.unpacked(tmp_path))
    return tmp_path


def weights(folder, name):
    """What the earlier version had computed after step 4, by today's names."""
    with np.load(folder / f"{name}_step4.npz") as file:
        top = ("step", "params", "batch_stats", "opt_state")
        return {key if key.split(".")[0] in top else f"memory.{key}": file[key] for key in file}


@pytest.mark.parametrize("name", earlier.NAMES)
def test_weights_are_read_bit_for_bit(folder, name):
    state, meta = checkpoints.load(folder / name)
    found = {key.replace("/", "."): np.asarray(leaf) for key, leaf in leaf_names(state).items()}
    expected = weights(folder, name)
    assert found.keys() == expected.keys() and meta["next_batch"] == 4
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
    opened = workdirs.load(folder / name)
    assert opened.step == 4 and ("memory" in opened.variables) == (name == "pretrained")


@pytest.mark.usefixtures("plain_pages")
@pytest.mark.parametrize("name", earlier.NAMES)
def test_a_run_goes_on(folder, name):
    """From step 2, with the steps that the earlier version took."""
    shutil.rmtree(folder / name / "checkpoints" / "4")
    train = finetune if name == "finetuned" else pretrain
    train(earlier.config_of(name), folder / name)
    found = leaf_names(checkpoints.load(folder / name).state)
    for key, expected in weights(folder, name).items():
        scale = max(float(np.max(np.abs(expected), initial=0)), 1e-3)
        # Eight virtual devices round otherwise than the one device of that run, and a network of one channel makes
        # rounding large; other batches or momenta would be off by their own size.
        close = 0.1 if key.startswith("opt_state") else 0.02
        np.testing.assert_allclose(found[key.replace(".", "/")], expected, atol=close * scale, err_msg=key)
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4


@pytest.mark.usefixtures("plain_pages")
def test_commands_take_it(folder, capsys):
    mdp(["evaluate", "--checkpoint", "finetuned"])
    mdp(["evaluate", "--checkpoint", "pretrained", "--split", "train"])
    mdp(["convert", "--from", "mdp", "--to", "mmseg", "finetuned", "out.safetensors"])
    assert (folder / "out.safetensors").stat().st_size > 0
    assert (folder / "finetuned" / "evaluation.json").exists()
    scores = finetune(tiny.finetune_config(init="multi_head", **ONE_STEP), folder / "new")
    assert scores["images"] == 3


@pytest.mark.usefixtures("plain_pages")
def test_transfer_takes_a_classifier_along(folder):
    """A part need not have running statistics."""
    config = tiny.finetune_config(init="finetuned", **ONE_STEP)
    with config.unlocked():
        config.transfer = ("backbone", "decoder", "classifier")
    finetune(config, folder / "again")
    before, after = (checkpoints.load(folder / name).state["params"] for name in ("finetuned", "again"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, after)


def test_transfer_takes_the_projection_that_a_classifier_reads(folder):
    projection = {"model__reads": "('projection',)", "model__projection__channels": 8, "model__projection__dim": 8}
    parts = "('backbone', 'decoder', 'projection')"
    config = tiny.finetune_config(init="pretrained", transfer=parts, **earlier.VALUES | projection)
    checks.finetuning(config, devices=1)
    state = jax.eval_shape(tiny.finetuning(config, sharding.make_mesh(1), 4).make)
    taken = transfer("pretrained", config.transfer, state.params, state.batch_stats)
    before = checkpoints.load("pretrained").state["params"]["projection"]
    jax.tree.map(np.testing.assert_array_equal, taken.params["projection"], before)
