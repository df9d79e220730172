"""docs/import.md: its five commands go from a download to pictures, and what it says of forms and links is there."""

import pathlib
import re
import shlex

import cv2
import numpy as np

from mdp_jax import cli
from mdp_jax.data.imported.registry import FORMS
from tests.commands.test_data_import import field
from tests.test_readme import SMALL_RUN

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "import.md").read_text()


def test_from_a_download_to_pictures_in_five_commands(shallow, plain_pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = field("cwfid", photos=6)
    block = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    lines = [shlex.split(line) for line in block.splitlines()]
    assert block in (ROOT / "README.md").read_text()  # the page shows the same commands
    assert len(lines) == 5 and all(words[0] == "mdp" for words in lines)
    for words in lines:
        assert cli.run([*words[1:], *([*SMALL_RUN, "--config.pictures=0"] if words[1] == "finetune" else ())]) == 0
    assert pathlib.Path("field.html").exists() and pathlib.Path("runs/field/evaluation.json").exists()
    label = cv2.imread("pictures/001.png", cv2.IMREAD_UNCHANGED)
    assert label.shape[:2] == ids["001"].shape
    overlay = cv2.imread("pictures/001_overlay.jpg")
    assert overlay.shape[0] > label.shape[0] and np.ptp(overlay) > 0


def test_every_form_is_in_the_table_and_links_lead_somewhere():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE) == list(FORMS)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", PAGE) if not target.startswith("http")]
    assert targets and all((ROOT / "docs" / target).exists() for target in targets)
