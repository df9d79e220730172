"""What makes whole runs smaller, for tests in which it is not the point: network, figures of a page, equal programs."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import numpy as np
import pytest

from mdp_jax.evaluation import findings, inference
from mdp_jax.models.backbones import resnet
from mdp_jax.models.layers import BatchNorm, Conv, Dtypes
from mdp_jax.reporting import runs
from mdp_jax.training import programs


class Block(nn.Module):
    """A 3x3 convolution with batch normalisation, in place of resnet.BasicBlock."""

    planes: int
    stride: int
    dilation: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x, train: bool):
        y = Conv(self.planes, 3, self.dtypes, stride=self.stride, dilation=self.dilation, name="conv1")(x)
        return nn.relu(BatchNorm(self.dtypes, name="bn1")(y, train))


# resnet18 with four convolutions after its stem in place of sixteen. The stem, strides, dilation, channels and batch
# normalisation are the same, and it compiles in half the time.
DEPTH = (Block, (1, 1, 1, 1))


def no_sections(*args, **kwargs) -> list:
    """In place of the sections of a run's page, whose figures take as long as a few dozen steps."""
    del args, kwargs
    return []


SECTIONS = ((runs, "pretrain_sections"), (runs, "finetune_sections"), (findings, "sections"))


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Makes resnet18 the small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, "resnet18", DEPTH)
        yield


@contextlib.contextmanager
def pages() -> Iterator[None]:
    """Leaves the sections of runs out of their pages, and those of evaluations."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in SECTIONS:
            patch.setattr(module, name, no_sections)
        yield


# What a run begins with, which its program does not depend on.
STARTS = ("init", "init_weights", "transfer", "continue_from", "continue_step")


def _kept(make: Callable) -> Callable:
    """A maker of programs that makes one for all runs that differ in nothing that they compute."""
    made = {}

    @functools.wraps(make)
    def kept(config, mesh, *rest, **named):
        alike = [field for field in dataclasses.fields(config) if field.metadata.get("free") or field.name in STARTS]
        same = dataclasses.replace(config, **{field.name: field.default for field in alike})
        # The whole of an array is not in its repr.
        if any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((rest, named))):
            return make(config, mesh, *rest, **named)
        key = repr((same, rest, named, jax.config.jax_enable_x64)), mesh, resnet.DEPTHS["resnet18"]
        if key not in made:
            made[key] = make(config, mesh, *rest, **named)
        return made[key]

    return kept


@contextlib.contextmanager
def shared_programs() -> Iterator[None]:
    """Traces the programs of equal runs, and of their validations, once for all of them.

    A run that goes on has a program of its own in tests/end_to_end/test_faults.py and others, in another process.
    """
    made: dict[str, tuple] = {}
    genuine = inference.Evaluator.__init__

    def init(self, segmenter, source, normalise, *rest, **named):
        genuine(self, segmenter, source, normalise, *rest, **named)
        key = repr((segmenter, normalise, self._views, len(source.classes), resnet.DEPTHS["resnet18"]))
        self.predict, self._count = made.setdefault(key, (self.predict, self._count))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pretraining", "finetuning"):
            patch.setattr(programs, name, _kept(getattr(programs, name)))
        patch.setattr(inference.Evaluator, "__init__", init)
        yield


_WAYS = {"network": network, "pages": pages}
_KEPT = contextlib.ExitStack()


def keep(*ways: str) -> None:
    """Makes this process smaller until it ends."""
    for way in ways:
        _KEPT.enter_context(_WAYS[way]())


def prelude() -> str:
    """The code by which another process has the network and the pages that this one has."""
    here = {"network": resnet.DEPTHS["resnet18"] == DEPTH, "pages": runs.pretrain_sections is no_sections}
    return f"from tests import small; small.keep(*{[way for way in here if here[way]]}); " if any(here.values()) else ""
