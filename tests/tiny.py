"""Runs small enough for a test: a network of a few channels on drawn scenes."""

import itertools

import numpy as np

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.configs import typed
from mdp_jax.method.prototypes import Bank
from mdp_jax.objectives.objective import Functions, Setting
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.training import programs


def _shrink(config):
    config.model.backbone = "resnet18"
    config.model.width = 0.0625
    config.model.decoder.channels = 8
    config.model.decoder.rates = (1, 2)
    config.data.crop = (32, 32)
    config.data.cache = True
    config.data.check_files = 0
    config.batch = 8
    config.devices = 2
    config.log_every = 4
    config.checkpoint_every = 4


def pretrain_config(**overrides):
    """Pretraining on two drawn datasets, 12 steps; keywords are overrides with "__" for the dot."""
    config = base.pretrain()
    _shrink(config)
    config.sources = tuple(base.synthetic(name, images=6, size=(40, 48)) for name in ("harbor", "town"))
    config.model.projection.channels = 8
    config.model.projection.dim = 8
    config.method.encoder_momentum = 0.9
    config.method.prototype_momentum = 0.9
    config.steps = 12
    config.optim.lr = 1.0
    config.optim.warmup_epochs = 0.0
    return _with(config, overrides)


def finetune_config(**overrides):
    """Fine-tuning on the drawn dataset `valley`, 12 steps."""
    config = base.finetune()
    _shrink(config)
    config.dataset = base.synthetic("valley", images=6, val_images=3, size=(40, 48))
    config.steps = 12
    config.evaluate_every = 8
    config.pictures = 0
    return _with(config, overrides)


def _with(config, overrides):
    config.lock()
    return configs.apply_overrides(config, [(key.replace("__", "."), str(value)) for key, value in overrides.items()])


def stop_after(steps: int):
    """In place of Stop.reached, which a run asks after every step: it is told to stop when it has taken so many."""
    asked = itertools.count(1)
    return lambda stop: next(asked) == steps


def pretrain_batch(rng: np.random.Generator, config, num_classes: int) -> dict:
    """A random pretraining batch with every kind of mixing and some ignored pixels; batch at least 6."""
    size, pairs = (config.batch, *config.data.crop), config.batch // 2
    height, width = config.data.crop
    return {
        "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "label": rng.integers(-1, num_classes, size, dtype=np.int16),
        "key_image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "key_label": rng.integers(-1, num_classes, size, dtype=np.int16),
        "mix_kind": (np.arange(pairs) % 3).astype(np.int32),
        "lam": rng.random(pairs, dtype=np.float32),
        "box": np.tile(np.int32([height // 4, width // 4, height, width // 2]), (pairs, 1)),
        "dataset": np.zeros(config.batch, np.int32),
    }


def pretraining(config, mesh, label_space, samples=64) -> programs.Program:
    """The program of a pretraining config."""
    return programs.pretraining(typed(config), mesh, label_space, samples)


def finetuning(config, mesh, num_classes) -> programs.Program:
    """The program of a fine-tuning config."""
    return programs.finetuning(typed(config), mesh, num_classes)


def functions(config, label_space, devices=1) -> Functions:
    """Those of the config's objective."""
    return OBJECTIVES[config.objective].functions(Setting.of(typed(config), label_space, devices))


def bank(state) -> Bank:
    """The prototypes of a state."""
    return state.memory["bank"]


def momentum(state) -> tuple[dict, dict]:
    """Parameters and running statistics of the momentum encoder of a state."""
    return state.memory["momentum_params"], state.memory["momentum_batch_stats"]


def with_memory(state, **parts):
    """The state with parts of its memory replaced."""
    return state.replace(memory=state.memory | parts)
