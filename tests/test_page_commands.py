"""The commands of the pages, as they stand there, on drawn scenes and tiny sets with a small network.

Commands that are not run are in NOT_RUN with the reason; that `mdp` understands them is shown in test_pages.py. The
commands of README.md are run in test_readme.py, those of docs/import.md in commands/test_import_page.py.
"""

import json
import shutil

import cv2
import numpy as np
import pytest

from mdp_jax import cli
from tests.data import official
from tests.data.fixtures import write_folder
from tests.test_pages import TEXTS, commands
from tests.test_readme import SMALL_NETWORK

# Part of a command -> why it is not run here.
NOT_RUN = {
    "configs/mini/pretrain.py": "needs the photos; tests/end_to_end/test_runs.py runs it where they are",
    "serve": "waits for a browser; tests/serving has it",
    "config.wandb": "needs an account; tests/training has it",
    "gs://": "needs a bucket; tests/end_to_end/test_buckets.py has emulators",
    "--archive": "needs official archives of gigabytes; tests/data/test_archives.py has small ones",
    "oxford_iiit_pet": "TensorFlow Datasets must have fetched it; tests/data/test_tfds_source.py has a drawn set",
    "--topology": "needs the compilers of TPUs, or minutes; tests/commands/test_plan.py has chips that are not there",
    "configs/gpu/": "a preset for a card, which takes hours; tests/test_gpu_presets.py reads all",
    "vit_small_patch14_dinov2": "needs published weights; tests/weights has small ones of the same form",
    "data browse --config": "draws many pictures; tests/commands/test_data_browse.py has drawn sets",
    "--profile": "tests/training/test_profiling.py has such a run",
    "runs/kept": "a pretraining as that of docs/inspect.md, for its memory",
    "bench step --config": "as with --json, which is run with a small config; tests/benchmarks/test_step.py has both",
    "bench loss": "32,768 pixels against 2,000 classes: minutes on a CPU; tests/benchmarks/test_loss.py has few",
    "data prepare large": "photos of twelve megapixels; tests/commands/test_data_prepare.py has small ones",
    "bench data": "tests/benchmarks/test_data.py has small photos",
    "bench evaluation": "compiles 20 shapes; tests/benchmarks/test_evaluation.py has few",
    "--against": "its exit status depends on the machine's other work; tests/benchmarks/test_against.py has numbers",
}
pytestmark = pytest.mark.usefixtures("shallow", "shared_programs", "plain_pages")
WHOLE_BENCH = ["bench"], ["bench", "step"]  # minutes: all cases, and a ResNet-50
TORCH = ".pth"  # of commands that need PyTorch, to read or write such a file
OF_THEM = {
    "docs/serve.md": (),
    "docs/inspect.md": ("inspect", "edit-bank", "predict"),
    "docs/adopt.md": ("adopt", "evaluate", "predict"),
    "docs/export.md": ("export",),
    "docs/after_training.md": ("report", "finetune", "predict"),
    "docs/data.md": ("data",),
    "docs/weights.md": ("finetune", "convert"),
    "docs/scaling.md": (),
    "docs/performance.md": ("bench",),
    "docs/numerics.md": (),
}
FEW = {
    "pretrain": [*SMALL_NETWORK, "--config.batch=4", "--config.steps=6"],
    "finetune": [*SMALL_NETWORK, "--config.batch=4", "--config.steps=3", "--config.pictures=0"],
    "edit-bank": ["--config.steps=7"],
    "adopt": ["--config.dataset.val_images=4"],
    "inspect": ["--map", "none"],
    "data prepare": ["--jobs", "1"],
    "bench": ["--seconds", "0.001"],
    "bench step": [*SMALL_NETWORK, "--config.batch=4"],
}
FEW["finetune"] += [f"--config.dataset.{name}=4" for name in ("images", "val_images")]
for of in ("harbor", "meadow", "town"):
    FEW["pretrain"] += [f"--config.sources.{of}.images=6", f"--config.sources.{of}.val_images=4"]


def is_run(words, torch):
    """Whether a command is run: with PyTorch, or without it."""
    line = " ".join(words)
    return words not in WHOLE_BENCH and not any(part in line for part in NOT_RUN) and (TORCH in line) == torch


def words_of(page, torch=False):
    """The commands of a page that are run, each with what makes it small."""
    for words in commands(TEXTS[page]):
        if not is_run(words, torch):
            continue
        if words[:3] == ["pretrain", "--config", "runs/without/config.py"]:
            yield words  # goes on with what mdp edit-bank wrote
            continue
        few = [*FEW.get(words[0], []), *FEW.get(" ".join(words[:2]), [])]
        if words[0] == "bench":  # its own cases have a ResNet-50
            few += ["--config", "configs/quickstart/finetune.py"]
        yield [*words, *few]


