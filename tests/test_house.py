"""An objective, a backbone, a decoder or a dataset kind is named in its own room alone (docs/architecture.md)."""

import ast
import pathlib
import re

import pytest

from mdp_jax.data.kinds import KINDS
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.objectives.registry import OBJECTIVES

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "mdp_jax"

# Registry -> the folders that the entries' own files are in, with the registry itself.
ROOMS = {
    "objective": (OBJECTIVES, ("objectives",)),
    "backbone": (BACKBONES, ("models/backbones", "models/registry.py", "weights/names")),
    "decoder": (DECODERS, ("models/decoders", "models/registry.py")),
    "kind": (KINDS, ("data/kinds",)),
}

# Where a name may stand besides: the defaults of configs, with the comments that list them; and what is about one
# network or one loss by its purpose: the version in PyTorch, which has an objective and two networks.
EVERYWHERE = ("configs.py", "parity")

# (file, name): what the word means there. It is no choice by name.
OTHER_MEANINGS = {
    ("cli.py", "mdp"): "the command",
    ("commands/convert.py", "mdp"): "the format of a file, beside torchvision and mmseg",
    ("commands/reproduce.py", "mdp"): "the command",
    ("runtime.py", "mdp"): "the command",
    ("studies/experiments.py", "mdp"): "what a suite calls the config as it is",
    ("method/segmentation_losses.py", "cross_entropy"): "a loss of fine-tuning",
    ("data/prepared/builder.py", "array_record"): "the file format of TensorFlow Datasets",
}

# (file, module): users of what one entry has beside its record.
OTHER_IMPORTS: set[tuple[str, str]] = set()

# Names that are no words of English and no names of libraries: they may not stand in a comment or message either.
UNMISTAKABLE = re.compile(r".*([0-9]|_to_|_head|_stuff|cityscapes|_v1c).*")


def _others(rooms):
    """(path below the package, its text) of the files in which a name of these rooms has no business."""
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        if not path.startswith((*rooms, *EVERYWHERE)):
            yield path, file.read_text()


@pytest.mark.parametrize("what", ROOMS)
def test_no_name_is_chosen_by_outside_its_room(what):
    """No text in the code is a name of the registry."""
    names, rooms = ROOMS[what]
    found = {
        (path, node.value)
        for path, text in _others(rooms)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    }
    assert found <= OTHER_MEANINGS.keys()


@pytest.mark.parametrize("what", ROOMS)
def test_no_name_is_written_outside_its_room(what):
    """Not in a comment, a docstring or a message: it would have to be extended for a new one."""
    names, rooms = ROOMS[what]
    words = {name: re.compile(rf"(?<![\w/]){name}(?!\w)") for name in names if UNMISTAKABLE.fullmatch(name)}
    found = [f"{path}: {name}" for path, text in _others(rooms) for name, word in words.items() if word.search(text)]
    assert words and not found


@pytest.mark.parametrize("what", ROOMS)
def test_no_file_of_an_entry_is_imported_outside_its_room(what):
    """Others take entries from the registries."""
    _, rooms = ROOMS[what]
    own = {
        f"mdp_jax.{file.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"
        for room in rooms
        for file in (PACKAGE / room).glob("*.py")
        if file.stem in _stems(what)
    }
    found = {
        (path, module)
        for path, text in _others(rooms)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for module in {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & own
    }
    assert own and found <= OTHER_IMPORTS


def _stems(what):
    """Names of the files of the entries: of the names themselves, or of their families."""
    names, rooms = ROOMS[what]
    families = {file.stem for file in (PACKAGE / rooms[0]).glob("*.py")}
    return {family for family in families if any(name.startswith(family) for name in names)}


def test_exceptions_are_used():
    """A meaning that is not there any more leaves the list."""
    for path, name in OTHER_MEANINGS:
        assert re.search(rf"[\"']{name}[\"']", (PACKAGE / path).read_text()), (path, name)
    for path, module in OTHER_IMPORTS:
        assert f"from {module} import" in (PACKAGE / path).read_text(), (path, module)
