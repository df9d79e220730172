"""Files that are no regular ones, and paths that are no paths."""

import os
import socket

import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.commands.data import kinds_with_root
from mdp_jax.data import images
from mdp_jax.data.kinds import KINDS, listing
from mdp_jax.data.sources import open_source, photos_of
from mdp_jax.errors import UserError
from mdp_jax.storage import files
from mdp_jax.storage.json_files import read_json, write_json
from tests.data.fixtures import write_folder, write_jpeg


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FORMS = {"FIFO": _fifo, "socket": _socket, "folder": lambda path: path.mkdir()}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", FORMS)
def test_only_regular_files_are_read(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    root = write_folder(tmp_path / "set")
    for place in ("images/train/p1.jpg", "masks/train/p1.png", "classes.txt"):
        (root / place).rename(tmp_path / "kept")
        FORMS[form](root.relative_to(tmp_path) / place)
        with pytest.raises(UserError, match=rf"{place} is a {form}; expected"):
            source = open_source(base.folder("set", str(root)), base.finetune().data, "", "train", 0)
            photos_of(source) if form == "socket" else source[1]
        (root / place).rmdir() if form == "folder" else (root / place).unlink()
        (tmp_path / "kept").rename(root / place)


def test_devices_and_huge_files(tmp_path):
    with pytest.raises(UserError, match="/dev/zero is a character device; expected an image"):
        images.read_photo("/dev/zero")
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"a\.jpg has 1,099,511,627,776 bytes; expected an image of at most"):
        images.read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("path", ["x" * 300, "a\0b.jpg", "d/" * 3000 + "a.jpg", "no\nfile.jpg"])
def test_paths_that_no_system_takes_are_one_line(path):
    for read in (images.read_photo, images.read_mask, lambda path: files.read_bytes(path, "a list")):
        with pytest.raises(UserError, match="cannot be read") as error:
            read(path)
        assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 1500


@pytest.mark.parametrize("kind", kinds_with_root())
@pytest.mark.parametrize("root", [None, 3, "a\0b", "x" * 300, "d/" * 3000])
def test_roots_that_are_no_folders_are_one_line(tmp_path, kind, root):
    config = KINDS[kind].config("set", root="")
    config = config.copy_and_resolve_references()
    config.unlock()
    if kind == "tfds":
        config.classes = ("a", "b")
    with config.ignore_type():
        config.root = root
    with pytest.raises(UserError) as error:
        open_source(config, base.finetune().data, str(tmp_path), "train", 0)
    assert len(str(error.value).splitlines()) == 1


def test_a_list_that_is_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "train.txt")
    with pytest.raises(UserError, match=r"train\.txt is a FIFO; expected a text file with names"):
        listing.lines(tmp_path / "train.txt", "names")


def test_two_that_write_one_file_at_once(tmp_path, monkeypatch):
    """The second begins and ends while the first has not: each has written a whole file, and the first is the last."""
    file, inner = tmp_path / "scores.json", iter([True])

    def to_disk(descriptor):
        if next(inner, False):
            write_json(file, ["the second one"])

    monkeypatch.setattr(files, "to_disk", to_disk)
    write_json(file, 1)
    assert read_json(file, "scores") == 1 and os.listdir(tmp_path) == ["scores.json"]
    write_json(tmp_path / ("ä" * 125 + ".json"), 1)  # as long as a name can be


def test_a_fingerprint_is_of_the_content_alone(tmp_path):
    root = write_folder(tmp_path / "set")
    open_ = lambda folder: open_source(base.folder("set", str(folder)), base.finetune().data, "", "train", 0)  # noqa: E731
    before = photos_of(open_(root))
    root.rename(tmp_path / "moved")
    for file in (tmp_path / "moved").rglob("*"):
        os.utime(file, (1, 1))
    assert photos_of(open_(tmp_path / "moved")) == before
    for place in ("images/train/p2.jpg", "masks/train/p2.png"):
        file = tmp_path / "moved" / place
        kept = file.read_bytes()
        changed = bytearray(kept)
        changed[-1] ^= 1
        for content in (bytes(changed), kept + b"x"):
            file.write_bytes(content)
            now = photos_of(open_(tmp_path / "moved"))
            assert now["content"] != before["content"] and now["names"] == before["names"]
        file.write_bytes(kept)
    write_jpeg(tmp_path / "moved/images/train/p2.jpg", np.zeros((20, 24, 3)))
    assert photos_of(open_(tmp_path / "moved"))["content"] != before["content"]


def test_numbers_that_json_does_not_have(tmp_path):
    """A file that no reader takes would be worse than a value that is missing."""
    write_json(tmp_path / "rows.json", [{"a": float("nan"), "b": (np.inf, 1.5)}, "NaN", 2, True])
    assert read_json(tmp_path / "rows.json", "rows") == [{"a": None, "b": [None, 1.5]}, "NaN", 2, True]
