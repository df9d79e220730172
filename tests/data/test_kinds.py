"""The registry of the dataset kinds, and what all kinds have in common."""

import inspect
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.configs import SourceConfig, as_config_dict
from mdp_jax.data import images
from mdp_jax.data.kinds import DEFAULT_KIND, KINDS
from mdp_jax.data.sources import check_source, open_source
from tests.data import official
from tests.data.fixtures import write_folder, write_png

MADE = {DEFAULT_KIND} | {name.removeprefix("make_") for name in dir(official) if name.startswith("make_")}
ON_DISK = tuple(name for name, kind in KINDS.items() if kind.has_masks_on_disk and name in MADE)


def _made(kind: str, data_dir):
    """A small dataset of a kind whose photos and masks are files, and its config."""
    if kind == DEFAULT_KIND:
        return write_folder(data_dir / kind), KINDS[kind].config(kind, kind)
    return getattr(official, f"make_{kind}")(data_dir), KINDS[kind].config()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_and_its_config(kind):
    record = KINDS[kind]
    assert issubclass(record.config_type, SourceConfig)
    values = {"name": "town", "root": "set", "images": 3}
    values = {key: value for key, value in values.items() if key in inspect.signature(record.config).parameters}
    config = record.config(**values)
    assert config.is_locked and config.kind == kind and config == getattr(base, kind, record.config)(**values)
    assert as_config_dict(record.config_type(**config.to_dict())).lock() == config


def test_the_registry_names_no_stranger():
    assert DEFAULT_KIND in KINDS and "nothing" not in KINDS and len(KINDS) == len(list(KINDS))
    with pytest.raises(KeyError):
        KINDS["nothing"]


def test_names_cost_no_import():
    code = "import sys; from mdp_jax.data.kinds import KINDS; list(KINDS); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cv2", "numpy", "jax", "ml_collections"} & set(loaded)


@pytest.mark.parametrize("kind", ON_DISK)
def test_nothing_is_passed_over_in_a_release(kind, tmp_path):
    _, config = _made(kind, tmp_path)
    for split in ("train", "val"):
        said = []
        source = open_source(config, base.finetune().data, str(tmp_path), split, 0)
        assert list(source.passed_over) == []
        check_source(source, 100, said.append)
        assert not [line for line in said if "passed over" in line]


@pytest.mark.parametrize("kind", ON_DISK)
def test_what_is_passed_over_is_counted_and_named(kind, tmp_path):
    """In a sub-folder, of another suffix, of capital letters; other files and hidden ones do not matter."""
    _, config = _made(kind, tmp_path)
    photo, mask = open_source(config, base.finetune().data, str(tmp_path), "train", 0).files(0)
    more = photo.parent / "more" / "deeper"
    more.mkdir(parents=True)
    expected = [more / "new.JPG", photo.parent / "new.tiff", mask.parent / "new_mask.webp"]
    others = [photo.parent / "notes.txt", photo.parent / ".hidden.png", more / "Thumbs.db"]
    for file in (*expected, *others):
        file.write_bytes(b"")
    source, said = open_source(config, base.finetune().data, str(tmp_path), "train", 0), []
    assert list(source.passed_over) == sorted(map(str, expected))
    check_source(source, 100, said.append)
    (line,) = (line for line in said if "passed over" in line)
    assert f"dataset '{config.name}' train: passed over: 3 files ({sorted(map(str, expected))[0]} and 2 more): " in line


def test_masks_that_no_list_names_are_passed_over(tmp_path):
    root, config = _made("voc", tmp_path)
    write_png(root / "SegmentationClass" / "stray.png", np.zeros((4, 4)))
    source = open_source(config, base.finetune().data, str(tmp_path), "val", 0)
    assert [path.rsplit("/", 1)[-1] for path in source.passed_over] == ["stray.png"]


@pytest.mark.parametrize("kind", ON_DISK)
def test_photos_of_16_bits_are_read_in_every_kind(kind, tmp_path):
    _, config = _made(kind, tmp_path)
    source = open_source(config, base.finetune().data, str(tmp_path), "train", 0)
    for index in range(len(source)):
        photo, _ = source.files(index)
        shade = images.read_photo(photo).astype(np.uint16) * 16
        photo.write_bytes(cv2.imencode(".png", shade[..., ::-1])[1].tobytes())  # whatever its suffix
    before, said = images.read_photo(source.files(0)[0]), []
    assert before.max() > 100
    check_source(source, 100, said.append)
    np.testing.assert_array_equal(source[0]["image"], before)
    assert any(f"photos of 16 bits, scaled to 8 from 12 bits: {len(source)}" in line for line in said)
