"""Every config key: its comment, its type, its default and, if it came later, the value that means "as before".

Values follow METHOD.md sections 2 to 6 (docs/METHOD.md says which come from the paper, which from its authors and which
are this project's own reading). A config file calls `pretrain()` or `finetune()` and sets what differs. What it gets is
a locked ConfigDict, so that a misspelt key is an error. The package itself reads the typed form, or one part of it.

A new key is one line here: `name: type = key(default, before=...)`, with its comment. What was made without it, a
workdir, a config file or a score, stays what it is.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from mdp_jax import schema
from mdp_jax.errors import UserError
from mdp_jax.schema import as_config_dict, key


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """What the datasets of all kinds have. A kind adds its own keys in its own file (data/kinds)."""

    name: str  # of the dataset, in label spaces and reports
    kind: str  # how its files lie on the disk
    labels: str = "masks"  # masks, or none: pretraining labels the pixels by their nearest prototypes
    drop_classes: tuple[str, ...] = ()  # class names whose pixels become ignored
    # Rows (name, classes of the set ...): these classes first, in this order, under these names; several become one.
    class_groups: tuple[tuple[str, ...], ...] = key((), before=())
    limit: int = 0  # train on this many photos, chosen by the seed; 0 = all
    # This many training photos are set aside and take the place of the validation photos; 0 = none. To choose
    # settings on, so that the validation photos are looked at once.
    holdout: int = 0
    license: str = key("", before="", free=True)  # of the photos and labels, for the card of mdp export

    @classmethod
    def variant(cls, values: Mapping, where: str, name: str) -> type["SourceConfig"]:
        """The dataclass of the kind that a dataset's values name (schema.py calls it)."""
        kind = values.get("kind")
        if not isinstance(kind, str) or kind not in _kinds():
            raise UserError(f"{where}{name}.kind={kind!r:.80}: expected one of {', '.join(_kinds())}")
        return _kinds()[kind].config_type


@dataclasses.dataclass(frozen=True)
class PhotometricConfig:
    """Strengths of the photometric distortion, on the 0..255 scale (hue: OpenCV's 0..179)."""

    brightness: float = 32.0  # at most added or subtracted
    contrast: float = 0.5  # values are multiplied by 1 - this to 1 + this
    saturation: float = 0.5  # likewise the saturation
    hue: float = 18.0  # at most added or subtracted


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How photos are read and augmented, in both loops."""

    crop: tuple[int, int]  # height, width in pixels
    short_side: int = 0  # photos are first resized to this short side, in pixels; 0 = as they are
    flip: float = 0.5  # probability of a horizontal flip
    photometric: PhotometricConfig = PhotometricConfig()
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of the channels R, G, B, on the 0..255 scale
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)  # of the same channels
    cache: bool = key(False, free=True)  # keep decoded photos in memory
    # Folder of this machine for copies of photos in a bucket; "" = mdp_jax/photos in the user's folder of caches.
    cache_dir: str = key("", before="", free=True)
    cache_gb: float = key(20.0, before=20.0, free=True)  # that the copies may take, in GiB; 0 = no copies are kept
    threads: int = key(2, free=True)  # that read and augment
    check_files: int = key(5000, free=True)  # photos of each dataset opened and checked before the run starts
    on_bad_image: str = key("stop", free=True)  # stop, or skip: another photo takes the place of an unreadable one
    bad_image_share: float = key(0.01, free=True)  # of a dataset; with more bad photos a run that skips them stops


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

    # deeplabv3, fcn, linear (batch normalisation alone), or identity (none) on the features at the output stride;
    # deeplabv3plus, which joins them with those of stride 4; upernet or segformer on those of strides 4, 8, 16 and 32.
    name: str = key("deeplabv3", before="deeplabv3")
    layout: str = "mmseg"  # of deeplabv3: mmseg or torchvision, its two published shapes; of the others: mmseg
    channels: int = 512  # of its convolutions
    rates: tuple[int, ...] = (12, 24, 36)  # of its dilated convolutions
    dropout: float = 0.0  # in front of the classifier


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network under the head (METHOD.md section 2)."""

    # resnet18, resnet34, resnet50, resnet101; with _v1c: with MMSegmentation's deep stem. convnext_tiny, _small, _base.
    # swin_tiny, _small, _base.
    # vit_small_, vit_base_ or vit_large_ with patch16, patch14_dinov2, patch14_reg4_dinov2 or patch16_dinov3.
    backbone: str = "resnet50"
    width: float = 1.0  # multiplies every channel count of the backbone
    # resnet and convnext: 8, 16 or 32. swin: 32. vit: the patch, or, of 16 pixels, twice the patch, with features at 4,
    # 8, 16 and 32 as well.
    output_stride: int = 8
    decoder: DecoderConfig = DecoderConfig()
    # Stochastic depth of convnext, swin and vit in fine-tuning: the share of samples for which the last block is left
    # out; it rises evenly from 0 at the first block.
    drop_path: float = key(0.0, before=0.0)
    # Patches of a window's side in vit: attention stays inside windows, but for the last block of each quarter of the
    # depth (arXiv 2203.16527). 0 = every patch sees every patch.
    window: int = key(0, before=0)
    # What the backward pass computes again instead of keeping it: none, elementwise (all of the residual blocks but
    # convolutions and matrix products), blocks (all of them but their inputs).
    remat: str = "none"
    compute_dtype: str = "float32"  # float32, bfloat16 or float64
    param_dtype: str = "float32"  # float32 or float64