CONFIG = """from mdp_jax.config import load


def get_config():
    config = load("configs/quickstart/finetune.py")
    config.keep_best = True
    config.evaluate_every = config.checkpoint_every = 1
    return config
"""

CONFIG_OF_PRETRAINING = """from mdp_jax.config import load


def get_config():
    return load("configs/quickstart/pretrain.py")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages take for granted: photos and a config of one's own."""
    found = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "photos/1.jpg", "more/day/2.jpg", "one.png"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(found / name), rng.integers(0, 255, (48, 64, 3), np.uint8))
    (found / "my_finetune.py").write_text(CONFIG)
    return found


def run_page(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for words in words_of(page):
        assert cli.run(words) == 0, words


def test_pages_of_a_pretraining(folder, monkeypatch):
    run_page("docs/inspect.md", folder, monkeypatch)
    run_page("docs/adopt.md", folder, monkeypatch)
    assert {path.name for path in (folder / "runs").iterdir()} == {"look", "without", "adopted", "few", "grown"}
    assert (folder / "runs/look/inspect/inspect.html").exists() and (folder / "labels/photo.png").exists()


def test_pages_of_a_fine_tuned_network(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["finetune", "--config", "my_finetune.py", "--workdir", "runs/scratch", *FEW["finetune"]]
    assert cli.run(words) == 0
    for name in ("longer", "streets", "facades"):
        shutil.copytree("runs/scratch", f"runs/{name}")
    run_page("docs/export.md", folder, monkeypatch)
    shown, goes_on, labelled = words_of("docs/after_training.md")
    assert cli.run(shown) == 0
    shutil.rmtree("runs/longer")
    goes_on[goes_on.index("--config.steps=3")] = "--config.steps=5"
    assert cli.run(goes_on) == 0 and cli.run(labelled) == 0
    assert (folder / "all.html").exists() and (folder / "predictions/one.png").exists()
    assert (folder / "exported/streets_onnx").is_dir()


def test_page_of_weights(folder, monkeypatch):
    """Behind the tests above, whose fine-tuning it reads."""
    monkeypatch.chdir(folder)
    if not (folder / "runs/scratch").exists():
        assert cli.run(["finetune", "--config", "my_finetune.py", "--workdir", "runs/scratch", *FEW["finetune"]]) == 0
    assert cli.run(["convert", "--from", "mdp", "--to", "mmseg", "runs/scratch", "deeplabv3.safetensors"]) == 0
    (words,) = words_of("docs/weights.md")
    words[words.index("runs/streets")] = "runs/from_file"
    words[words.index("--config.steps=3")] = "--config.steps=1"
    assert cli.run([*words, "--config.keep_best=False"]) == 0
    leaves = json.loads((folder / "runs/from_file/transfer.json").read_text())["leaves"]
    assert leaves and all(leaf["from"] for leaf in leaves if "classifier" not in leaf["leaf"])


def test_page_of_weights_with_pytorch(folder, monkeypatch):
    pytest.importorskip("torch", reason=".pth files need PyTorch: make venv EXTRA=torch")
    monkeypatch.chdir(folder)
    (folder / "my_pretrain.py").write_text(CONFIG_OF_PRETRAINING)
    shutil.copytree("runs/scratch", "runs/streets", dirs_exist_ok=True)
    assert (
        cli.run(["convert", "--from", "mdp", "--to", "torchvision", "--backbone", "runs/scratch", "resnet50.pth"]) == 0
    )
    for words in words_of("docs/weights.md", torch=True):
        assert cli.run(words) == 0, words


def test_page_of_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for make in (official.make_voc, official.make_ade20k, official.make_coco_stuff):
        make(tmp_path / "D")
    write_folder(tmp_path / "D/streets")
    for words in words_of("docs/data.md"):
        assert cli.run(words) == 0, words
    assert {path.name for path in (tmp_path / "D/prepared").iterdir()} == {"voc", "voc_train", "streets"}
    assert (tmp_path / "check.json").exists() and (tmp_path / "contact_sheet/voc.html").exists()


def test_page_of_speed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (words,) = words_of("docs/performance.md")
    assert cli.run(words) == 0
    assert [row["ours"] > 0 for row in json.loads((tmp_path / "before.json").read_text())] == [True]


@pytest.mark.parametrize("page", OF_THEM)
def test_each_command_is_run_or_has_a_reason(page):
    """What is left out of a page names a reason; what is run is what the page is about."""
    run = [*words_of(page), *words_of(page, torch=True)]
    assert {words[0] for words in run} - {"pretrain"} == set(OF_THEM[page])


def test_each_reason_is_needed():
    lines = [" ".join(words) for page in OF_THEM for words in commands(TEXTS[page])]
    assert not [part for part in NOT_RUN if not any(part in line for line in lines)]
