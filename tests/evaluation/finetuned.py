"""A small folder dataset, and a workdir as `mdp finetune` leaves it, of a network that a loop can follow."""

import pathlib

import cv2
import jax.numpy as jnp
import numpy as np

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import workdir
from mdp_jax.training.state import FinetuneState

CLASSES = ("sky", "road", "car")
SIZES = {"b": (24, 32), "a": (24, 32), "c": (32, 24)}


def write_dataset(root: pathlib.Path) -> None:
    """Blurred noise and random masks: three photos of two shapes in val, one in train."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "a"), ("val", "abc")):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for name in names:
            height, width = SIZES[name]
            photo = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), 2) * 3
            mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height // 8, width // 8))
            cv2.imwrite(str(root / "images" / split / f"{name}.png"), photo)
            cv2.imwrite(str(root / "masks" / split / f"{name}.png"), mask.repeat(8, 0).repeat(8, 1))
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


class StridedNetwork:
    """Stands in for a Segmenter, which takes seconds to compile: logits of every eighth pixel, linear in its colour."""

    def apply(self, variables, images, train):
        assert not train
        colours = images[:, ::8, ::8]
        logits = jnp.einsum("bhwk,kc->bhwc", colours, variables["params"]["kernel"], precision="highest")
        return logits + variables["batch_stats"]["mean"].reshape(1, 1, 1, -1)


def write_workdir(folder: pathlib.Path, data_dir: pathlib.Path):
    """Makes a workdir with one checkpoint of a StridedNetwork; returns its config and variables."""
    config = base.finetune()
    config.data_dir = str(data_dir)
    config.dataset = base.folder("noise", "noise")
    config.lock()
    rng = np.random.default_rng(3)
    params = {"kernel": rng.normal(size=(3, 3)).astype(np.float32)}
    batch_stats = {"mean": rng.normal(size=3).astype(np.float32)}
    label_space = LabelSpace((("noise", CLASSES),))
    workdir.start(folder, config, label_space)
    checkpoints = Checkpoints(folder)
    state = FinetuneState(jnp.zeros((), jnp.int32), params, batch_stats, ())
    checkpoints.save(1, state, {"config": configs.to_dict(config), "label_space": label_space.rows()})
    checkpoints.close()
    return config, {"params": params, "batch_stats": batch_stats}


def interpolated(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h,w,C] with h, w >= 2 to [*size,C], bilinear, written out pixel by pixel."""
    found = np.zeros((*size, logits.shape[-1]))
    for y, x in np.ndindex(*size):
        corners = []
        for position, n_in, n_out in ((y, logits.shape[0], size[0]), (x, logits.shape[1], size[1])):
            exact = min(max((position + 0.5) * n_in / n_out - 0.5, 0), n_in - 1)
            low = min(int(exact), n_in - 2)
            corners.append((low, exact - low))
        (row, down), (column, right) = corners
        top = logits[row, column] * (1 - right) + logits[row, column + 1] * right
        bottom = logits[row + 1, column] * (1 - right) + logits[row + 1, column + 1] * right
        found[y, x] = top * (1 - down) + bottom * down
    return found


def slid(logits_of, image: np.ndarray, crop: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """[H,W,3] to [H,W,C]: windows of a photo that is larger than one of them, as MMSegmentation places them."""
    height, width = image.shape[:2]
    total, windows = 0.0, np.zeros((height, width, 1))
    for row in range(max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(row * stride[0] + crop[0], height), min(column * stride[1] + crop[1], width)
            part = np.s_[max(bottom - crop[0], 0) : bottom, max(right - crop[1], 0) : right]
            logits = interpolated(logits_of(image[part]), image[part].shape[:2])
            whole = np.zeros((height, width, logits.shape[-1]))
            whole[part] = logits
            total = total + whole
            windows[part] += 1
    return total / windows


def expected_labels(
    config, variables, image: np.ndarray, size: tuple[int, int], windows=None, scales=(1.0,), flips=(1,)
) -> np.ndarray:
    """Labels of one photo; `windows` = (crop, stride), `flips` the steps in which columns are read, 1 or -1."""

    def logits_of(image):
        colours = (image[::8, ::8] - np.array(config.data.mean)) / np.array(config.data.std)
        return colours @ variables["params"]["kernel"] + variables["batch_stats"]["mean"]

    total = 0.0
    for scale in scales:
        seen = images.resize_photo(image, *(int(side * scale + 0.5) for side in image.shape[:2]))
        for step in flips:
            logits = slid(logits_of, seen[:, ::step], *windows) if windows else logits_of(seen[:, ::step])
            odds = np.exp(interpolated(logits, size)[:, ::step])
            total = total + odds / odds.sum(axis=-1, keepdims=True)
    return np.argmax(total, axis=-1)
