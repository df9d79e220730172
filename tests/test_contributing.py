"""The worked examples of CONTRIBUTING.md: written to where they say, registered by the lines it gives, and used."""

import importlib
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import checks, cli, configs
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.kinds import registry as kinds
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.data.sources import open_source
from mdp_jax.models import network
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.training import sharding
from mdp_jax.weights.init import load_init
from tests import tiny
from tests.data.fixtures import write_jpeg, write_png

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = {block.split("\n")[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S)}
SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d", "e"))))


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Writes the examples into a folder that the package is found in, too; gives a function that imports one."""
    for path, block in EXAMPLES.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
        package = importlib.import_module(".".join(pathlib.PurePath(path).parts[:-1]))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
    names = [".".join(pathlib.PurePath(path).with_suffix("").parts) for path in EXAMPLES]
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def entry(registry, line, module):
    """Checks that CONTRIBUTING gives this line, and gives the object that it registers."""
    assert f"`{line}`" in TEXT, registry
    return getattr(module, line.rstrip(",").split(": ")[1].split(".")[-1])


def test_examples_are_in_style(tmp_path):
    """As the linter and formatter have the files of the package."""
    for path, block in EXAMPLES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(block.split("\n", 1)[1])
    for command in (["check"], ["format", "--check", "--diff"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
        said = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr


def test_links_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert all((ROOT / target).exists() for target in targets if not target.startswith("http"))


def test_objective(shallow, examples, monkeypatch):
    """Two steps on two devices: the first fills the bank, in the second there is a loss; and it scores a set."""
    objective = entry(OBJECTIVES, '"certain": CERTAIN,', examples("mdp_jax.objectives.certain"))
    monkeypatch.setitem(OBJECTIVES, "certain", objective)
    config = tiny.pretrain_config(objective="certain", mixing__region=0.0, mixing__pixel=0.0)
    checks.pretraining(config, devices=2)
    mesh = sharding.make_mesh(2)
    program = tiny.pretraining(config, mesh, SPACE)
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, SPACE.num_classes)
    batch["mix_kind"] = np.zeros_like(batch["mix_kind"])
    state, losses = program.make(), []
    for _ in range(2):
        state, metrics = program.step(state, sharding.to_devices(batch, mesh))
        losses.append(float(metrics["loss"]))
    assert losses[0] == 0 < losses[1] < np.inf
    assert int(metrics["classes_seen"]) == SPACE.num_classes
    typed = configs.typed(config)
    logits_of = jax.jit(objective.scorer(typed.model, typed.method, SPACE.num_classes, np.arange(3)))
    variables = {name: getattr(state, name) for name in ("params", "batch_stats", "memory")}
    assert logits_of(jax.device_get(variables), jnp.zeros((1, 32, 32, 3))).shape == (1, 4, 4, 3)


def test_dataset_kind(examples, tmp_path, monkeypatch, capsys):
    """`mdp data check` is happy with a set of its layout, names what is missing, and its splits are opened."""
    assert '`"ponds",`' in TEXT
    examples("mdp_jax.data.kinds.ponds")
    monkeypatch.setattr(kinds, "_NAMES", (*kinds._NAMES, "ponds"))
    root, rng = tmp_path / "data" / "ponds", np.random.default_rng(0)
    for folder in ("images", "annotations"):
        (root / folder).mkdir(parents=True)
    for i in range(4):
        write_jpeg(root / "images" / f"{i}.jpg", rng.integers(0, 256, (20, 24, 3)))
        write_png(root / "annotations" / f"{i}.png", rng.integers(0, 3, (20, 24)))
    (root / "list.csv").write_text("0,train\n1,train\n2,train\n3,val\n")
    assert cli.run(["data", "check", "ponds", "--data_dir", str(tmp_path / "data")]) == 0
    assert "reasons to fail: 0, warnings: 0" in capsys.readouterr().out
    config = configs.ponds()
    assert isinstance(configs.typed(_finetuning(config)).dataset, KINDS["ponds"].config_type)
    source = open_source(config, configs.finetune().data, str(tmp_path / "data"), "val", seed=0)
    assert len(source) == 1 and source.classes == ("water", "reed", "shore")
    assert source[0]["label"].max() == 2
    (root / "images" / "3.jpg").unlink()
    with pytest.raises(cli.UserError, match=r"list\.csv line 4 names 3; expected .*3\.jpg, which is missing"):
        open_source(config, configs.finetune().data, str(tmp_path / "data"), "val", seed=0)


def _finetuning(dataset):
    config = configs.finetune()
    config.dataset = dataset
    return config


def test_backbone_and_decoder(examples, tmp_path, monkeypatch):
    """Logits of the declared stride and channels; a rule of sharding for each leaf; weights in and out."""
    backbone = entry(BACKBONES, '"plain": plain.BACKBONE,', examples("mdp_jax.models.backbones.plain"))
    decoder = entry(DECODERS, '"smooth": smooth.DECODER,', examples("mdp_jax.models.decoders.smooth"))
    monkeypatch.setitem(BACKBONES, "plain", backbone)
    monkeypatch.setitem(DECODERS, "smooth", decoder)
    config = tiny.finetune_config(model__backbone="plain", model__decoder__name="smooth", model__width=0.125)
    checks.finetuning(config, devices=2)
    model = configs.typed(config).model
    assert backbone.channels(model.width, 8) == {4: 8, 8: 16}
    segmenter, image = network.segmenter(model, num_classes=5), jnp.zeros((2, 32, 48, 3))
    features = segmenter.backbone.init_with_output(jax.random.key(0), image, train=False)[0]
    assert {stride: value.shape for stride, value in features.items()} == {4: (2, 8, 12, 8), 8: (2, 4, 6, 16)}
    logits, variables = segmenter.init_with_output(jax.random.key(0), image, train=False)
    assert logits.shape == (2, 4, 6, 5) and network.feature_stride(model) == 8
    assert set(variables["batch_stats"]) == {"decoder"}
    program = tiny.finetuning(config, sharding.make_mesh(2), num_classes=5)
    assert jax.tree.structure(program.shardings.params) == jax.tree.structure(variables["params"])
    _weights_of_a_file(tmp_path, variables)


def _weights_of_a_file(folder, variables):
    """The names of the published weights lead to the leaves of the backbone."""
    from safetensors.numpy import save_file

    theirs = {"patches": "embed.0", "body": "stages.0"}
    saved, params = {}, variables["params"]
    for ours, name in theirs.items():
        leaves = params["backbone"][ours]
        saved[f"backbone.{name}.weight"] = 1 + np.ascontiguousarray(np.transpose(leaves["kernel"], (3, 2, 0, 1)))
        saved[f"backbone.{name}.bias"] = np.asarray(leaves["bias"]) + 1
    save_file(saved, folder / "plain.safetensors")
    found = load_init(folder / "plain.safetensors", params, variables["batch_stats"], ("backbone",))
    for ours in theirs:
        np.testing.assert_allclose(found.params["backbone"][ours]["kernel"], params["backbone"][ours]["kernel"] + 1)
