"""Every config key: its comment, its type, its default and, if it came later, the value that means "as before".

Values follow METHOD.md sections 2 to 6 (docs/METHOD.md says which come from the paper, which from its authors and which
are this project's own reading). A config file calls `pretrain()` or `finetune()` and sets what differs. What it gets is
a locked ConfigDict, so that a misspelt key is an error. The package itself reads the typed form, or one part of it.
"""

import dataclasses
import typing
from typing import Any

from ml_collections import ConfigDict


def key(default: Any, before: Any) -> Any:
    """A key that an earlier version did not have; `before` is the value with which a run is what it was without it."""
    return dataclasses.field(default=default, metadata={"before": before})


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """What the datasets of all kinds have. A kind adds its own keys in its own file (data/kinds)."""

    name: str
    kind: str
    labels: str = "masks"  # masks, or none: pretraining labels the pixels by their nearest prototypes
    drop_classes: tuple[str, ...] = ()  # class names whose pixels become ignored
    limit: int = 0  # train on this many photos, chosen by the seed; 0 = all
    # This many training photos are set aside and take the place of the validation photos; 0 = none. To choose
    # settings on, so that the validation photos are looked at once.
    holdout: int = 0


@dataclasses.dataclass(frozen=True)
class PhotometricConfig:
    """Strengths of the photometric distortion, on the 0..255 scale (hue: OpenCV's 0..179)."""

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 18.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How photos are read and augmented, in both loops."""

    crop: tuple[int, int]  # height, width in pixels
    short_side: int = 0  # photos are first resized to this short side, in pixels; 0 = as they are
    flip: float = 0.5  # probability of a horizontal flip
    photometric: PhotometricConfig = PhotometricConfig()
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of the channels R, G, B, on the 0..255 scale
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    cache: bool = False  # keep decoded photos in memory
    threads: int = 2  # that read and augment
    check_files: int = 5000  # photos of each dataset opened and checked before the run starts
    on_bad_image: str = "stop"  # stop, or skip: another photo of the dataset takes the place of an unreadable one
    bad_image_share: float = 0.01  # of the photos of a dataset; with more bad ones a run that skips them stops


@dataclasses.dataclass(frozen=True)
class PretrainDataConfig(DataConfig):
    """How photos become the views of pretraining (METHOD.md section 5)."""

    crop: tuple[int, int] = (224, 224)
    scale: tuple[float, float] = (0.2, 1.0)  # random resized crop: share of the photo's area
    ratio: tuple[float, float] = (0.75, 4 / 3)  # and width / height


@dataclasses.dataclass(frozen=True)
class FinetuneDataConfig(DataConfig):
    """How photos become the crops of fine-tuning (METHOD.md section 6)."""

    crop: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.5, 2.0)  # random scale of the photo before the crop
    category_ratio: float = 0.75  # a crop with more than this share of one class is drawn again, up to 10 times


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """What stands between backbone and head (METHOD.md sections 2 and 6)."""

    # deeplabv3; or deeplabv3plus, which joins features of stride 4 and gives features of stride 4.
    name: str = key("deeplabv3", before="deeplabv3")
    layout: str = "mmseg"  # of deeplabv3: mmseg or torchvision, its two published shapes; of deeplabv3plus: mmseg
    channels: int = 512
    rates: tuple[int, ...] = (12, 24, 36)
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network under the head (METHOD.md section 2)."""

    backbone: str = "resnet50"  # resnet18, resnet34, resnet50, resnet101; with _v1c: with MMSegmentation's deep stem
    width: float = 1.0  # multiplies every channel count of the backbone
    output_stride: int = 8  # 8 or 16
    decoder: DecoderConfig = DecoderConfig()
    # What the backward pass computes again instead of keeping it: none, elementwise (batch normalisation and
    # ReLU of the residual blocks), blocks (all of them but their inputs).
    remat: str = "none"
    compute_dtype: str = "float32"  # float32, bfloat16 or float64
    param_dtype: str = "float32"  # float32 or float64


@dataclasses.dataclass(frozen=True)
class ProjectionConfig:
    """The head of pretraining (METHOD.md section 2)."""

    channels: int = 512
    dim: int = 256


@dataclasses.dataclass(frozen=True)
class PretrainModelConfig(ModelConfig):
    """The network of pretraining, with its projection head."""

    projection: ProjectionConfig = ProjectionConfig()


@dataclasses.dataclass(frozen=True)
class FinetuneModelConfig(ModelConfig):
    """The network of fine-tuning."""

    decoder: DecoderConfig = DecoderConfig(dropout=0.1)


