"""`mdp export`: files that answer as `mdp predict` does, snippets of the card that run, and what is refused."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import tempfile
import types

import cv2
import jax
import numpy as np
import onnx
import pytest

import mdp_jax
from mdp_jax import cli
from mdp_jax.data import images
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import TransientError, UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.exporting import card, exporting, onnx_file, program, stablehlo
from mdp_jax.exporting.exporting import FILES, FORMATS
from mdp_jax.exporting.program import Form
from mdp_jax.models import network
from mdp_jax.models.registry import NO_DECODER
from mdp_jax.training.adopting import adopt
from mdp_jax.training.editing import Edits, edit
from tests import earlier, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The workdirs of an earlier version, a photo, and `out`: the exported network of `finetuned`."""
    made = earlier.unpacked(tmp_path_factory.mktemp("export"))
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(made / "photo.jpg"), cv2.resize(noise, (61, 45), interpolation=cv2.INTER_CUBIC))
    words = ["export", "--checkpoint", "finetuned", "--out", "out", "--format", *FORMATS, "--license", "CC0"]
    with contextlib.chdir(made):
        assert cli.run([*words, "--config.dataset.license=CC BY 4.0"]) == 0
    return made


def snippets(text):
    """{heading: the code under it}."""
    return dict(re.findall(r"### (\w+)\n\n(?:[^`#]*?|[^#]*?)```python\n(.*?)```", text, re.DOTALL))


def ran(code, place, monkeypatch, folder):
    """What a snippet leaves, run beside the exported files and the photo."""
    monkeypatch.chdir(place)
    code, names = code.replace('"photo.jpg"', repr(str(folder / "photo.jpg"))), {}
    exec(code, names)
    return names


@pytest.mark.parametrize("library", ["JAX", "ONNX", "PyTorch"])
def test_the_snippets_of_the_card_give_the_labels_of_predict(folder, library, monkeypatch, tmp_path):
    if library == "PyTorch":
        pytest.importorskip("torch")
    found = ran(snippets((folder / "out" / "README.md").read_text())[library], folder / "out", monkeypatch, folder)
    monkeypatch.chdir(folder)
    assert cli.run(["predict", "--checkpoint", "finetuned", "--out", str(tmp_path), "photo.jpg"]) == 0
    labels = cv2.imread(str(tmp_path / "photo.png"), cv2.IMREAD_UNCHANGED)
    assert found["labels"].shape == labels.shape == (45, 61) and str(found["labels"].dtype).endswith("int32")
    assert len(np.unique(labels)) > 2
    assert (np.asarray(found["labels"]) == labels).mean() > 0.999  # two logits may be equal but for rounding


def test_what_stands_beside_the_files(folder):
    out = folder / "out"
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES.values(), "README.md", "classes.json"])
    classes = json.loads((out / "classes.json").read_text())
    assert tuple(classes) == mdp_jax.load(folder / "finetuned").classes
    model = onnx.load(str(out / FILES["onnx"]))
    assert json.loads(model.metadata_props[0].value) == classes
    text = (out / "README.md").read_text()
    scores = json.loads((folder / "finetuned" / "evaluation.json").read_text())["datasets"]["valley"]
    for row in (
        "| license | CC0 |",
        "| valley | this network | 12 | CC BY 4.0 |",
        "| harbor | what it began from | 10 | not stated |",
        f"| valley | {scores['mIoU']:.1f} | {scores['mAcc']:.1f} | {scores['aAcc']:.1f} | 3 |",
        f"| {len(classes) - 1} | {classes[-1]} |",
    ):
        assert row in text
    assert text.count("compared with `mdp predict` on drawn noise: the ") == 2
    assert "short side" not in text


@pytest.mark.parametrize("size", [(45, 61), (61, 45), (333, 501), (1, 45)])
@pytest.mark.parametrize("short_side", [32, 48])
def test_the_card_resizes_as_predict_does(size, short_side):
    photo = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen = images.short_side_size(*size, short_side)
    for prepare in (
        card._SHORT_SIDE.format(short_side=short_side),
        card._FIXED.format(height=seen[0], width=seen[1]),
    ):
        names = {"cv2": cv2, "photo": photo}
        exec(prepare, names)
        np.testing.assert_array_equal(names["image"], images.resize_photo(photo, *seen)[None])


