"""What stands on the decoder: the projection to the prototypes' space, or a classifier (METHOD.md sections 2 and 6)."""

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from mdp_jax.models.entries import CONVOLUTIONS_SPLIT, Rules
from mdp_jax.models.layers import BatchNorm, Conv, ConvBlock, Dtypes, normal


class Projection(nn.Module):
    """Maps features [B,h,w,in] to [B,h,w,dim] in `dtypes.wide`: 1x1 convolution - BN - ReLU - 1x1 convolution (- BN).

    With 1 of `layers` it is the second convolution (- BN), with 0 the features as they are (- BN). A convolution before
    batch normalisation has no bias, which this would undo. The second convolution computes in `dtypes.wide`, so that
    the unit vectors made of its outputs are not rounded to bfloat16.
    """

    channels: int
    dim: int
    dtypes: Dtypes
    final_norm: bool = False
    layers: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        wide = Dtypes(self.dtypes.wide, self.dtypes.param)
        if self.layers == 2:
            x = Conv(self.channels, 1, self.dtypes, name="conv1")(x)
            x = nn.relu(BatchNorm(self.dtypes, name="bn1")(x, train))
        if self.layers:
            x = Conv(self.dim, 1, wide, bias=not self.final_norm, name="conv2")(x)
        x = x.astype(wide.compute)
        return BatchNorm(wide, name="bn2")(x, train) if self.final_norm else x


class Classifier(nn.Module):
    """Dropout of whole channels, then a 1x1 convolution ("conv") to logits [B,h,w,classes] in `dtypes.wide`.

    Initial weights are MMSegmentation's: normal with standard deviation 0.01, bias 0. With `train` and a positive rate
    it needs the "dropout" stream of random numbers.
    """

    classes: int
    dropout: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        wide = Dtypes(self.dtypes.wide, self.dtypes.param)
        return Conv(self.classes, 1, wide, bias=True, kernel_init=normal(0.01), name="conv")(x)


class Auxiliary(nn.Module):
    """A second classifier for training, MMSegmentation's FCNHead of one convolution: [B,h,w,in] to [B,h,w,classes].

    A 3x3 convolution with batch normalisation and ReLU ("convs_0"), then the classifier ("classifier").
    """

    channels: int
    classes: int
    dropout: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvBlock(self.channels, 3, self.dtypes, name="convs_0")(x, train)
        return Classifier(self.classes, self.dropout, self.dtypes, name="classifier")(x, train)


# By the head's name in the parameters. The classes of a classifier can be any number, so its kernel is not split.
SHARDING: dict[str, Rules] = {
    "projection": CONVOLUTIONS_SPLIT,
    "classifier": ((r".*(kernel|bias)", PartitionSpec()),),
    "auxiliary": (
        *((rf"convs_0/(?:{pattern})", spec) for pattern, spec in CONVOLUTIONS_SPLIT),
        (r"classifier/.*", PartitionSpec()),
    ),
}
