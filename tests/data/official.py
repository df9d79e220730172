"""Tiny datasets in the official directories, as their releases and MMSegmentation lay them out.

Each function writes one dataset at its usual place under `data_dir`, the one that mdp_jax/configs.py has by default,
and returns that place. Names, lists, suffixes, id gaps and forms of the PNGs are those of the releases.
"""

import pathlib

import cv2
import numpy as np
from PIL import Image

from tests.data.fixtures import write_jpeg, write_png

VOC_TRAIN = ("2007_000032", "2007_000039", "2007_000063", "2008_000008")
VOC_AUG = ("2008_000002", "2008_000003", "2008_000007")  # of SBD, not in VOC's own training list
VOC_VAL = ("2007_000033", "2007_000042")
VOC_UNLABELLED = ("2012_004331",)  # most photos of VOC have boxes alone

# Values of the masks -> class ids in training, 255 = ignore.
VOC_IDS = {0: 0, 1: 1, 15: 15, 20: 20, 255: 255}
ADE20K_IDS = {0: 255, 1: 0, 2: 1, 83: 82, 150: 149}
COCO_STUFF_IDS = {0: 0, 10: 10, 12: 11, 24: 23, 91: 80, 92: 81, 181: 170, 255: 255}
CITYSCAPES_IDS = {0: 255, 3: 255, 7: 0, 11: 2, 17: 5, 24: 11, 29: 255, 33: 18}


def make_voc(data_dir: pathlib.Path, aug: str = "aug") -> pathlib.Path:
    """VOC 2012 with SBD: 4 training photos, 3 of SBD, 2 for validation, 1 without a mask.

    `aug`: "aug" writes MMSegmentation's lists aug.txt (SBD alone) and trainaug.txt, and masks of the SBD photos alone;
    "train_aug" writes DeepLab's list train_aug.txt of pairs of paths, and masks of every photo; "" neither.
    """
    root = data_dir / "VOCdevkit" / "VOC2012"
    for folder in ("Annotations", "JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    lists = {"train": VOC_TRAIN, "val": VOC_VAL, "trainval": VOC_TRAIN + VOC_VAL}
    if aug:
        (root / "SegmentationClassAug").mkdir()
    if aug == "aug":
        lists |= {"aug": VOC_AUG, "trainaug": VOC_TRAIN + VOC_AUG}
    if aug == "train_aug":
        rows = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in VOC_TRAIN + VOC_AUG]
        lists["train_aug"] = tuple(rows)
    for name, lines in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    for number, name in enumerate(VOC_TRAIN + VOC_VAL + VOC_AUG + VOC_UNLABELLED):
        mask = blocks(tuple(VOC_IDS), number, _turned((60, 80), number))
        write_jpeg(root / "JPEGImages" / f"{name}.jpg", photo_of(mask))
        if name in VOC_TRAIN + VOC_VAL:
            write_palette_png(root / "SegmentationClass" / f"{name}.png", mask)
            write_palette_png(root / "SegmentationObject" / f"{name}.png", mask > 0)
        if aug and (name in VOC_AUG or (aug == "train_aug" and name not in VOC_UNLABELLED)):
            write_png(root / "SegmentationClassAug" / f"{name}.png", mask)
    return root


