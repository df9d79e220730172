"""PyTorch's outputs for the tests of the networks, stored in golden/CASE.npz.

    pip install torch torchvision mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0 ftfy regex
    python -m tests.models.make_golden CASE ..

from the repository's root writes them anew, all without CASE. The tests also call these functions directly where these
packages are installed. Weights come from tests/models/seeded.py by their names; modules are named as in mdp_jax where
they are defined here, and renamed where they are another library's.
"""

import functools
import pathlib
import re
import sys
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.models import seeded
from tests.models.seeded import CHANNELS, CLASSES, HEADS, NARROW, PLUS, RATES, SIZE, UPSAMPLE_CASES
from tests.weights import published


def fill(module: nn.Module, names: dict[str, str] | None = None) -> nn.Module:
    """Gives a module its seeded weights; `names` maps prefixes of its keys to those of mdp_jax."""
    state = {}
    for key, tensor in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = tensor
            continue
        prefix, leaf = key.rsplit(".", 1)
        name = prefix if names is None else names[prefix]
        state[key] = torch.tensor(seeded.weight(f"{name}.{leaf}", tuple(tensor.shape)), dtype=tensor.dtype)
    module.load_state_dict(state)
    return module


def nchw(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(array, dtype=dtype).permute(0, 3, 1, 2)


def nhwc(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def conv(fan_in: int, out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(fan_in, out, kernel, stride, dilation * (kernel // 2), dilation, bias=False)


class Block(nn.Module):
    """ResNet's basic (with MMSegmentation's dilation) or bottleneck block."""

    def __init__(self, kind: str, fan_in: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        basic = kind == "resnet18"
        out = planes if basic else 4 * planes
        if basic:
            convs = [conv(fan_in, planes, 3, stride, dilation), conv(planes, planes, 3)]
        else:
            convs = [conv(fan_in, planes, 1), conv(planes, planes, 3, stride, dilation), conv(planes, out, 1)]
        self.count, self.out = len(convs), out
        for i, layer in enumerate(convs, start=1):
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", nn.BatchNorm2d(layer.out_channels))
        self.downsample = None
        if stride != 1 or fan_in != out:
            self.downsample = nn.Sequential(conv(fan_in, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A ResNet with any number of channels, which torchvision does not offer."""

    def __init__(self, kind: str, channels: int, output_stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        blocks = (2, 2, 2, 2) if kind == "resnet18" else (3, 4, 6, 3)
        strides = (1, 2, 1, 1) if output_stride == 8 else (1, 2, 2, 1)
        first = (1, 1, 1, 2) if output_stride == 8 else (1, 1, 1, 1)
        others = (1, 1, 2, 4) if output_stride == 8 else (1, 1, 1, 2)
        fan_in = channels
        for i in range(4):
            layer = []
            for j in range(blocks[i]):
                stride, dilation = (strides[i], first[i]) if j == 0 else (1, others[i])
                layer.append(Block(kind, fan_in, channels * 2**i, stride, dilation))
                fan_in = layer[-1].out
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))
        self.out = fan_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return x


class ConvBlock(nn.Module):
    def __init__(self, fan_in: int, out: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = conv(fan_in, out, kernel, 1, dilation), nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Decoder(nn.Module):
    """Both layouts of DeepLabV3's decoder without dropout, narrow."""

    def __init__(self, layout: str, fan_in: int) -> None:
        super().__init__()
        self.layout = layout
        self.image_pool = ConvBlock(fan_in, CHANNELS, 1)
        self.aspp_0 = ConvBlock(fan_in, CHANNELS, 1)
        for i, rate in enumerate(RATES, start=1):
            setattr(self, f"aspp_{i}", ConvBlock(fan_in, CHANNELS, 3, rate))
        total = CHANNELS * (len(RATES) + 2)
        if layout == "torchvision":
            self.project = ConvBlock(total, CHANNELS, 1)
            total = CHANNELS
        self.bottleneck = ConvBlock(total, CHANNELS, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.image_pool(F.adaptive_avg_pool2d(x, 1))
        pooled = F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=False)
        branches = [getattr(self, f"aspp_{i}")(x) for i in range(len(RATES) + 1)]
        if self.layout == "mmseg":
            return self.bottleneck(torch.cat([pooled, *branches], 1))
        return self.bottleneck(self.project(torch.cat([*branches, pooled], 1)))


class Segmenter(nn.Module):
    def __init__(self, backbone: str, channels: int, output_stride: int, layout: str) -> None:
        super().__init__()
        self.backbone = ResNet(backbone, channels, output_stride)
        self.decoder = Decoder(layout, self.backbone.out)
        self.classifier = nn.ModuleDict({"conv": nn.Conv2d(CHANNELS, CLASSES, 1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier["conv"](self.decoder(self.backbone(x)))


def narrow(name: str) -> dict[str, np.ndarray]:
    """A training pass of a narrow segmenter in float64: logits, new running statistics and gradients.

    The loss is the mean of logits times fixed values. "statistics" and "gradients" hold a row of five values for each
    leaf, in the order of their names.
    """
    model = fill(Segmenter(*NARROW[name]).double()).train()
    logits = model(nchw(seeded.image("image", SIZE), torch.float64))
    return training_pass(model, logits, lambda key: key)


def training_pass(model: nn.Module, logits: torch.Tensor, our_key: Callable[[str], str]) -> dict[str, np.ndarray]:
    """What `narrow` says, of a model in training and its logits."""
    (logits * nchw(seeded.image("loss", nhwc(logits).shape), torch.float64)).mean().backward()
    statistics = {our_key(key): b.numpy() for key, b in model.named_buffers() if not key.endswith("tracked")}
    gradients = {
        our_key(key): (p.grad.permute(2, 3, 1, 0) if p.ndim == 4 else p.grad).numpy()
        for key, p in model.named_parameters()
    }
    return {"logits": nhwc(logits), "statistics": seeded.rows(statistics), "gradients": seeded.rows(gradients)}


def torchvision_resnet50() -> dict[str, np.ndarray]:
    """torchvision's own ResNet-50 at output stride 8, in evaluation: every 64th feature channel."""
    import torchvision

    model = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    body = nn.Sequential(OrderedDict(list(model.named_children())[:-2]))  # without pooling and classifier
    features = fill(body).eval()(nchw(seeded.image("image", SIZE), torch.float32))
    return {"eval": nhwc(features)[..., ::64]}


def torchvision_decoder() -> dict[str, np.ndarray]:
    """torchvision's own DeepLabHead without dropout and classifier: every 16th channel, evaluation and training."""
    import torchvision

    layers = torchvision.models.segmentation.deeplabv3.DeepLabHead(12, CLASSES).children()
    head = nn.Sequential(*list(layers)[:-1])
    head[0].project[3].p = 0.0
    names = {"0.convs.4.1": "image_pool.conv", "0.convs.4.2": "image_pool.bn"}
    for i in range(4):
        names |= {f"0.convs.{i}.0": f"aspp_{i}.conv", f"0.convs.{i}.1": f"aspp_{i}.bn"}
    names |= {"0.project.0": "project.conv", "0.project.1": "project.bn", "1": "bottleneck.conv", "2": "bottleneck.bn"}
    fill(head, names)
    x = nchw(seeded.image("features", (3, 30, 29, 12)), torch.float32)
    out = {mode: nhwc(head.train(mode == "train")(x))[:, ::7, ::7, ::16] for mode in ("eval", "train")}
    return out


def mmseg_resnet50_v1c() -> dict[str, np.ndarray]:
    """MMSegmentation's own ResNetV1c-50 in evaluation: every 16th channel at stride 4, every 64th at stride 8."""
    model = fill(published.mmseg_build(published.mmseg_backbone("ResNetV1c", 50)))
    model.eval()  # which, of this class, returns nothing
    features = [nhwc(layer) for layer in model(nchw(seeded.image("image", SIZE), torch.float32))]
    return {"4": features[0][..., ::16], "8": features[-1][..., ::64]}


def mmseg_deeplabv3plus() -> dict[str, np.ndarray]:
    """What `narrow` says, of MMSegmentation's own DeepLabV3+ with ResNetV1c-18."""
    stem, plus = PLUS["stem"], published.mmseg_segmentor(CLASSES, plus=True)
    plus["auxiliary_head"] = None
    plus["backbone"] |= {"depth": 18, "stem_channels": stem, "base_channels": stem}
    plus["decode_head"] |= {
        "in_channels": 8 * stem,
        "c1_in_channels": stem,
        "channels": PLUS["channels"],
        "c1_channels": PLUS["fine_channels"],
        "dilations": (1, *PLUS["rates"]),
        "dropout_ratio": 0,
    }
    return mmseg_pass(plus)


def mmseg_pass(config: dict) -> dict[str, np.ndarray]:
    """What `narrow` says, of a segmentor of MMSegmentation."""
    model = published.mmseg_build(config).double()
    names = {name: mmseg_name(name) for name, _ in model.named_modules()}
    model = fill(model, names).train()
    logits = model.decode_head(model.backbone(nchw(seeded.image("image", SIZE), torch.float64)))
    return training_pass(model, logits, lambda key: ".".join((names[key.rpartition(".")[0]], key.rpartition(".")[2])))


def mmseg_name(module: str) -> str:
    """The name in mdp_jax of a module of MMSegmentation's segmentors."""
    for theirs, ours in (
        (r"decode_head\.conv_seg", "classifier.conv"),
        (r"decode_head\.image_pool\.1", "decoder.image_pool"),
        (r"decode_head\.aspp_modules\.", "decoder.aspp_"),
        (r"decode_head\.sep_bottleneck\.", "decoder.sep_bottleneck_"),
        (r"decode_head\.psp_modules\.(\d)\.1", r"decoder.pool_\1"),
        (r"decode_head\.lateral_convs\.", "decoder.lateral_"),
        (r"decode_head\.fpn_convs\.", "decoder.fpn_"),
        (r"decode_head\.convs\.", "decoder.convs_"),
        (r"decode_head\.", "decoder."),
    ):
        if re.match(theirs, module):
            return re.sub(f"^{theirs}", ours, module)
    return module


def mmseg_head(kind: str) -> dict[str, np.ndarray]:
    """What `narrow` says, of MMSegmentation's own ResNet-18 at output stride 32 with one of its heads, all narrow."""
    return mmseg_pass(published.mmseg_narrow(kind, CLASSES, HEADS["stem"], HEADS["channels"]))


def batch_norm() -> dict[str, np.ndarray]:
    """Four training steps, then evaluation, of BatchNorm2d on inputs far from mean 0."""
    layer = fill(nn.ModuleDict({"bn": nn.BatchNorm2d(3)}))["bn"]
    out = {}
    for step in range(4):
        out[f"train{step}"] = nhwc(layer(nchw(seeded.bn_input(step), torch.float32)))
        out[f"mean{step}"], out[f"var{step}"] = layer.running_mean.numpy().copy(), layer.running_var.numpy().copy()
    out["eval"] = nhwc(layer.eval()(nchw(seeded.bn_input(4), torch.float32)))
    return out


def upsample() -> dict[str, np.ndarray]:
    """F.interpolate, bilinear, on UPSAMPLE_CASES."""
    out = {}
    for i, (shape, size) in enumerate(UPSAMPLE_CASES):
        x = nchw(seeded.image("logits", shape), torch.float32)
        out[str(i)] = nhwc(F.interpolate(x, size, mode="bilinear", align_corners=False))
    return out


def mmseg_swin(name: str):
    """MMSegmentation's Swin beside ours; it shifts windows of which one fills the map, so here none does."""
    from mdp_jax.models.backbones import swin
    from mdp_jax.parity.torch_backbones import Reference

    def make(width: float) -> nn.Module:
        sizes, channels = swin.SIZES[name], swin.feature_channels(name, width, 32)
        heads = [sizes.heads * 2**i for i in range(4)]
        config = {"type": "SwinTransformer", "embed_dims": channels[4], "depths": sizes.blocks, "num_heads": heads}
        return published.mmseg_build(config)

    return Reference("mmseg", 32, (228, 232), make, lambda module, x: dict(zip(swin.STRIDES, module(x), strict=True)))


def backbone(library: str, name: str, stride: int) -> dict[str, np.ndarray]:
    """A library's backbone in float64 (mdp_jax/parity): keys, shapes, features, and our rows of the gradients."""
    from mdp_jax.parity import backbones, torch_backbones

    references = [mmseg_swin(name)] if library == "mmseg" else torch_backbones.REFERENCES[name]()
    found = next(one for one in references if (one.library, one.output_stride) == (library, stride))
    module = found.make(backbones.WIDTH)
    state = torch_backbones.drawn(module, found)
    images = np.moveaxis(backbones.images_of(found.size), -1, 1)
    theirs = torch_backbones.compute(found, module, state, images, "float64")
    shapes = np.zeros((len(state), 4), int)
    for row, array in zip(shapes, state.values(), strict=True):
        row[: array.ndim] = array.shape
    gradients = backbones.ours_of_gradients(theirs.gradients, library)
    return {
        "keys": np.array(list(state)),
        "shapes": shapes,
        "size": np.array(found.size),
        "gradients": seeded.rows(gradients),
        # A part of them, which keeps the file small.
        **{f"stride {stride}": value[:, ::3, ::3, ::8] for stride, value in theirs.features.items()},
    }


CASES = {
    **{f"{one[0]}_{one[1]}": functools.partial(backbone, *one) for one in seeded.BACKBONES},
    "torchvision_resnet50": torchvision_resnet50,
    "torchvision_decoder": torchvision_decoder,
    "mmseg_resnet50_v1c": mmseg_resnet50_v1c,
    "mmseg_deeplabv3plus": mmseg_deeplabv3plus,
    **{f"mmseg_{decoder}": functools.partial(mmseg_head, kind) for decoder, kind in HEADS["kinds"].items()},
    "batch_norm": batch_norm,
    "upsample": upsample,
    **{name: functools.partial(narrow, name) for name in NARROW},
}


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent / "golden"
    for case in sys.argv[1:] or CASES:
        np.savez_compressed(folder / f"{case}.npz", **CASES[case]())
