"""docs/architecture.md and its picture say what the package is."""

import pathlib
import re
import runpy

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
DRAWING = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))


def test_the_picture_is_of_these_rooms():
    with Image.open(DRAWING["PICTURE"]) as picture:
        assert picture.text["Description"] == DRAWING["contents"](), "run python docs/draw_architecture.py"


def test_every_room_is_drawn_and_told():
    there = {
        path.stem for path in (ROOT / "mdp_jax").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {room for floor in DRAWING["rooms"]() for room in floor} == there
    assert {room for room, _ in DRAWING["WAY"]} <= there
    told = re.findall(r"`(\w+)(?:\.py|/)?`", TEXT)
    assert there <= set(told)


def test_links_and_files_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert all((ROOT / "docs" / target).exists() for target in targets if not target.startswith("http"))
    files = re.findall(r"`((?:mdp_jax|configs|tests|docs)/[\w/]+(?:\.\w+)?)`", TEXT)
    assert files and all((ROOT / file).exists() for file in files)
