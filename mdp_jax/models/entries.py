"""What a backbone and a decoder say about themselves in the registry (models/registry.py)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import flax.linen as nn
from jax.sharding import PartitionSpec

from mdp_jax.configs import ModelConfig
from mdp_jax.models.layers import Dtypes

# Pairs of a regex over the whole path of a parameter, such as "conv1/kernel", and its sharding. Each parameter matches
# exactly one.
Rules = tuple[tuple[str, PartitionSpec], ...]
Normalisation = Literal["batch", "none"]  # "batch": there are running statistics, collection "batch_stats"

# Convolutions are split by output channels, whose number the config gives; vectors are whole on every device.
CONVOLUTIONS_SPLIT: Rules = (
    (r".*kernel", PartitionSpec(None, None, None, "fsdp")),
    (r".*(bias|scale)", PartitionSpec()),
)


class Layers(NamedTuple):
    """The layers of a backbone, for learning rates that fall from layer to layer (training/optim.py).

    Attributes:
      of: path of a parameter, such as "blocks/3/mlp/fc1/kernel" -> its layer, from 0 (next to the image) on.
      number: of layers, with one that stands for what follows the backbone: `of` is at most number - 1.
    """

    of: Callable[[str], int]
    number: int


@dataclass(frozen=True)
class Backbone:
    """A backbone.

    Attributes:
      make: (config's `model`, dtypes) -> a module that is called with (images [B,H,W,3], train) and gives
        {stride: features [B,ceil(H/stride),ceil(W/stride),channels]}.
      channels: (width, output stride) -> {stride: channels} of these features; the output stride is among the strides.
      output_strides: the output strides that it supports.
      normalisation: of the module.
      sharding: over the axis "fsdp".
      centre: where feature i is centred. "pixel": on pixel stride * i, as with symmetric padding; "cell": in the middle
        of the pixels stride * i to stride * (i + 1), as with patches.
      weight_names: the module with the names of its published weights (see weights/names); empty where there are none.
      layers: of its parameters; None where they have no order, so that there is no layer-wise decay.
      third_stage: the output strides with which the module gives the features of the third of its four stages
        (layers.give_third_stage), for an auxiliary head; () for none.
      stochastic_depth: whether it reads the config's `model.drop_path`.
      windows: whether it reads the config's `model.window`.
    """

    make: Callable[[ModelConfig, Dtypes], nn.Module]
    channels: Callable[[float, int], dict[int, int]]
    output_strides: tuple[int, ...]
    normalisation: Normalisation
    sharding: Rules = CONVOLUTIONS_SPLIT
    weight_names: str = ""
    centre: Literal["pixel", "cell"] = "pixel"
    layers: Layers | None = None
    third_stage: tuple[int, ...] = ()
    stochastic_depth: bool = False
    windows: bool = False


@dataclass(frozen=True)
class DecoderNames:
    """The names of a decoder and its classifier in files of another library.

    Attributes:
      modules: number of rates -> {our module: theirs}, with names such as "decoder.aspp_1" and "classifier.conv".
      rates: their keys -> number of rates; None: the decoder has none.
      sized_by: our key, below the decoder, of the weights whose output channels are `decoder.channels`.
    """

    modules: Callable[[int], dict[str, str]]
    rates: Callable[[Iterable[str]], int] | None
    sized_by: str


class Pools(NamedTuple):
    """Features that a decoder averages over the whole image (models/whole.py).

    Attributes:
      stride: of the features.
      sides: of the grids, over the cells of which it averages; 1 = over all of them.
    """

    stride: int
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Decoder:
    """A decoder.

    Attributes:
      make: (config's `model`, dtypes) -> a module that is called with ({stride: features}, train) and gives features
        [B,h,w,decoder.channels], or as many channels as it reads. Its `classifier_dropout` is the part of the dropout
        that belongs to the classifier.
      reads: output stride -> strides of the features that it reads.
      writes: output stride -> stride of the features that it writes.
      normalisation: of the module.
      sharding: over the axis "fsdp".
      layouts: name of a file format (weights/layouts.py) -> names; the keys are the values of `decoder.layout`. Empty
        where there are no published weights; then `decoder.layout` is not read.
      pools: output stride -> what it takes from the whole image, by functions of whole.py; None: nothing. Where a photo
        is seen tile by tile, it is given the means of the whole photo.
      own_channels: whether it writes `decoder.channels`; otherwise it writes as many channels as it reads.
    """

    make: Callable[[ModelConfig, Dtypes], nn.Module]
    reads: Callable[[int], tuple[int, ...]]
    writes: Callable[[int], int]
    normalisation: Normalisation
    sharding: Rules = CONVOLUTIONS_SPLIT
    layouts: Mapping[str, DecoderNames] = field(default_factory=dict)
    pools: Callable[[int], Pools] | None = None
    own_channels: bool = True