@dataclasses.dataclass(frozen=True)
class ProjectionConfig:
    """The head of pretraining (METHOD.md section 2)."""

    channels: int = 512  # of its convolutions
    dim: int = 256  # of the embeddings
    # Convolutions. 1: the last one alone, which is linear; 0: none, for prototypes of the decoder's own features, whose
    # number of channels `dim` then has to be.
    layers: int = key(2, before=2)
    final_norm: bool = key(False, before=False)  # batch normalisation behind the last convolution


_PROJECTION = ProjectionConfig()


@dataclasses.dataclass(frozen=True)
class PretrainModelConfig(ModelConfig):
    """The network of pretraining, with its projection head."""

    projection: ProjectionConfig = ProjectionConfig()


@dataclasses.dataclass(frozen=True)
class AuxiliaryConfig:
    """A second head that fine-tuning trains on the features of the backbone's third stage, MMSegmentation's FCNHead."""

    weight: float = 0.0  # of its loss, as 0.4; 0 = no such head
    channels: int = 256  # of its convolution


_AUXILIARY = AuxiliaryConfig()


@dataclasses.dataclass(frozen=True)
class FinetuneModelConfig(ModelConfig):
    """The network of fine-tuning."""

    decoder: DecoderConfig = DecoderConfig(dropout=0.1)
    # Layers under the classifier, side by side: some of backbone, decoder, projection.
    reads: tuple[str, ...] = key(("decoder",), before=("decoder",))
    projection: ProjectionConfig = dataclasses.field(default=_PROJECTION, metadata={"before": _PROJECTION})  # for it
    auxiliary: AuxiliaryConfig = dataclasses.field(default=_AUXILIARY, metadata={"before": _AUXILIARY})


@dataclasses.dataclass(frozen=True)
class MixingConfig:
    """Cross-dataset mixing (METHOD.md section 4)."""

    region: float = 0.25  # share of the pairs
    pixel: float = 0.25  # likewise
    beta: float = 1.0  # lam ~ Beta(beta, beta)
    start: int = 0  # steps whose pairs are all plain, before the mixing sets in


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """The values of the objectives (METHOD.md sections 2 to 4 and 7)."""

    temperature: float = 0.1  # tau
    prototype_momentum: float = 0.99  # share of a prototype that stays at an update
    # Whether a prototype is the mean over all images that its class was seen in, until there are so many of them that
    # the share of the older ones is prototype_momentum.
    prototype_warmup: bool = key(False, before=False)
    encoder_momentum: float = 0.999  # share of the momentum encoder's weights that stays at a step
    momentum_view: str = "clean"  # what the momentum encoder makes prototypes of: clean or mixed photos
    sparse_coding: str = "pull"  # pull, no_push or off
    sparse_classes: int = 5  # K
    sparse_weight: float = 0.1  # alpha
    sparse_temperature: float = 0.1  # tau_s
    label_stride: int = 0  # pixels from one label of the loss to the next; 0 = a label a feature, y[::s, ::s]
    pseudo_threshold: float = 0.5  # an unlabelled pixel counts from this softmax of its nearest prototype on
    pixel_budget: int = 64  # pixels of each view of an image that pixel_to_pixel compares
    # What counts alike in the loss: pixel, or image_class: each class of each image, whatever its number of pixels.
    pixel_weights: str = key("pixel", before="pixel")
    # Whose classes are a pixel's negatives, and may code it: all, or own_set: those of the sets of its own labels.
    negatives: str = key("all", before="all")
    # Whether the logits have the logarithm of each class's share of the pixels beside its prototype.
    class_frequencies: bool = key(False, before=False)
    # Which classes of different sets are related (docs/relations.md): none; names: those of equal names; text: those
    # whose names have near vectors in names_file.
    relations: str = key("none", before="none")
    related_as: str = key("no_negatives", before="no_negatives")  # what they are to a pixel: no_negatives or positives
    relation_threshold: float = key(0.5, before=0.5)  # of text: names are near from this cosine of their vectors on
    names_file: str = key("", before="", place=True)  # .npz of class names and their vectors; "" = none
    start_from_names: bool = key(False, before=False)  # prototypes start from the vectors of names_file
    # The control of both: within each set the classes get each other's names, by the seed.
    shuffle_names: bool = key(False, before=False)
    loss_chunk: int = 8192  # pixels of a device's share of the batch whose logits exist at one time


