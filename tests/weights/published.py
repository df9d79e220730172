"""The published models of several libraries; names and shapes of their weights, stored in keys.json.gz.

    pip install torch torchvision timm transformers
    pip install mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0 ftfy regex
    python -m tests.weights.published

from the repository's root writes them anew. Tests read the stored names everywhere, and build the models themselves
where the libraries are installed.
"""

import gzip
import json
import pathlib
import sys
import types
import warnings

import numpy as np

from tests.models import seeded

FILE = pathlib.Path(__file__).with_name("keys.json.gz")
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
MMSEG_BACKBONES = {  # name here: type and depth there
    **{f"resnet{depth}": ("ResNet", depth) for depth in (18, 34, 50, 101)},
    **{f"resnet{depth}_v1c": ("ResNetV1c", depth) for depth in (18, 50, 101)},
}
MMSEG_HEADS = {"upernet_r50": "UPerHead", "fcn_r50": "FCNHead", "segformer_r50": "SegformerHead"}
MMSEG_BACKBONE_OF = {
    "deeplabv3_r50-d8": "resnet50",
    "deeplabv3plus_r50-d8": "resnet50_v1c",
    **dict.fromkeys(MMSEG_HEADS, "resnet50"),
    "upernet_swin_tiny": "swin_tiny",
}
MMSEG_SEGMENTORS = tuple(MMSEG_BACKBONE_OF)
TIMM = (
    "convnext_tiny",
    "convnext_base",
    "convnextv2_nano",
    "deit_small_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swin_base_patch4_window7_224",
    "swin_base_patch4_window12_384",
    "swinv2_tiny_window8_256",
    "vit_small_patch16_224",
    "vit_large_patch16_384",
    "vit_base_patch8_224",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_dinov3_qkvb",
)
TORCHVISION_BACKBONES = ("convnext_tiny", "swin_t", "swin_s", "vit_b_16", "vit_b_32")
MMSEG = (*MMSEG_BACKBONES, *MMSEG_SEGMENTORS, "swin_tiny")