@pytest.mark.parametrize("older", [{"step": 2}, {"checkpoint": {"step": 2, "best": True}}])
def test_the_card_has_no_scores_of_an_earlier_step(folder, older, tmp_path):
    """As of a run that was scored by hand, and then went on."""
    run = workdirs.load(folder / "finetuned")._replace(folder=tmp_path)
    scores = json.loads((folder / "finetuned" / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps(scores | {"step": run.step}))
    assert "| valley |" in card._scores(run)
    (tmp_path / "evaluation.json").write_text(json.dumps(scores | older))
    assert run.step > 2
    assert card._scores(run) == "None: this checkpoint was not scored (`mdp evaluate`)."


def test_the_card_says_with_which_values_scores_were_taken(folder, tmp_path):
    """Where the network is exported with other values, until it is scored with these."""
    own = shutil.copytree(folder / "finetuned", tmp_path / "own")
    scores = json.loads((own / "evaluation.json").read_text())["datasets"]
    written = card.Written("it", Form(), FILES, ("cpu",), dict.fromkeys(FILES, "not compared"))

    def text(*overrides):
        return card.text_of(workdirs.load(own, overrides), written)

    warning, short = "**These scores are not of the network as it is exported here.**", ("data.short_side", "32")
    for unchanged in ((), (("data.short_side", "0"),), (("dataset.license", "CC0"), ("data.threads", "3"))):
        assert warning not in text(*unchanged) and "It was trained on photos" not in text(*unchanged)
    shown = text(short)
    assert (
        f"{warning} They were taken with `data.short_side=0`. The network is exported with `data.short_side=32`."
        in shown
    )
    assert (
        f"| valley | {scores['valley']['mIoU']:.1f} |" in shown
        and "- It was trained on photos of their own size." in shown
    )
    (told,) = re.findall(r"`mdp (evaluate [^`]* WORKDIR [^`]*)`", shown)
    assert shlex.split(told) == ["evaluate", "--checkpoint", "WORKDIR", "--config.data.short_side=32"]
    other = {"valley": scores["valley"] | {"mIoU": 98.7}}
    for side, scored in (("64", False), ("32", True)):  # as that command writes them
        write_scores(own, other, changed={"data.short_side": side}, chosen=workdirs.load(own).chosen)
        shown = text(short)
        assert (warning not in shown) == ("With `data.short_side=32`, as here." in shown) == scored
        assert ("| valley | 98.7 |" in shown) == scored
    assert warning in text(short, ("data.category_ratio", "0.5")) and warning in text(("data.short_side", "64"))


def test_the_card_names_sets_that_were_taken_out_again(folder, monkeypatch, tmp_path):
    """By mdp edit-bank, twice; the workdirs before are not needed."""
    monkeypatch.chdir(tmp_path)
    first = shutil.copytree(folder / "pretrained", tmp_path / "pretrained")
    edit(first, "without", Edits(drop=[("town",)]))
    edit("without", "again", Edits(rename=[("harbor", "air", "sky")]))
    shutil.rmtree(first)
    shutil.rmtree("without")
    config = workdirs.load(folder / "finetuned").config.copy_and_resolve_references()
    with config.unlocked():
        config.init = str(tmp_path / "again")
    text = card._data(types.SimpleNamespace(config=config, classes=range(12)))
    towns = len(dict(LabelSpace.load(folder / "pretrained" / "label_space.json").datasets)["town"])
    for row in (
        "| harbor | what it began from | 10 | not stated |",
        f"| town | what it began from | {towns} | not stated |",
    ):
        assert text.count(row) == 1
    assert text.endswith(
        "Training began with the weights of `again`. `mdp edit-bank` took town out of `again`, whose weights were "
        "trained on it before."
    )


def test_the_card_names_all_that_the_weights_went_through(folder, monkeypatch, tmp_path):
    """A run that went on from another one, which began with a pretraining, which began with a file."""
    monkeypatch.chdir(folder)
    config = workdirs.load(folder / "finetuned").config.copy_and_resolve_references()
    began = shutil.copytree(folder / "pretrained", tmp_path / "began")
    values = json.loads((began / "config.json").read_text())
    (began / "config.json").write_text(json.dumps(values | {"init": "resnet50.pth"}))
    middle = shutil.copytree(folder / "finetuned", tmp_path / "middle")
    values = json.loads((middle / "config.json").read_text())
    (middle / "config.json").write_text(json.dumps(values | {"init": str(began)}))
    with config.unlocked():
        config.init, config.continue_from = "scratch", str(middle)
    text = card._data(types.SimpleNamespace(config=config, classes=range(12)))
    assert text.count("| valley |") == 1 and text.count("| what it began from |") == 2 and "| town |" in text
    assert text.endswith(
        "Training went on from the weights of `middle`. The run `middle` began with the weights of `began`. The run "
        "`began` began with the weights of `resnet50.pth`. What these were trained on is not known here."
    )
    (began / "config.json").write_text("{")  # nobody needs it to export the network
    assert text.replace(" The run `began` began with the weights of `resnet50.pth`.", "").endswith(
        card._data(types.SimpleNamespace(config=config, classes=range(12))).split("\n\n")[1]
    )
    with config.unlocked():
        config.continue_from = ""
    assert card._data(types.SimpleNamespace(config=config, classes=range(12))).endswith("began with random weights.")


def test_logits_of_one_size_and_batch(folder, monkeypatch, tmp_path):
    form = Form("logits", batch=2, size=(24, 40))
    found = exporting.export(folder / "finetuned", tmp_path / "fixed", form, ["onnx"])
    assert "logits differ by" in found.checked["onnx"]
    text = (tmp_path / "fixed" / "README.md").read_text()
    assert "weights of `pretrained`. What these were trained on is not known here." in text  # from this folder
    names = ran(snippets(text)["ONNX"], tmp_path / "fixed", monkeypatch, folder)
    net = mdp_jax.load(folder / "finetuned")
    assert names["logits"].shape == (24, 40, len(net.classes))
    probabilities = np.asarray(jax.nn.softmax(names["logits"], axis=-1))
    np.testing.assert_allclose(probabilities, net.probabilities(names["image"][0]), atol=1e-5)


def test_photos_of_a_short_side_are_resized_first(folder, monkeypatch):
    run = workdirs.load(folder / "finetuned", [("data.short_side", "32")])
    written = card.Written("it", Form(), FILES, ("cpu",), dict.fromkeys(FILES, "not compared"))
    text = card.text_of(run, written)
    assert "short side has 32 pixels" in text
    found = ran(snippets(text)["ONNX"], folder / "out", monkeypatch, folder)
    assert found["labels"].shape == (32, 43)


def test_an_adopted_network_on_two_layers(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    config = tiny.finetune_config()

    adopt("pretrained", config, str(tmp_path / "adopted"), layer="backbone+projection")
    found = exporting.export(tmp_path / "adopted", tmp_path / "out", formats=["onnx"])
    assert all("the same labels" in how or "at a tie" in how for how in found.checked.values())
    text = (tmp_path / "out" / "README.md").read_text()
    assert "classifier on backbone and projection" in text and "weights of `pretrained`" in text


def require_the_same_logits(backbone, decoder, reads):
    """A network with weights drawn at random; for any size, where it can have it, else for one."""
    width, rng = 0.0625, np.random.default_rng(0)
    entry, strides = network.BACKBONES[backbone], network.DECODERS[decoder].reads
    stride = next(s for s in entry.output_strides if set(strides(s)) <= entry.channels(width, s).keys())
    values = {"backbone": backbone, "width": width, "output_stride": stride, "decoder__name": decoder, "reads": reads}
    typed = mdp_jax.configs.typed(tiny.finetune_config(**{f"model__{key}": value for key, value in values.items()}))
    made = network.segmenter(typed.model, 5)
    shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False))

    def drawn(path, leaf):
        values = rng.normal(size=leaf.shape) * 0.3
        return np.float32({"var": abs(values) + 1, "scale": values + 1}.get(path[-1].key, values))

    variables = {"batch_stats": {}, **jax.tree_util.tree_map_with_path(drawn, shapes)}
    function = program.make(typed.model, typed.data, variables, 5, "logits", bands=False)
    form = Form("logits")
    try:
        program.require_possible(function, form)
    except UserError as error:
        assert "expected --size" in str(error)
        form = Form("logits", batch=2, size=(37, 51))
    model = onnx_file.model_of(function, form, "abcde", "")
    image = rng.integers(0, 256, (2, 37, 51, 3), dtype=np.uint8)
    expected = np.asarray(jax.jit(function)(image))
    np.testing.assert_allclose(onnx_file.run(model, image), expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("decoder", network.DECODERS)
def test_every_decoder_under_a_classifier_on_all_layers(decoder):
    require_the_same_logits("resnet18", decoder, "('backbone','decoder','projection')")


# The first of each family; that of the decoders' test is seen there.
FAMILIES = {entry.weight_names: name for name, entry in reversed(network.BACKBONES.items()) if name != "resnet18"}
FAMILIES.pop(network.BACKBONES["resnet18"].weight_names)


@pytest.mark.parametrize("backbone", FAMILIES.values())
def test_every_family_of_backbones(backbone):
    require_the_same_logits(backbone, NO_DECODER, "('decoder',)")


def wrong_use(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", *map(str, words)])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("mdp: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "pretrained"], "pretrained: the workdir of a pretraining, whose network has no classifier"),
        (["--checkpoint", "nowhere"], "nowhere/config.json: missing"),
        (["--out", "out"], "--out out: exists already; expected a new folder"),
        (["--out", "made/for/it", "--checkpoint", "nowhere"], "nowhere/config.json: missing"),
        (["--out", "finetuned/config.json/in"], "finetuned/config.json is a file; expected a folder"),
        (["--size", "0", "32"], "0: expected a whole number from 1"),
        (["--size", "70000", "32"], "--size 70000 32: expected height and width from 1 to 65500 pixels"),
        (["--batch", "9" * 12], "expected a number of photos from 1 to 1,048,576, or no --batch"),
        (["--platforms", "cpu", "gpu"], "--platforms gpu: expected some of cpu, cuda, tpu"),
        (["--format", "torch"], "--format torch: expected some of stablehlo, onnx"),
        (["--config.model.width=2"], "--config.model.width: fixed when"),
    ],
)
def test_wrong_use_leaves_nothing(folder, words, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert message in wrong_use(capsys, "--checkpoint", "finetuned", "--out", "new", *words)
    assert sorted(folder.iterdir()) == before


def test_scores_that_cannot_be_read_stop_it_before_it_computes(folder, monkeypatch, tmp_path):
    (shutil.copytree(folder / "finetuned", tmp_path / "run") / "evaluation.json").write_text("{}")
    monkeypatch.setattr(exporting.stablehlo, "serialised", None)
    with pytest.raises(UserError, match=r"evaluation\.json"):
        exporting.export(tmp_path / "run", tmp_path / "new")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_without_the_extra(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = wrong_use(capsys, "--checkpoint", "finetuned", "--out", "new", "--format", "onnx")
    assert message.endswith("--format onnx: the package onnx is not installed; pip install 'mdp_jax[export]'")


@pytest.mark.parametrize("fault", ["answer", "disk"])
def test_a_fault_leaves_nothing(folder, fault, monkeypatch):
    def full_disk(path, text):
        raise UserError(f"{path}: No space left on device")

    if fault == "answer":
        monkeypatch.setattr(onnx_file, "run", lambda model, image: np.zeros(image.shape[:3], np.int32) - 1)
    else:
        monkeypatch.setattr(exporting, "write_text", full_disk)
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match="the ONNX model: its answer differs" if fault == "answer" else "No space left"):
        form, checks = Form(batch=1, size=(16, 16)), fault == "answer"
        exporting.export(folder / "finetuned", folder / "new", form, ["onnx"], check=checks)
    assert sorted(folder.iterdir()) == before


def test_a_disk_that_fails_for_a_moment_is_said_as_such(tmp_path, monkeypatch):
    def no_answer(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "mkdtemp", no_answer)
    with pytest.raises(TransientError, match=r"--out .*new: Input/output error"):
        exporting.export(tmp_path, tmp_path / "new")


def test_a_file_for_other_platforms_is_written_and_said_to_be_not_compared(folder, tmp_path):
    form = Form(batch=1, size=(16, 16))
    found = exporting.export(folder / "finetuned", tmp_path / "tpu", form, platforms=["tpu"])
    assert found.checked["stablehlo"].startswith("not compared with `mdp predict`: ")
    read = jax.export.deserialize(bytearray(found.files["stablehlo"].read_bytes()))
    assert read.platforms == ("tpu",) and read.in_avals[0].shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="platform"):
        stablehlo.run(found.files["stablehlo"].read_bytes(), np.zeros((1, 16, 16, 3), np.uint8))


def test_the_commands_of_the_page(folder, monkeypatch, tmp_path):
    """As they stand there, but without the comparison, which the other tests have."""
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "exported").mkdir()
    (tmp_path / "runs" / "streets").symlink_to(folder / "finetuned")
    commands = [line for line in page.splitlines() if line.startswith("mdp ")]
    for line in commands:
        assert cli.run([*shlex.split(line)[1:], "--no_check"]) == 0
    assert len(list(pathlib.Path("exported").glob("*/README.md"))) == len(commands) >= 3
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert set(names["found"].files) == {"onnx"}