# Name -> factor of the learning rate by that of the batch: in proportion (arXiv 1706.02677), or its square root, by
# which LAMB's authors go (1904.00962).
LR_RULES: dict[str, Callable[[float], float]] = {"linear": lambda times: times, "sqrt": lambda times: times**0.5}


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """What the optimisation of both loops has."""

    # sgd, adamw, lars or lamb. All but sgd spare biases, normalisations, positions and tokens from weight decay.
    name: str = key("sgd", before="sgd")
    betas: tuple[float, float] = key((0.9, 0.999), before=(0.9, 0.999))  # of the moments of adamw and lamb
    clip_norm: tuple[float, ...] = key((), before=())  # (1.0,): the gradient's global norm is at most 1; () = any
    # The learning rate of each layer of the backbone is this times that of the next layer; 1 = all alike.
    layer_decay: float = key(1.0, before=1.0)


@dataclasses.dataclass(frozen=True)
class PretrainOptimConfig(OptimConfig):
    """The optimisation of pretraining (METHOD.md section 5)."""

    lr: float = 0.1  # at a batch of 256; scaled to other batches by `lr_rule`
    lr_rule: str = key("linear", before="linear")  # linear: times batch / 256; sqrt: times the square root of it
    momentum: float = 0.9  # of sgd and lars
    weight_decay: float = 1e-4  # none on batch normalisation and biases
    warmup_epochs: float = 5.0  # in which the learning rate rises to lr


@dataclasses.dataclass(frozen=True)
class FinetuneOptimConfig(OptimConfig):
    """The optimisation of fine-tuning (METHOD.md section 6)."""

    lr: float = 0.01  # at the first step, or the last one of the warm-up
    momentum: float = 0.9  # of sgd and lars
    weight_decay: float = 5e-4  # of sgd on every parameter, of the others on kernels
    power: float = 0.9  # of the polynomial decay
    lr_min: float = 1e-4  # at the last step
    schedule: str = key("poly", before="poly")  # poly or cosine, after the warm-up
    warmup_steps: int = key(0, before=0)  # in which the learning rate rises to lr
    # Share of a moving average of the weights that stays at a step, as 0.999; the run is scored and used by that
    # average. 0 = none is kept.
    ema_decay: float = key(0.0, before=0.0)


@dataclasses.dataclass(frozen=True)
class FinetuneLossConfig:
    """The loss of fine-tuning; `loss_mean` says what it is divided by (METHOD.md section 6)."""

    name: str = "cross_entropy"  # cross_entropy of a softmax, or focal: of a sigmoid for each class
    # A weight of at least 0 for each class, in the order of their ids; () = all 1. ("inverse",): by the frequency of
    # the pixels of the training masks; ("effective",): by the effective number of photos that hold the class.
    class_weights: tuple = ()
    effective_beta: float = 0.999  # of ("effective",), from 0 to below 1
    label_smoothing: float = 0.0  # of cross_entropy: share of the target that all classes have alike
    # Of cross_entropy: only pixels count whose own class is less probable than this; 0 = all pixels count.
    ohem_threshold: float = 0.0
    ohem_kept: int = 100000  # but of the whole batch at least so many times the number of its photos
    focal_gamma: float = 2.0  # of focal: exponent, at least 0
    focal_alpha: float = 0.5  # of focal: weight of a pixel's own class; the others weigh 1 - alpha
    dice_weight: float = 0.0  # of the Dice loss that is added; 0 = none