def keys(name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the state dict of a model, by names such as "torchvision/resnet18"."""
    return {key: tuple(shape) for key, shape in json.loads(gzip.decompress(FILE.read_bytes()))[name].items()}


def seeded_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A state dict of these names: float32 weights of tests/models/seeded.py, counters of 7."""
    return {
        key: np.int64(7).reshape(shape) if key.endswith("tracked") else seeded.weight(key, shape).astype(np.float32)
        for key, shape in shapes.items()
    }


def torchvision_model(name: str):
    """With random weights and the auxiliary head that the published DeepLabV3 have."""
    import torchvision

    if name.startswith("resnet"):
        return torchvision.models.get_model(name, weights=None)
    return torchvision.models.get_model(name, weights=None, weights_backbone=None, aux_loss=True)


def mmseg_model(name: str):
    """With random weights; segmentors are those of configs/_base_/models, DeepLabV3 with the plain ResNet."""
    if name.endswith("swin_tiny"):
        return mmseg_build(mmseg_swin(whole=name.startswith("upernet")))
    if name in MMSEG_BACKBONES:
        return mmseg_build(mmseg_backbone(*MMSEG_BACKBONES[name]))
    if name in MMSEG_HEADS:
        return mmseg_build(mmseg_narrow(MMSEG_HEADS[name], classes=19, stem=64, channels=512, depth=50))
    return mmseg_build(mmseg_segmentor(classes=19, plus="plus" in name))


def mmseg_build(config: dict):
    """A model of MMSegmentation from its config."""
    # The package without compiled operators lacks this module, of which nothing is called here.
    sys.modules["mmcv._ext"] = _Anything("mmcv._ext")
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS.build(config)


class _Anything(types.ModuleType):
    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def mmseg_backbone(kind: str, depth: int) -> dict:
    """The config of a backbone."""
    return {
        "type": kind,
        "depth": depth,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "dilations": (1, 1, 2, 4),
        "strides": (1, 2, 1, 1),
        "norm_cfg": {"type": "BN"},
        "norm_eval": False,
        "style": "pytorch",
        "contract_dilation": True,
    }


def mmseg_segmentor(classes: int, plus: bool = False) -> dict:
    """The config of DeepLabV3 with the plain ResNet, or of DeepLabV3+ with ResNetV1c."""
    separable = {"type": "DepthwiseSeparableASPPHead", "c1_in_channels": 256, "c1_channels": 48}
    common = {"num_classes": classes, "norm_cfg": {"type": "BN"}, "align_corners": False, "dropout_ratio": 0.1}
    return {
        "type": "EncoderDecoder",
        "backbone": mmseg_backbone("ResNetV1c" if plus else "ResNet", 50),
        "decode_head": {
            **common,
            "type": "ASPPHead",
            "in_channels": 2048,
            "in_index": 3,
            "channels": 512,
            "dilations": (1, 12, 24, 36),
            **(separable if plus else {}),
        },
        "auxiliary_head": {
            **common,
            "type": "FCNHead",
            "in_channels": 1024,
            "in_index": 2,
            "channels": 256,
            "num_convs": 1,
            "concat_input": False,
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def mmseg_narrow(kind: str, classes: int, stem: int, channels: int, depth: int = 18) -> dict:
    """The config of a head of MMSegmentation on a ResNet at output stride 32, as in its configs but for the sizes."""
    levels = [stem * 2**i * (1 if depth < 50 else 4) for i in range(4)]
    several = kind != "FCNHead"
    backbone = mmseg_backbone("ResNet", depth) | {"dilations": (1, 1, 1, 1), "strides": (1, 2, 2, 2)}
    return {
        "type": "EncoderDecoder",
        "backbone": backbone | {"stem_channels": stem, "base_channels": stem},
        "decode_head": {
            "type": kind,
            "in_channels": levels if several else levels[-1],
            "in_index": [0, 1, 2, 3] if several else 3,
            "channels": channels,
            "num_classes": classes,
            "norm_cfg": {"type": "BN"},
            "align_corners": False,
            "dropout_ratio": 0,
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def mmseg_swin(whole: bool) -> dict:
    """The config of Swin-T, or of UPerNet with it."""
    backbone = {"type": "SwinTransformer"}
    segmentor = mmseg_narrow("UPerHead", classes=19, stem=96, channels=512)  # as many channels at each stride
    return segmentor | {"backbone": backbone} if whole else backbone


def hugging_face_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the files that transformers writes."""
    import tempfile

    import safetensors.numpy
    import transformers

    small = {"hidden_size": 384, "num_attention_heads": 6}
    models = {
        "dinov2_small": transformers.Dinov2Model(transformers.Dinov2Config(**small, image_size=518)),
        "dinov3_small": transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**small, intermediate_size=1536, num_register_tokens=4, patch_size=16)
        ),
        "convnext_tiny": transformers.ConvNextForImageClassification(transformers.ConvNextConfig()),
        "swin_tiny": transformers.SwinForImageClassification(transformers.SwinConfig()),
    }
    found = {}
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            state = safetensors.numpy.load_file(pathlib.Path(folder) / "model.safetensors")
        found[f"huggingface/{name}"] = {key: array.shape for key, array in state.items()}
    return found


if __name__ == "__main__":
    import timm
    import torchvision

    models = {f"torchvision/{name}": torchvision_model(name) for name in TORCHVISION}
    models |= {f"mmseg/{name}": mmseg_model(name) for name in MMSEG}
    models |= {f"timm/{name}": timm.create_model(name) for name in TIMM}
    models |= {
        f"torchvision/{name}": torchvision.models.get_model(name, weights=None) for name in TORCHVISION_BACKBONES
    }
    found = {name: {k: tuple(t.shape) for k, t in model.state_dict().items()} for name, model in models.items()}
    found |= hugging_face_shapes()
    FILE.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))
