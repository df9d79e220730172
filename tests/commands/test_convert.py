"""mdp_jax/commands/convert.py: the command on small workdirs and files."""

import os
import pickle

import numpy as np
import pytest
import safetensors.numpy

from mdp_jax import cli, configs
from mdp_jax.commands import convert as convert_command
from mdp_jax.evaluation import workdirs
from mdp_jax.models import network
from mdp_jax.weights import files
from mdp_jax.weights.init import load_init
from tests import tiny
from tests.models import plain_parts
from tests.weights import published
from tests.weights import seeded_weights as weights
from tests.weights.test_files import Code, assert_bit_equal


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """name -> (workdir, variables)."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "pretrained": weights.pretrained(folder / "pretrained"),
        "mmseg": weights.finetuned(folder / "mmseg"),
        "torchvision": weights.finetuned(folder / "torchvision", model__decoder__layout="torchvision"),
    }


def convert(source, target, *arguments):
    assert cli.run(["convert", "--from", source, "--to", target, *map(str, arguments)]) == 0


def rows(capsys) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]


def load(path, variables, parts):
    blank = {name: {part: tree for part, tree in trees.items() if part in parts} for name, trees in variables.items()}
    params, batch_stats, _ = load_init(path, blank["params"], blank["batch_stats"], parts)
    weights.assert_same_tree({"params": params, "batch_stats": batch_stats}, blank)


@pytest.mark.parametrize("layout", ["torchvision", "mmseg"])
def test_a_finetuned_network_comes_back_bit_for_bit(runs, tmp_path, capsys, layout):
    run, variables = runs[layout]
    out = tmp_path / "out.safetensors"
    convert("mdp", layout, run, out)
    load(out, variables, ("backbone", "decoder", "classifier"))
    table = rows(capsys)
    kernel = {"torchvision": "classifier.0.convs.1.0.weight", "mmseg": "decode_head.aspp_modules.1.conv.weight"}[layout]
    assert ["decoder.aspp_1.conv.weight", "8x32x3x3", "loaded", kernel] in table
    state = safetensors.numpy.load_file(out)
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert len([row for row in table if len(row) > 2 and row[2] == "loaded"]) == len(state) - len(counters)
    assert any("resnet18" in row and "(1," in row for row in table)  # what the file does not say of the network
    assert ["classes", "in", "order:", "sky,", "road,", "car"] in table
    kernel = state[kernel]
    expected = variables["params"]["decoder"]["aspp_1"]["conv"]["kernel"]
    assert kernel[3, 5, 0, 2] == expected[0, 2, 5, 3]


def test_a_pretrained_encoder_without_its_projection(runs, tmp_path, capsys):
    run, variables = runs["pretrained"]
    convert("mdp", "mmseg", run, tmp_path / "out.safetensors")
    load(tmp_path / "out.safetensors", variables, ("backbone", "decoder"))
    table = rows(capsys)
    skipped = [row for row in table if len(row) > 2 and row[2] == "skipped"]
    assert len(skipped) == 7 and all(row[0].startswith("projection.") for row in skipped)
    assert ["decode_head.conv_seg.weight", "–", "missing"] in [row[:3] for row in table]


def test_the_backbone_alone_has_a_resnets_names(runs, tmp_path, capsys):
    run, variables = runs["pretrained"]
    convert("mdp", "torchvision", "--backbone", run, tmp_path / "out.safetensors")
    load(tmp_path / "out.safetensors", variables, ("backbone",))
    names = published.keys("torchvision/resnet18").keys() - {"fc.weight", "fc.bias"}
    assert safetensors.numpy.load_file(tmp_path / "out.safetensors").keys() == names
    assert ["fc.bias", "–", "missing"] in [row[:3] for row in rows(capsys)]
    convert("mdp", "mmseg", "--backbone", runs["mmseg"][0], tmp_path / "of_classes.safetensors")
    assert "classes in order" not in capsys.readouterr().out  # there is no classifier


def test_a_classifier_on_other_layers_is_not_written(tmp_path, capsys):
    """Of the projection: the kernel has the shape that one on the decoder would have, and means something else."""
    config = tiny.finetune_config(model__reads="('projection',)", model__projection__dim=8)
    variables = weights.variables_of(network.segmenter(configs.typed(config).model, len(weights.CLASSES)))
    run = weights.write_workdir(tmp_path / "run", config, variables)
    convert("mdp", "mmseg", run, tmp_path / "out.safetensors")
    state = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    assert not [key for key in state if "conv_seg" in key]
    load(tmp_path / "out.safetensors", variables, ("backbone", "decoder"))
    said = capsys.readouterr().out
    assert "it stands on projection, and not on the decoder alone" in said
    assert "classes in order" not in said


def test_a_pretrained_classifier_has_the_names_of_its_classes(tmp_path, capsys):
    config = tiny.pretrain_config(objective="multi_head")
    variables = weights.variables_of(network.segmenter(config.model, len(weights.CLASSES)))
    run = weights.write_workdir(tmp_path / "run", config, variables)
    convert("mdp", "mmseg", run, tmp_path / "out.safetensors")
    assert ["classes", "in", "order:", "valley/sky,", "valley/road,", "valley/car"] in rows(capsys)


def test_the_network_of_a_note(runs):
    config = workdirs.load(runs["mmseg"][0]).config.copy_and_resolve_references()
    assert ", the decoder deeplabv3 of 8 channels with rates (1, " in convert_command._network_note(config)
    for name, words in (
        ("linear", ", the decoder linear, and RGB"),
        ("identity", ", no decoder, and RGB"),
    ):
        with config.unlocked():
            config.model.decoder.name = name
        assert words in convert_command._network_note(config)
    with config.unlocked():
        config.model.window = 14
    assert "with attention in windows of 14 x 14 patches" in convert_command._network_note(config)


def test_files_between_the_layouts(runs, tmp_path):
    """A backbone goes both ways; a decoder stays in its layout."""
    run, _ = runs["torchvision"]
    convert("mdp", "torchvision", run, tmp_path / "a.safetensors")
    convert("torchvision", "torchvision", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    convert("torchvision", "mmseg", "--backbone", tmp_path / "a.safetensors", tmp_path / "c.safetensors")
    convert("mmseg", "torchvision", tmp_path / "c.safetensors", tmp_path / "d.safetensors")
    states = {name: safetensors.numpy.load_file(tmp_path / f"{name}.safetensors") for name in "abcd"}
    assert_bit_equal(states["b"], states["a"])
    assert_bit_equal(states["d"], states["c"])
    backbone = {key: array for key, array in states["a"].items() if key.startswith("backbone.")}
    assert_bit_equal(states["c"], {key.removeprefix("backbone."): array for key, array in backbone.items()})


def test_a_deep_stem_and_deeplabv3plus_go_to_mmsegmentation_alone(tmp_path, capsys):
    run, variables = weights.finetuned(
        tmp_path / "run", model__backbone="resnet18_v1c", model__decoder__name="deeplabv3plus"
    )
    convert("mdp", "mmseg", run, tmp_path / "whole.safetensors")
    load(tmp_path / "whole.safetensors", variables, ("backbone", "decoder", "classifier"))
    convert("mmseg", "mmseg", "--backbone", tmp_path / "whole.safetensors", tmp_path / "alone.safetensors")
    load(tmp_path / "alone.safetensors", variables, ("backbone",))
    assert {"stem.0.weight", "stem.7.running_var"} <= safetensors.numpy.load_file(tmp_path / "alone.safetensors").keys()
    capsys.readouterr()
    arguments = ["--from", "mdp", "--to", "torchvision", "--backbone", run, tmp_path / "no.safetensors"]
    message = "config.model.backbone=resnet18_v1c: has no published names in torchvision's layout"
    assert_refused(capsys, tmp_path, arguments, message)


def test_a_network_without_batch_normalisation(tmp_path, capsys, monkeypatch):
    plain_parts.register(monkeypatch)
    run, variables = weights.finetuned(tmp_path / "run", **plain_parts.OVERRIDES)
    assert variables["batch_stats"] == {}
    convert("mdp", "mmseg", run, tmp_path / "whole.safetensors")
    state = safetensors.numpy.load_file(tmp_path / "whole.safetensors")
    assert len(state) == 8 and {"backbone.embed.0.bias", "decode_head.mix.weight"} < state.keys()
    load(tmp_path / "whole.safetensors", variables, ("backbone", "decoder", "classifier"))
    convert("mmseg", "mmseg", tmp_path / "whole.safetensors", tmp_path / "again.safetensors")
    assert_bit_equal(safetensors.numpy.load_file(tmp_path / "again.safetensors"), state)
    convert("mdp", "mmseg", "--backbone", run, tmp_path / "alone.safetensors")
    assert safetensors.numpy.load_file(tmp_path / "alone.safetensors").keys() == {
        f"{module}.0.{leaf}" for module in ("embed", "stages") for leaf in ("weight", "bias")
    }
    assert ["head.weight", "–", "missing"] in [row[:3] for row in rows(capsys)]


def test_values_that_are_no_weights(runs, tmp_path, capsys):
    convert("mdp", "mmseg", runs["mmseg"][0], tmp_path / "good.safetensors")
    capsys.readouterr()
    state = safetensors.numpy.load_file(tmp_path / "good.safetensors")
    for key, value in (
        ("backbone.bn1.running_mean", np.nan),
        ("backbone.bn1.running_var", -1),
        ("decode_head.conv_seg.bias", np.inf),
    ):
        changed = state[key].copy()
        changed[1] = value
        weights.write_file(tmp_path / "in.safetensors", state | {key: changed})
        arguments = ["--from", "mmseg", "--to", "mmseg", tmp_path / "in.safetensors", tmp_path / "out.safetensors"]
        assert_refused(capsys, tmp_path, arguments, f"in.safetensors: {key} holds {value:g} (1 of ")


def test_extra_heads_and_half_precision_are_listed(tmp_path, capsys):
    shapes = published.keys("torchvision/resnet18")
    narrow = {key: tuple(-(-side // 16) if side > 7 else side for side in shape) for key, shape in shapes.items()}
    state = published.seeded_state(narrow)
    state["bn1.bias"] = state["bn1.bias"].astype(np.float16)
    weights.write_file(tmp_path / "in.safetensors", state)
    convert("torchvision", "mmseg", tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    table = rows(capsys)
    assert ["fc.weight", "63x32", "skipped", "classifier", "of", "whole", "images"] in table
    assert ["bn1.num_batches_tracked", "1", "skipped", "counter", "that", "nothing", "reads"] in table
    assert ["1", "of", "122", "leaves", "are", "float16;", "cast", "to", "float32"] in table
    written = files.read(tmp_path / "out.safetensors")[0]
    assert written["bn1.bias"].dtype == np.float32
    assert written["bn1.num_batches_tracked"] == 0


def assert_refused(capsys, tmp_path, arguments, message):
    """One line, exit status 2, nothing written."""
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", *map(str, arguments)])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_wrong_use(runs, tmp_path, capsys):
    run, out = runs["mmseg"][0], tmp_path / "out.safetensors"
    for name, content in (("one", b'{"steps": 1}'), ("list", b"[1]"), ("bytes", b"\xff\xfe")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(content)
    (tmp_path / "old.safetensors").write_bytes(b"of the user")
    for arguments, message in [
        (["--from", "mdp", "--to", "caffe", run, out], "invalid choice: 'caffe'"),
        (["--from", "mdp", "--to", "mmseg", run, tmp_path / "old.safetensors"], "exists already"),
        (["--from", "mdp", "--to", "mmseg", run, tmp_path / "out.npz"], "expected a name that ends in one of .pth"),
        (
            ["--from", "mdp", "--to", "mmseg", run, tmp_path / "no" / "out.pth"],
            "expected a new file in a folder that exists",
        ),
        (["--from", "mdp", "--to", "torchvision", run, out], "--backbone writes the backbone alone"),
        (["--from", "mdp", "--to", "mmseg", tmp_path, out], "config.json: missing"),
        (["--from", "mdp", "--to", "mmseg", tmp_path / "old.safetensors", out], "expected the workdir of a run"),
        (["--from", "mdp", "--to", "mmseg", tmp_path / "one", out], "expected the config of mdp pretrain or mdp"),
        (
            ["--from", "mdp", "--to", "mmseg", tmp_path / "list", out],
            "config.json: the value is [1]; expected an object",
        ),
        (["--from", "mdp", "--to", "mmseg", tmp_path / "bytes", out], "config.json: not valid JSON"),
        (["--from", "mmseg", "--to", "mmseg", run, out], "a folder"),
        (["--from", "mmseg", "--to", "mmseg", tmp_path / "none.safetensors", out], "no such file"),
        (
            ["--from", "mmseg", "--to", "mmseg", tmp_path / "old.safetensors", out],
            "expected a whole one: copy or load it again",
        ),
        (["--from", "mdp", "--to", "mmseg", run, out, "--config.seed=1"], "--config.seed: mdp convert has no config"),
    ]:
        assert_refused(capsys, tmp_path, arguments, message)


def test_wrong_architectures(runs, tmp_path, capsys):
    convert("mdp", "mmseg", runs["mmseg"][0], tmp_path / "good.safetensors")
    capsys.readouterr()
    state = safetensors.numpy.load_file(tmp_path / "good.safetensors")
    bn3 = {f"backbone.layer1.2.bn1.{leaf}": np.ones(4, np.float32) for leaf in ("weight", "bias")}
    without = {key: array for key, array in state.items() if key != "decode_head.bottleneck.bn.running_var"}
    for changed, message in [
        (state | bn3, "layers of 3, 2, 2, 2 basic blocks; expected those of resnet18, resnet34"),
        (without, "another architecture than resnet18: decode_head.bottleneck.bn.running_var (8,) is missing"),
        (
            state | {"backbone.layer1.0.conv1.weight": np.zeros((4, 4, 5, 5), np.float32)},
            "backbone.layer1.0.conv1.weight has shape (4, 4, 5, 5), expected (4, 4, 3, 3)",
        ),
        (state | {"backbone.conv1.weight": np.float32(1)}, "backbone.conv1.weight has shape (), expected (1, 3, 7, 7)"),
        (state | {"neck.weight": np.zeros(3, np.float32)}, "neck.weight (3,) is not in this network"),
        (
            {"features.0.weight": np.zeros((8, 3, 3, 3), np.float32)},
            "leaves like features.0.weight; expected weights of a backbone (resnet18, ",
        ),
    ]:
        weights.write_file(tmp_path / "in.safetensors", changed)
        arguments = ["--from", "mmseg", "--to", "mmseg", tmp_path / "in.safetensors", tmp_path / "out.safetensors"]
        assert_refused(capsys, tmp_path, arguments, message)
    arguments = ["--from", "torchvision", "--to", "mmseg", tmp_path / "good.safetensors", tmp_path / "o.safetensors"]
    assert_refused(capsys, tmp_path, arguments, "has the names of mmseg; expected --from mmseg")


def test_code_in_a_file_is_not_executed(tmp_path, capsys):
    marker = tmp_path / "marker"
    (tmp_path / "in.pth").write_bytes(pickle.dumps({"conv1.weight": Code(marker)}, protocol=2))
    arguments = ["--from", "torchvision", "--to", "mmseg", tmp_path / "in.pth", tmp_path / "out.safetensors"]
    assert_refused(capsys, tmp_path, arguments, str(tmp_path / "in.pth"))
    assert not os.path.exists(marker)


def test_pth_files_from_end_to_end(runs, tmp_path):
    torch = pytest.importorskip("torch")
    run, variables = runs["mmseg"]
    convert("mdp", "mmseg", run, tmp_path / "out.pth")
    load(tmp_path / "out.pth", variables, ("backbone", "decoder", "classifier"))
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert content["meta"] == {"dataset_meta": {"classes": list(weights.CLASSES)}}
    convert("mmseg", "torchvision", "--backbone", tmp_path / "out.pth", tmp_path / "alone.pth")
    assert all(
        isinstance(leaf, torch.Tensor) for leaf in torch.load(tmp_path / "alone.pth", weights_only=True).values()
    )