_LOSS = FinetuneLossConfig()


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What both loops have: where data lie, how often things happen, and the machine."""

    seed: int = 0  # of the weights, the order of the photos and all that is drawn by chance
    data_dir: str = key("", free=True)  # folder that the roots of the datasets are below
    init: str = "scratch"  # scratch, the workdir of a run or a file of weights; set by --init
    # Which weights of the workdir `init` (--weights): plain, ema or momentum; "" = ema where it has them, else plain.
    init_weights: str = key("", before="")
    # Workdir of the same loop from whose whole state this run goes on (--continue_from), and which checkpoint of it:
    # last, best or a step; "" = none.
    continue_from: str = key("", before="")
    continue_step: str = key("last", before="last")  # last, best or a number
    log_every: int = key(50, free=True)  # steps
    checkpoint_every: int = key(1000, free=True)  # steps
    keep_checkpoints: int = key(2, free=True)  # so many of the newest ones stay
    keep_every: int = key(0, free=True)  # checkpoints of steps divisible by it stay for good; 0 = the newest ones alone
    accumulate: int = 1  # parts that the gradient of a batch is computed in, one after the other, to save memory
    # Name of a project of Weights & Biases that gets the metrics and pictures too; "" = none (docs/after_training.md).
    wandb: str = key("", before="", free=True)
    devices: int = key(0, free=True)  # number of devices of the mesh; 0 = all of all processes
    # Over so many devices kernels are split, with their momenta and averages; each is gathered where it is used.
    fsdp: int = key(1, free=True)


@dataclasses.dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Pretraining on several datasets (METHOD.md sections 2 to 5)."""

    objective: str = "mdp"  # mdp, or a baseline: prototype, pixel_to_pixel, multi_head, cross_entropy
    sources: tuple[SourceConfig, ...] = ()  # the datasets
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
    batch: int = 256  # photos of a step, on all devices together
    epochs: float = 100.0  # an epoch is as many samples as all datasets hold together
    steps: int = 0  # overrides epochs where it is not 0


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """Fine-tuning on one dataset with MMSegmentation's settings (METHOD.md section 6)."""

    transfer: tuple[str, ...] = ("backbone", "decoder")  # parts of the pretrained network that are taken
    dataset: SourceConfig | None = None  # what is trained on and validated on
    data: FinetuneDataConfig = FinetuneDataConfig()
    model: FinetuneModelConfig = FinetuneModelConfig()
    trainable: str = "all"  # all, or head: everything under the classifier is frozen
    loss_mean: str = "all"  # all: divide by all pixels, ignored ones included; valid: by the labelled ones
    loss: FinetuneLossConfig = dataclasses.field(default=_LOSS, metadata={"before": _LOSS})
    optim: FinetuneOptimConfig = FinetuneOptimConfig()
    batch: int = 16  # photos of a step, on all devices together
    steps: int = 20000  # of the run
    evaluate_every: int = key(2000, free=True)  # steps; 0 = at the end only
    keep_best: bool = key(True, before=False, free=True)  # keep the checkpoint of the best validation too, by its mIoU
    pictures: int = key(4, before=0, free=True)  # validation photos that TensorBoard shows at each validation; 0 = none


def peak_learning_rate(optim: PretrainOptimConfig, batch: int) -> float:
    """The largest learning rate of a pretraining (METHOD.md section 5).

    Args:
      optim: the config's `optim`.
      batch: number of samples.
    """
    return optim.lr * LR_RULES[optim.lr_rule](batch / 256)


def pretrain() -> ConfigDict:
    """The config of `mdp pretrain`, locked, with no sources yet."""
    return as_config_dict(PretrainConfig()).lock()


def finetune() -> ConfigDict:
    """The config of `mdp finetune`, locked, with an empty dataset."""
    return as_config_dict(FinetuneConfig()).lock()


def shrink(config: ConfigDict) -> ConfigDict:
    """Sets, in place, the size that two CPU cores train in minutes; returns the config.

    It is a quarter-width ResNet-18 with a small DeepLabV3 decoder, on photos with a short side of 96 pixels.

    Args:
      config: of either loop.
    """
    config.model.backbone = "resnet18"
    config.model.width = 0.25
    config.model.decoder.channels = 64
    config.model.decoder.rates = (2, 4, 6)  # the feature map of a crop is 8 x 8
    config.data.short_side = 96
    config.data.crop = (64, 64)
    config.data.cache = True
    return config


