"""Small networks with seeded weights, as trees, workdirs and files in the layouts of other libraries."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.models import network
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import workdir
from tests import tiny
from tests.models import seeded

CLASSES = ("sky", "road", "car")


def variables_of(model) -> dict:
    """Seeded {"params", "batch_stats"} of a Flax model; the second is {} without batch normalisation."""
    init = functools.partial(model.init, x=jnp.zeros((1, 32, 32, 3)), train=False)
    return {"batch_stats": {}} | seeded.variables(jax.eval_shape(init, jax.random.key(0)))


def segmenter_variables(**overrides) -> dict:
    """Of the network of tests/tiny.py with CLASSES."""
    return variables_of(network.segmenter(tiny.finetune_config(**overrides).model, len(CLASSES)))


def write_workdir(folder: pathlib.Path, config, variables: dict) -> pathlib.Path:
    """A workdir with one checkpoint, as far as converting needs it."""
    label_space = LabelSpace((("valley", CLASSES),))
    workdir.start(folder, config, label_space)
    checkpoints = Checkpoints(folder)
    checkpoints.save(
        1, {"step": np.int32(1)} | jax.tree.map(np.asarray, variables), {"label_space": label_space.rows()}
    )
    checkpoints.close()
    return folder


def finetuned(folder: pathlib.Path, **overrides) -> tuple[pathlib.Path, dict]:
    """A workdir of `mdp finetune`, and its variables."""
    variables = segmenter_variables(**overrides)
    return write_workdir(folder, tiny.finetune_config(**overrides), variables), variables


def pretrained(folder: pathlib.Path, **overrides) -> tuple[pathlib.Path, dict]:
    """A workdir of `mdp pretrain`, and the variables of its query encoder."""
    config = tiny.pretrain_config(**overrides)
    variables = variables_of(network.pixel_encoder(config.model))
    return write_workdir(folder, config, variables), variables


def write_file(path: pathlib.Path, state: dict[str, np.ndarray]) -> pathlib.Path:
    """A .safetensors file."""
    safetensors.numpy.save_file({key: np.copy(array, order="C") for key, array in state.items()}, path)
    return path


def assert_same_tree(have, want) -> None:
    """Equal bit for bit."""
    assert jax.tree.structure(have) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, have, want)
