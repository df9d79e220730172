"""resnet18 with four convolutions after its stem in place of sixteen, for tests in which any network will do.

It keeps the stem, strides, dilation, channels and batch normalisation, and compiles in a third of the time.
"""

import flax.linen as nn

from mdp_jax.models.backbones import resnet
from mdp_jax.models.layers import BatchNorm, Conv, Dtypes


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


DEPTHS = {"resnet18": (Block, (1, 1, 1, 1))}


def is_used() -> bool:
    """Whether this process has it."""
    return resnet.DEPTHS["resnet18"] == DEPTHS["resnet18"]


def use() -> None:
    """Gives it to this process."""
    resnet.DEPTHS.update(DEPTHS)
