"""A set of TensorFlow Datasets that these tests make themselves, as TFDS makes its own ones."""

import io
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.data.kinds.tfds import TfdsSource
from mdp_jax.data.sources import NO_CONTENT, check_source, is_same, open_source, photos_of
from mdp_jax.errors import UserError

CLASSES = ("pet", "background", "border")
PHOTO = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3)).astype(np.uint8)
MASK = np.random.default_rng(1).integers(1, 4, (4, 20, 24)).astype(np.uint8)


def _encoded(image: np.ndarray, suffix: str) -> io.BytesIO:
    return io.BytesIO(cv2.imencode(suffix, image)[1].tobytes())


def _upside_down(jpeg: io.BytesIO) -> io.BytesIO:
    """The JPEG with the EXIF orientation 3, which says that it is to be turned by 180 degrees."""
    data = jpeg.getvalue()
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x03\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    return io.BytesIO(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + data[2:])


class TinyPets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Trimaps of 1 to 3, as oxford_iiit_pet has them; PNG photos, so that their values are known."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        mask = tfds.features.Image(shape=(None, None, 1))
        features = {"image": tfds.features.Image(), "segmentation_mask": mask, "species": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(3)), "test": self._generate_examples(range(3, 4))}

    def _generate_examples(self, indices):
        photos = [_encoded(image[..., ::-1], ".png") for image in PHOTO]
        masks = [_encoded(mask, ".png") for mask in MASK]
        photos[2] = _upside_down(_encoded(PHOTO[2], ".jpg"))
        if self.data_path.match("*wrong*/*/*"):
            masks = [_encoded(MASK[0] + 1, ".png"), _encoded(MASK[0, :9], ".png"), _encoded(PHOTO[0], ".png"), masks[3]]
        for i in indices:
            yield i, {"image": photos[i], "segmentation_mask": masks[i], "species": "cat"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for name, file_format in (("right", "array_record"), ("wrong", "array_record")):
        TinyPets(data_dir=folder / name, file_format=file_format).download_and_prepare()
    return folder


def _config(root="right", **changes):
    config = base.tfds("pets", "tiny_pets", CLASSES, root=root)
    config.update({"label_offset": 1} | changes)
    return config


def _open(data_dir, split="train", **changes) -> TfdsSource:
    return TfdsSource(_config(**changes), str(data_dir), split)


def test_photos_and_labels(data_dir):
    train, val = _open(data_dir), _open(data_dir, "val")
    assert (train.name, train.classes, len(train), len(val)) == ("pets", CLASSES, 3, 1)
    for source, index, number in ((train, 0, 0), (train, 1, 1), (val, 0, 3)):
        sample = source[index]
        np.testing.assert_array_equal(sample["image"], PHOTO[number], strict=True)
        np.testing.assert_array_equal(sample["label"], MASK[number].astype(np.int16) - 1, strict=True)
    assert [train.describe(1), val.describe(0)] == ["train[1]", "test[0]"]


def test_a_set_that_was_prepared_anew_is_another_one(data_dir):
    right, again, wrong = (photos_of(_open(data_dir, root=root)) for root in ("right", "right", "wrong"))
    assert right == again and right["names"] == wrong["names"] and right["content"] != wrong["content"]
    assert is_same(right, again) and not is_same(right, wrong)
    assert is_same(right | {"content": NO_CONTENT}, right)  # of an earlier version


def test_photos_are_not_turned(data_dir):
    as_stored = cv2.imdecode(np.frombuffer(_encoded(PHOTO[2], ".jpg").getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(_open(data_dir)[2]["image"], as_stored)


def test_a_damaged_jpeg_is_named_and_no_photo_is_said_to_be_turned(data_dir):
    source, said = open_source(_config(), base.finetune().data, str(data_dir), "train", 0), []
    records = [dict(source._source._records[index]) for index in range(3)]
    data = records[2]["image"]
    records[2]["image"] = data[:-30] + bytes(28) + data[-2:]
    source._source._records = records
    check_source(source, 100, said.append)
    (line,) = said
    assert line.startswith("dataset 'pets' train: damaged JPEGs, with pixels that are made up: 1 of 3 (train[2]: ")


def test_ignored_values_and_parts_of_splits(data_dir):
    source = _open(data_dir, classes=("background", "border"), label_offset=2, ignore=(1, 255))
    np.testing.assert_array_equal(source[0]["label"], np.where(MASK[0] == 1, -1, MASK[0].astype(np.int16) - 2))
    part = _open(data_dir, val_split="train[2:]", split="val")
    assert len(part) == 1
    np.testing.assert_array_equal(part[0]["label"], _open(data_dir)[2]["label"])


def test_as_any_other_kind_in_a_config(data_dir):
    source = open_source(_config(drop_classes=("border",)), base.finetune().data, str(data_dir), "train", 0)
    np.testing.assert_array_equal(source[0]["label"], np.where(MASK[0] == 3, -1, MASK[0].astype(np.int16) - 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, r"dataset 'pets': classes = \(\); expected the names of the classes, each once"),
        ({"classes": ("a", "a")}, "expected the names of the classes, each once"),
        ({"label_offset": 254}, r"label_offset 254, 3 classes and ignore \(255,\); expected values from 0 to 255"),
        ({"label_offset": -1}, "label_offset -1"),
        ({"ignore": (1, 255)}, r"ignore \(1, 255\)"),
        ({"ignore": (256,)}, r"ignore \(256,\)"),
        ({"split": "test"}, "dataset 'pets' has no split 'test'; expected train or val"),
        ({"train_split": "trian"}, "has no 'trian' to read: Unknown split 'trian'"),
        ({"train_split": "train[:x]"}, r"has no 'train\[:x\]' to read: Error parsing split"),
        ({"image_key": "photo"}, "'photo' of tiny_pets is no image; its keys are image, segm"),
        ({"mask_key": "species"}, "'species' of tiny_pets is no image"),
        ({"tfds_name": "tiny_pest"}, r"tfds\.builder\('tiny_pest', data_dir=.* fails: Dataset tiny_pest not found"),
        ({"tfds_name": "../pets"}, "fails: Parsing builder name string"),
        ({"tfds_name": "tiny_pets:2.0.0"}, "fails: "),
        ({"root": "nowhere"}, "fails: Dataset tiny_pets not found"),
        (
            {"tfds_name": "oxford_iiit_pet"},
            r"oxford_iiit_pet/4\.0\.0 is missing; expected tfds\.builder\('oxford",
        ),
    ],
)
def test_errors_on_opening(data_dir, changes, message):
    with pytest.raises(UserError, match=message) as error:
        _open(data_dir, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (0, r"dataset 'pets': train\[0\] \(mask\) holds id 4; expected 1 to 3 or 255"),
        (1, r"train\[1\] \(mask\) is 9 x 24 pixels \(height x width\); expected 20 x 24 as its photo"),
        (2, r"train\[2\] \(mask\) is a RGB PNG of 8 bits"),
    ],
)
def test_errors_on_reading(data_dir, index, message):
    with pytest.raises(UserError, match=message):
        _open(data_dir, root="wrong")[index]


def test_a_flipped_bit_is_found_on_reading(data_dir, tmp_path):
    shard = "tiny_pets/1.0.0/tiny_pets-train.array_record-00000-of-00001"
    (tmp_path / shard).parent.mkdir(parents=True)
    for path in (data_dir / "right" / shard).parent.iterdir():
        (tmp_path / shard).with_name(path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / shard).read_bytes())
    data[200] ^= 1
    (tmp_path / shard).write_bytes(data)
    with pytest.raises(UserError, match=r"dataset 'pets': train\[0\] is damaged: Corrupted"):
        _open(tmp_path, root="")[0]


def test_shipped_config_for_the_pets():
    dataset = configs.load("configs/finetune/oxford_iiit_pet.py").dataset
    assert (dataset.kind, dataset.tfds_name, dataset.label_offset) == ("tfds", "oxford_iiit_pet", 1)
    assert tuple(dataset.classes) == ("pet", "background", "border")
    builder = tfds.builder(dataset.tfds_name, data_dir=pathlib.Path("nowhere"))
    assert {dataset.image_key, dataset.mask_key} <= builder.info.features.keys()