def make_ade20k(data_dir: pathlib.Path) -> pathlib.Path:
    """ADEChallengeData2016: 4 training and 2 validation photos; 0 is no class, 1 to 150 are."""
    root = data_dir / "ade" / "ADEChallengeData2016"
    for split, short, photos in (("training", "train", 4), ("validation", "val", 2)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(photos):
            mask = blocks(tuple(ADE20K_IDS), number + 10 * (short == "val"), _turned((64, 84), number))
            name = f"ADE_{short}_{number + 1:08d}"
            write_jpeg(root / "images" / split / f"{name}.jpg", photo_of(mask))
            write_png(root / "annotations" / split / f"{name}.png", mask)
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n")
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return root


def make_coco_stuff(data_dir: pathlib.Path, masks: tuple[str, ...] = ("",)) -> pathlib.Path:
    """COCO-Stuff 164k: 4 training and 2 validation photos.

    `masks`: "" writes the release's masks (ids 0 to 181 with gaps), "_labelTrainIds" what MMSegmentation makes of them.
    """
    root = data_dir / "coco_stuff164k"
    for split, numbers in (("train2017", (9, 25, 30, 581929)), ("val2017", (139, 285))):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for i, number in enumerate(numbers):
            mask = blocks(tuple(COCO_STUFF_IDS), number, _turned((60, 80), i))
            write_jpeg(root / "images" / split / f"{number:012d}.jpg", photo_of(mask))
            for suffix in masks:
                stored = translated(mask, COCO_STUFF_IDS) if suffix else mask
                write_png(root / "annotations" / split / f"{number:012d}{suffix}.png", stored)
    return root


def make_cityscapes(data_dir: pathlib.Path, masks: tuple[str, ...] = ("labelIds",)) -> pathlib.Path:
    """Cityscapes with fine masks: 3 training photos of two cities, 2 validation photos of one.

    `masks`: "labelIds" writes the release's masks, "labelTrainIds" what cityscapesScripts makes of them.
    """
    root = data_dir / "cityscapes"
    frames = {"train": ("aachen_000000", "aachen_000001", "bremen_000000"), "val": ("lindau_000000", "lindau_000001")}
    for split, names in frames.items():
        for i, name in enumerate(names):
            folders = [root / kind / split / name.split("_")[0] for kind in ("leftImg8bit", "gtFine")]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            mask = blocks(tuple(CITYSCAPES_IDS), i + 10 * (split == "val"), (48, 96))
            write_png(folders[0] / f"{name}_000019_leftImg8bit.png", photo_of(mask))
            fine = folders[1] / f"{name}_000019_gtFine"
            pathlib.Path(f"{fine}_polygons.json").write_text('{"imgHeight": 48, "imgWidth": 96, "objects": []}')
            write_png(pathlib.Path(f"{fine}_color.png"), photo_of(mask))
            write_png(pathlib.Path(f"{fine}_instanceIds.png"), mask.astype(np.uint16) * 1000, dtype=np.uint16)
            for kind in masks:
                stored = translated(mask, CITYSCAPES_IDS) if kind == "labelTrainIds" else mask
                write_png(pathlib.Path(f"{fine}_{kind}.png"), stored)
    return root


def _turned(size: tuple[int, int], number: int) -> tuple[int, int]:
    """Every third photo stands upright."""
    return size[::-1] if number % 3 == 2 else size


def blocks(ids: tuple[int, ...], seed: int, size: tuple[int, int]) -> np.ndarray:
    """A mask, uint8 [height, width], of 4 x 4 blocks in which every one of at most 16 ids occurs."""
    order = np.random.default_rng(seed).permutation(16)
    grid = np.array(ids, np.uint8)[order.reshape(4, 4) % len(ids)]
    return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_NEAREST)


def photo_of(mask: np.ndarray) -> np.ndarray:
    """A photo, uint8 [H, W, 3], in which every id has a colour of its own under some noise."""
    values = mask.astype(np.int32)[..., None]
    colour = values * np.array([37, 101, 59]) % 200 + 20
    return (colour + np.random.default_rng(int(mask.sum())).integers(-20, 21, colour.shape)).astype(np.uint8)


def translated(mask: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    """The mask with each value replaced as `ids` says, uint8."""
    return np.vectorize(ids.__getitem__)(mask).astype(np.uint8)


def voc_colours() -> np.ndarray:
    """The colour map of VOC's devkit, uint8 [256, 3]: bits 0, 1, 2 of the id, then 3, 4, 5, from the top bit down."""
    colours = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colours


def write_palette_png(path: pathlib.Path, mask: np.ndarray) -> None:
    """A PNG of 8 bits whose pixels are indices of VOC's palette, as the devkit's masks are."""
    image = Image.fromarray(mask.astype(np.uint8)).convert("L")
    image.putpalette(voc_colours().ravel().tolist())
    image.save(path)