def loop_of(
    config: ConfigDict | PretrainConfig | FinetuneConfig, where: str = "config."
) -> type[PretrainConfig] | type[FinetuneConfig]:
    """Says which loop a config is for.

    Args:
      config: in either form.
      where: what errors begin with.

    Returns:
      PretrainConfig or FinetuneConfig.

    Raises:
      UserError: the config is for neither loop.
    """
    if isinstance(config, PretrainConfig | FinetuneConfig):
        return type(config)
    if "sources" in config:
        return PretrainConfig
    if "dataset" in config:
        return FinetuneConfig
    raise UserError(f"{where}sources: missing, and dataset too; expected the config of mdp pretrain or mdp finetune")


def typed(
    config: ConfigDict | PretrainConfig | FinetuneConfig, where: str = "config."
) -> PretrainConfig | FinetuneConfig:
    """Gives a complete config its typed form.

    Args:
      config: in either form.
      where: what errors begin with, up to the dotted key.

    Returns:
      The typed form; `config` itself where it is typed.

    Raises:
      UserError: a key is missing or unknown, or a value has another type. The message names it.
    """
    if isinstance(config, PretrainConfig | FinetuneConfig):
        return config
    return schema.make(loop_of(config, where), config, where)


_Loop = TypeVar("_Loop", PretrainConfig, FinetuneConfig)


PARTS: dict[type, str] = {PretrainConfig: "mdp pretrain", FinetuneConfig: "mdp finetune"}


def require_loop(config: ConfigDict | PretrainConfig | FinetuneConfig, loop: type, where: str = "config.") -> None:
    """Checks that a config is for a loop.

    Args:
      config: in either form.
      loop: PretrainConfig or FinetuneConfig.
      where: what errors begin with: the file that it comes from, if there is one.

    Raises:
      UserError: it is for the other loop, or for neither.
    """
    if (found := loop_of(config, where)) is not loop:
        raise UserError(f"{where.rstrip('.: ')}: the config of {PARTS[found]}; expected one of {PARTS[loop]}")


def _typed_as(loop: type[_Loop], config: ConfigDict | _Loop, where: str) -> _Loop:
    require_loop(config, loop, where)
    made = typed(config, where)
    assert isinstance(made, loop)
    return made


def typed_pretrain(config: ConfigDict | PretrainConfig, where: str = "config.") -> PretrainConfig:
    """Gives the complete config of a pretraining its typed form.

    Args:
      config: in either form.
      where: what errors begin with, up to the dotted key.

    Raises:
      UserError: it is the config of another loop, a key is missing or unknown, or a value has another type.
    """
    return _typed_as(PretrainConfig, config, where)


def typed_finetune(config: ConfigDict | FinetuneConfig, where: str = "config.") -> FinetuneConfig:
    """Gives the complete config of a fine-tuning its typed form.

    Args:
      config: in either form.
      where: what errors begin with, up to the dotted key.

    Raises:
      UserError: it is the config of another loop, a key is missing or unknown, or a value has another type.
    """
    return _typed_as(FinetuneConfig, config, where)


def complete(config: ConfigDict, where: str) -> ConfigDict:
    """Gives a config, in place, the keys that came after it was written, with their values "as before"; locks it.

    Args:
      config: a config that was read from a file.
      where: that file.

    Returns:
      The config.

    Raises:
      UserError: a key is missing that every version had, this version does not have one of the keys, or a value has
        another type. The message names the key.
    """
    begin = f"{where}: "
    with config.unlocked():
        schema.complete(loop_of(config, begin), config, begin)
    typed(config, begin)
    return config.lock()


def _kinds() -> Mapping[str, Any]:
    """The dataset kinds by name: the one look-up upwards, since each kind declares its own keys in its own file."""
    return importlib.import_module("mdp_jax.data.kinds").KINDS


def __getattr__(name: str) -> Any:
    """`configs.voc(...)` and so on: the function of a kind that makes a dataset's config; it checks the types."""
    if name.startswith("_") or name not in _kinds():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = _kinds()[name]

    @functools.wraps(kind.config)
    def dataset(*args: Any, **values: Any) -> ConfigDict:
        made = kind.config(*args, **values)
        schema.make(kind.config_type, made, f"dataset {made.name!r:.80}: ")
        return made

    return dataset


def __dir__() -> list[str]:
    return sorted({*globals(), *_kinds()})
