"""The networks in plain PyTorch (METHOD.md section 2), for the reference; images and features are [B, C, H, W].

Modules are named as in mdp_jax, so that the keys of a state dict are the paths of its trees.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdp_jax.configs import ModelConfig, PretrainModelConfig
from mdp_jax.errors import UserError


def conv3x3(channels_in: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """3x3 convolution with symmetric padding, without bias."""
    return nn.Conv2d(channels_in, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


def conv1x1(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias."""
    return nn.Conv2d(channels_in, channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; only the first has stride and dilation (as in MMSegmentation)."""

    expansion = 1

    def __init__(self, channels_in: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels_in, planes, stride, dilation), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.downsample = shortcut(channels_in, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut; stride and dilation are on the 3x3."""

    expansion = 4

    def __init__(self, channels_in: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1x1(channels_in, planes), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes, stride, dilation), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv1x1(planes, 4 * planes), nn.BatchNorm2d(4 * planes)
        self.downsample = shortcut(channels_in, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


def shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    """The identity, or a 1x1 convolution with batch normalisation where stride or channels change."""
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(channels_in, channels, stride), nn.BatchNorm2d(channels))


RESNETS: dict[
    str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]
] = {  # block, and how many of them in layer1 to layer4
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
# For layer1 to layer4: stride of the first block, dilation of the first block, dilation of the others.
STAGES = {
    8: ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)),
    16: ((1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)),
}


class ResNet(nn.Module):
    """Plain-stem ResNet with `channels` in the stem at output stride 8 or 16; `channels_out` of features."""

    def __init__(self, depth: str, channels: int, output_stride: int) -> None:
        super().__init__()
        block, counts = RESNETS[depth]
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        channels_in = channels
        for i, (stride, first_dilation, dilation) in enumerate(STAGES[output_stride]):
            planes = channels * 2**i
            blocks = [block(channels_in, planes, stride, first_dilation)]
            channels_in = planes * block.expansion
            blocks += [block(channels_in, planes, 1, dilation) for _ in range(counts[i] - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.channels_out = channels_in

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.bn = conv, nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Decoder(nn.Module):
    """DeepLabV3 in the layout of MMSegmentation ("mmseg") or torchvision, without dropout and classifier."""

    def __init__(self, layout: str, channels_in: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.layout = layout
        self.image_pool = ConvBlock(conv1x1(channels_in, channels))
        self.aspp_0 = ConvBlock(conv1x1(channels_in, channels))
        for i, rate in enumerate(rates, start=1):
            self.add_module(f"aspp_{i}", ConvBlock(conv3x3(channels_in, channels, dilation=rate)))
        self.branches = len(rates) + 1
        concatenated = channels * (self.branches + 1)
        if layout == "torchvision":
            self.project = ConvBlock(conv1x1(concatenated, channels))
            concatenated = channels
        self.bottleneck = ConvBlock(conv3x3(concatenated, channels))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pool(F.adaptive_avg_pool2d(x, 1))
        pooled = F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False)
        branches = [getattr(self, f"aspp_{i}")(x) for i in range(self.branches)]
        if self.layout == "mmseg":
            return self.bottleneck(torch.cat([pooled, *branches], dim=1))
        return self.bottleneck(self.project(torch.cat([*branches, pooled], dim=1)))


class Projection(nn.Module):
    """1x1 convolution - BN - ReLU - 1x1 convolution to D dimensions."""

    def __init__(self, channels_in: int, channels: int, dim: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1x1(channels_in, channels), nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.bn1(self.conv1(x))))


class Classifier(nn.Module):
    """1x1 convolution to the logits of the classes."""

    def __init__(self, channels_in: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


DECODERS = {"deeplabv3": Decoder}


def offers(model: ModelConfig) -> bool:
    """Whether a network has a PyTorch version here.

    Args:
      model: the network under the head.
    """
    return model.backbone in RESNETS and model.output_stride in STAGES and model.decoder.name in DECODERS


def body(model: ModelConfig) -> tuple[ResNet, Decoder]:
    """Makes backbone and decoder of a network.

    Args:
      model: the network under the head.

    Raises:
      UserError: it has no PyTorch version here.
    """
    decoder = model.decoder
    if not offers(model):
        raise UserError(
            f"config.model: {model.backbone} of output stride {model.output_stride} with {decoder.name} has no PyTorch "
            f"version; expected one of {', '.join(RESNETS)} of output stride {' or '.join(map(str, STAGES))} with "
            f"{', '.join(DECODERS)}"
        )
    backbone = ResNet(model.backbone, round(64 * model.width), model.output_stride)
    make = DECODERS[decoder.name]
    return backbone, make(decoder.layout, backbone.channels_out, decoder.channels, tuple(decoder.rates))


class PixelEncoder(nn.Module):
    """f and g of METHOD.md section 2: images [B, 3, H, W] to unit vectors [B, D, h, w]."""

    def __init__(self, model: PretrainModelConfig) -> None:
        super().__init__()
        self.backbone, self.decoder = body(model)
        head = model.projection
        self.projection = Projection(model.decoder.channels, head.channels, head.dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(self.decoder(self.backbone(x))), dim=1, eps=1e-12)


class Segmenter(nn.Module):
    """The network of fine-tuning (METHOD.md section 6): images [B, 3, H, W] to logits [B, C, h, w]."""

    def __init__(self, model: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.decoder = body(model)
        self.classifier = Classifier(model.decoder.channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.decoder(self.backbone(x)))