@dataclasses.dataclass(frozen=True)
class MixingConfig:
    """Cross-dataset mixing (METHOD.md section 4)."""

    region: float = 0.25  # share of the pairs
    pixel: float = 0.25
    beta: float = 1.0  # lam ~ Beta(beta, beta)
    start: int = 0  # steps whose pairs are all plain, before the mixing sets in


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """The values of the objectives (METHOD.md sections 2 to 4 and 7)."""

    temperature: float = 0.1  # tau
    prototype_momentum: float = 0.99
    encoder_momentum: float = 0.999
    momentum_view: str = "clean"  # what the momentum encoder makes prototypes of: clean or mixed photos
    sparse_coding: str = "pull"  # pull, no_push or off
    sparse_classes: int = 5  # K
    sparse_weight: float = 0.1  # alpha
    sparse_temperature: float = 0.1  # tau_s
    label_stride: int = 0  # pixels from one label of the loss to the next; 0 = a label a feature, y[::s, ::s]
    pseudo_threshold: float = 0.5  # an unlabelled pixel counts from this softmax of its nearest prototype on
    pixel_budget: int = 64  # pixels of each view of an image that pixel_to_pixel compares
    loss_chunk: int = 8192  # pixels of a device's share of the batch whose logits exist at one time


@dataclasses.dataclass(frozen=True)
class PretrainOptimConfig:
    """The optimisation of pretraining (METHOD.md section 5)."""

    lr: float = 0.1  # at a batch of 256; scaled by batch / 256
    momentum: float = 0.9
    weight_decay: float = 1e-4  # none on batch normalisation and biases
    warmup_epochs: float = 5.0


@dataclasses.dataclass(frozen=True)
class FinetuneOptimConfig:
    """The optimisation of fine-tuning (METHOD.md section 6)."""

    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4  # on every parameter
    power: float = 0.9  # of the polynomial decay
    lr_min: float = 1e-4


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What both loops have: where data lie, how often things happen, and the machine."""

    seed: int = 0
    data_dir: str = ""
    init: str = "scratch"  # scratch, a workdir of `mdp pretrain` or a file of weights; set by --init
    log_every: int = 50  # steps
    checkpoint_every: int = 1000  # steps
    keep_checkpoints: int = 2
    keep_every: int = 0  # checkpoints of steps divisible by it stay for good; 0 = the newest ones alone
    accumulate: int = 1  # parts that the gradient of a batch is computed in, one after the other, to save memory
    devices: int = 0  # number of devices of the mesh; 0 = all of all processes
    fsdp: int = 1  # over so many devices are the kernels of convolutions and their momenta split


@dataclasses.dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Pretraining on several datasets (METHOD.md sections 2 to 5)."""

    objective: str = "mdp"  # mdp, or a baseline: prototype, pixel_to_pixel, multi_head, cross_entropy
    sources: tuple[SourceConfig, ...] = ()
    label_space: str = "concatenated"  # concatenated, or merged: classes of equal name in several datasets are one
    # Sequential pretraining: tuples of dataset names, trained on one after the other; () = all jointly.
    stages: tuple[tuple[str, ...], ...] = ()
    mixture_temperature: float = 1.0  # T: a dataset of n photos is drawn with weight n^(1/T)
    mixture_weights: tuple[float, ...] = ()  # one of each dataset, in place of those by size and temperature
    mixture_schedule: tuple[tuple, ...] = ()  # rows (step, weight of each dataset): weights from that step on
    data: PretrainDataConfig = PretrainDataConfig()
    mixing: MixingConfig = MixingConfig()
    model: PretrainModelConfig = PretrainModelConfig()
    method: MethodConfig = MethodConfig()
    optim: PretrainOptimConfig = PretrainOptimConfig()
    batch: int = 256
    epochs: float = 100.0  # an epoch is as many samples as all datasets hold together
    steps: int = 0  # overrides epochs where it is not 0


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """Fine-tuning on one dataset with MMSegmentation's settings (METHOD.md section 6)."""

    transfer: tuple[str, ...] = ("backbone", "decoder")  # parts of the pretrained network that are taken
    dataset: SourceConfig | None = None
    data: FinetuneDataConfig = FinetuneDataConfig()
    model: FinetuneModelConfig = FinetuneModelConfig()
    trainable: str = "all"  # all, or head: everything under the classifier is frozen
    loss_mean: str = "all"  # all: divide by all pixels, ignored ones included; valid: by the labelled ones
    optim: FinetuneOptimConfig = FinetuneOptimConfig()
    batch: int = 16
    steps: int = 20000
    evaluate_every: int = 2000  # steps; 0 = at the end only


def as_config_dict(part: Any) -> ConfigDict:
    """A typed config, or one part of it, as the ConfigDict that users change; not locked."""
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return ConfigDict({name: _untyped(value) for name, value in values.items()})


def _untyped(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_config_dict(value)
    if isinstance(value, tuple):
        return tuple(_untyped(item) for item in value)
    return value


def pretrain() -> ConfigDict:
    """The config of `mdp pretrain`, locked, with no sources yet."""
    return as_config_dict(PretrainConfig()).lock()


def finetune() -> ConfigDict:
    """The config of `mdp finetune`, locked, with an empty dataset."""
    config = as_config_dict(FinetuneConfig())
    config.dataset = ConfigDict()
    return config.lock()


def typed(config: ConfigDict) -> "PretrainConfig | FinetuneConfig":
    """The typed form of a complete config of either loop."""
    return _typed(PretrainConfig if "sources" in config else FinetuneConfig, config)


def _typed(kind, config):
    hints = typing.get_type_hints(kind)
    values = {
        name: _typed(hints[name], config[name]) if dataclasses.is_dataclass(hints[name]) else config[name]
        for name in (field.name for field in dataclasses.fields(kind))
    }
    return kind(**values)
