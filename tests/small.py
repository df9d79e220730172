"""What makes a whole run smaller, for tests in which neither is the point: its network, and the figures of its page."""

import contextlib
from collections.abc import Iterator

import flax.linen as nn
import pytest

from mdp_jax.models.backbones import resnet
from mdp_jax.models.layers import BatchNorm, Conv, Dtypes
from mdp_jax.reporting import runs


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


SECTIONS = ("pretrain_sections", "finetune_sections")


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Makes resnet18 the small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, "resnet18", DEPTH)
        yield


@contextlib.contextmanager
def pages() -> Iterator[None]:
    """Leaves the sections of runs out of their pages."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SECTIONS:
            patch.setattr(runs, name, no_sections)
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
