"""Names of torchvision's models: `resnet18` to `resnet101` and `deeplabv3_resnet50/101` without their extra heads."""

from collections.abc import Iterable

HEAD = "classifier"  # the module that only a whole segmentation network has beside its backbone
SKIPPED = {
    "fc": "classifier of whole images",
    "aux_classifier": "auxiliary head; the method has none",
}
ONLY_THEIRS = ("fc.weight", "fc.bias")  # what a ResNet has beside a backbone


def modules(rates: int) -> dict[str, str]:
    """This package's modules (torch_weights.py) -> torchvision's, for a decoder with `rates` dilated branches."""
    names = {"backbone": "backbone"}
    for i in range(rates + 1):
        names |= {f"decoder.aspp_{i}.{ours}": f"classifier.0.convs.{i}.{j}" for j, ours in enumerate(("conv", "bn"))}
    return names | {
        # Position 0 of the pooling branch is the pooling itself.
        "decoder.image_pool.conv": f"classifier.0.convs.{rates + 1}.1",
        "decoder.image_pool.bn": f"classifier.0.convs.{rates + 1}.2",
        "decoder.project.conv": "classifier.0.project.0",
        "decoder.project.bn": "classifier.0.project.1",
        "decoder.bottleneck.conv": "classifier.1",
        "decoder.bottleneck.bn": "classifier.2",
        "classifier.conv": "classifier.4",
    }


def rates_in(keys: Iterable[str]) -> int:
    """The number of dilated branches in a state dict: all branches less the 1x1 and the pooling branch."""
    branches = {key.split(".")[3] for key in keys if key.startswith("classifier.0.convs.")}
    return max(len(branches) - 2, 0)
