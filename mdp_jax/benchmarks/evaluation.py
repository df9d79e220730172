"""`mdp bench evaluation`: photos a second of an evaluation of many shapes, beside its forward passes alone."""

import argparse
import pathlib
import time
from collections.abc import Callable, Mapping

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import checks, configs, runtime
from mdp_jax import config as config_files
from mdp_jax.benchmarks.chosen import config_of
from mdp_jax.benchmarks.measure import Row, median_taken
from mdp_jax.data import images
from mdp_jax.data.drawn import scenes
from mdp_jax.errors import UserError
from mdp_jax.evaluation import inference
from mdp_jax.models.apply import Network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.reporting.progress import Progress
from mdp_jax.training import programs, sharding

CONFIG = "configs/quickstart/finetune.py"  # of the network
DRAWN = "town"
PHOTOS, SHAPES = 100, 20
HEIGHT, WIDTH = 96, 128  # of the first shape; each of the others has STEP rows more than the one before
STEP = 2


class Photos:
    """Drawn scenes as JPEG files in memory, decoded whenever they are asked for, and their label maps."""

    def __init__(self, photos: int, shapes: int):
        """Draws them.

        Args:
          photos: their number.
          shapes: number of their shapes, which take turns.
        """
        self.name, self.classes = DRAWN, scenes.classes(DRAWN)
        self.palette: np.ndarray | None = None
        self.passed_over: Mapping[str, str] = {}
        self.content = ""
        self._samples = []
        for i in range(photos):
            image, label = scenes.draw(DRAWN, "val", i, size=(HEIGHT + STEP * (i % shapes), WIDTH))
            self._samples.append((cv2.imencode(".jpg", image[..., ::-1])[1].tobytes(), label))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        photo, label = self._samples[index]
        return {"image": images.decode_photo(self.describe(index), photo), "label": label}

    def describe(self, index: int) -> str:
        """The name of a photo in messages."""
        return f"scene {index}"

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """None: they are in memory."""
        del index
        return ()


def measure(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> tuple[list[Row], str]:
    """The row of the case, and a line that says what was measured.

    Args:
      args: `config` of mdp finetune, whose network is taken, or None for CONFIG; `classes`, `data_dir` must be None;
        `seconds` for each measurement.
      overrides: of the config.

    Raises:
      UserError: a wrong config.
    """
    for name in ("classes", "data_dir"):
        if getattr(args, name):
            raise UserError(
                f"--{name} {getattr(args, name)}: belongs to step, loss or data; evaluation draws its photos"
            )
    config = config_of(args, [*overrides, ("devices", "1")], None if args.config else config_files.load(CONFIG))
    if "dataset" not in config:
        raise UserError(f"--config {args.config}: of mdp pretrain; expected a config of mdp finetune")
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    checks.finetuning(config, 1)
    photos = Photos(PHOTOS, SHAPES)
    network, variables = _network(config, len(photos.classes))
    normalise = Normalise.of(config.data, config.model.compute_dtype)
    evaluator = inference.Evaluator(network, photos, normalise, threads=config.data.threads)
    with Progress(2, unit="measurement") as progress:
        began = time.perf_counter()
        evaluator(variables)
        first = time.perf_counter() - began
        progress.update(1)
        passes = _passes(photos, network, normalise, variables)
        taken = median_taken({"whole": lambda: evaluator(variables), "alone": passes}, args.seconds)
        progress.update(2)
    more = {
        "ratio": taken["alone"].clock / taken["whole"].clock,
        "forward passes alone": PHOTOS / taken["alone"].clock,
        "first (s)": first,
    }
    row = Row(f"evaluation: {PHOTOS} photos of {SHAPES} shapes", PHOTOS / taken["whole"].clock, None, more)
    return [row], (
        f"Photos/s of {HEIGHT} x {WIDTH} pixels and a little more ({jax.default_backend()}): decoded, labelled and "
        "counted, with programs that are compiled; beside the forward passes on batches that are there (ratio: "
        "they are 1). First: the first evaluation, with compilation."
    )


def _network(config: ConfigDict, classes: int) -> tuple[Network, dict]:
    """A network of the config with random weights, and its variables."""
    program = programs.finetuning(configs.typed_finetune(config), sharding.make_mesh(1), classes, ())
    state = program.make()
    return program.network, {"params": state.params, "batch_stats": state.batch_stats}


def _passes(photos: Photos, network: Network, normalise: Normalise, variables: dict) -> Callable[[], object]:
    """A function that passes all photos through the network once, those of one shape together."""
    of_shape: dict[tuple, list[np.ndarray]] = {}
    for i in range(len(photos)):
        image = photos[i]["image"]
        of_shape.setdefault(image.shape, []).append(image)
    batches = [jnp.asarray(np.stack(group)) for group in of_shape.values()]
    forward = jax.jit(lambda variables, batch: network.apply(variables, normalise(batch), train=False))
    return lambda: jax.block_until_ready([forward(variables, batch) for batch in batches])
