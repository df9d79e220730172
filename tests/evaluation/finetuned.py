"""A small folder dataset, and a workdir as `mdp finetune` leaves it, with seeded weights in place of trained ones."""

import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from mdp_jax import config as configs
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.models import network
from mdp_jax.training import workdir
from mdp_jax.training.checkpoint import Checkpoints
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


def small_config(data_dir: pathlib.Path):
    """A fine-tuning config of a network that compiles in seconds."""
    config = base.finetune()
    config.data_dir = str(data_dir)
    config.dataset = base.folder("noise", "noise")
    config.data.crop = (16, 16)
    config.model.update({"backbone": "resnet18", "width": 1 / 8, "output_stride": 8})
    config.model.decoder.update({"channels": 8, "rates": (1, 2, 3)})
    config.lock()
    return config


def write_workdir(folder: pathlib.Path, config) -> dict:
    """Makes a workdir with one checkpoint; returns its variables."""
    segmenter = network.segmenter(config.model, len(CLASSES))
    variables = jax.jit(lambda key: segmenter.init(key, jnp.zeros((2, 16, 16, 3)), train=False))(jax.random.key(3))
    # Weights of a new classifier are small, and one class would win everywhere.
    classifier = jax.tree.map(lambda leaf: 50 * leaf, variables["params"]["classifier"])
    params = variables["params"] | {"classifier": classifier}
    label_space = LabelSpace((("noise", CLASSES),))
    workdir.open_workdir(folder, config, label_space)
    checkpoints = Checkpoints(folder)
    state = FinetuneState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], ())
    checkpoints.save(1, state, {"config": configs.to_dict(config), "label_space": label_space.rows()})
    checkpoints.close()
    return {"params": params, "batch_stats": variables["batch_stats"]}


def expected_labels(config, variables, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels of one photo, the interpolation written out pixel by pixel."""
    normalised = (image[None].astype(np.float32) - np.float32(config.data.mean)) / np.float32(config.data.std)
    logits = network.segmenter(config.model, len(CLASSES)).apply(variables, normalised, train=False)
    logits = np.asarray(logits, np.float64)[0]
    labels = np.zeros(size, int)
    for y, x in np.ndindex(*size):
        corners = []
        for position, n_in, n_out in ((y, logits.shape[0], size[0]), (x, logits.shape[1], size[1])):
            exact = min(max((position + 0.5) * n_in / n_out - 0.5, 0), n_in - 1)
            low = min(int(exact), n_in - 2)
            corners.append((low, exact - low))
        (row, down), (column, right) = corners
        top = logits[row, column] * (1 - right) + logits[row, column + 1] * right
        bottom = logits[row + 1, column] * (1 - right) + logits[row + 1, column + 1] * right
        labels[y, x] = np.argmax(top * (1 - down) + bottom * down)
    return labels
