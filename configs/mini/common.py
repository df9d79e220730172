"""What the mini configs share: sizes for two CPU cores."""

from ml_collections import ConfigDict


def shrink(config: ConfigDict) -> ConfigDict:
    """A quarter-width ResNet-18 with a small DeepLabV3 decoder, on photos with a short side of 96 pixels."""
    config.model.backbone = "resnet18"
    config.model.width = 0.25
    config.model.decoder.channels = 64
    config.model.decoder.rates = (2, 4, 6)  # the feature map of a crop is 8 x 8
    config.data.short_side = 96
    config.data.crop = (64, 64)
    config.data.cache = True
    return config
