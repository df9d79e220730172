"""The commands of the pages about a trained network, as they stand there, on drawn scenes with a small network.

Commands that are not run are in NOT_RUN with the reason; that `mdp` understands them is shown in test_pages.py.
"""

import shutil

import cv2
import numpy as np
import pytest

from mdp_jax import cli
from tests.test_pages import TEXTS, commands
from tests.test_readme import SMALL_NETWORK

NOT_RUN = {
    "serve": "waits for a browser; tests/serving has it",
    "config.wandb": "needs an account; tests/training has it",
}
OF_THEM = {
    "docs/inspect.md": ("inspect", "edit-bank", "predict"),
    "docs/adopt.md": ("adopt", "evaluate", "predict"),
    "docs/export.md": ("export",),
    "docs/after_training.md": ("report", "finetune", "predict"),
}
FEW = {
    "pretrain": [*SMALL_NETWORK, "--config.batch=4", "--config.steps=6"],
    "finetune": [*SMALL_NETWORK, "--config.batch=4", "--config.steps=3", "--config.dataset.images=4"],
    "edit-bank": ["--config.steps=7"],
    "inspect": ["--map", "none"],
}
FEW["pretrain"] += [f"--config.sources.{name}.images=6" for name in ("harbor", "meadow", "town")]


def words_of(page):
    """The commands of a page that are run, each with what makes it small."""
    found = [words for words in commands(TEXTS[page]) if not any(reason in " ".join(words) for reason in NOT_RUN)]
    for words in found:
        if words[:3] == ["pretrain", "--config", "runs/without/config.py"]:
            yield words  # goes on with what mdp edit-bank wrote
        else:
            yield [*words, *FEW.get(words[0], [])]


CONFIG = """from mdp_jax.config import load


def get_config():
    config = load("configs/quickstart/finetune.py")
    config.keep_best = True
    config.evaluate_every = config.checkpoint_every = 1
    return config
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


@pytest.mark.parametrize("page", OF_THEM)
def test_each_command_is_run_or_has_a_reason(page):
    """What is left out of a page names a reason; what is run is what the page is about."""
    assert {words[0] for words in words_of(page)} - {"pretrain"} == set(OF_THEM[page])
