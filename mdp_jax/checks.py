"""Checks of config values, made before anything expensive starts. Each failure is one line that names the value."""

import math
from typing import Any

from ml_collections import ConfigDict

from mdp_jax import schema
from mdp_jax.configs import LR_RULES, MethodConfig
from mdp_jax.data.batches.bad_images import ON_BAD_IMAGE
from mdp_jax.data.batches.stages import MOST_STEPS
from mdp_jax.data.class_names import RELATIONS
from mdp_jax.data.label_space import KINDS
from mdp_jax.errors import UserError
from mdp_jax.method import segmentation_losses
from mdp_jax.method.losses import NEGATIVES, RELATED_AS, SPARSE_CODING
from mdp_jax.method.weights import PIXEL_WEIGHTS
from mdp_jax.models import network
from mdp_jax.objectives.momentum import MOMENTUM_VIEWS
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.words import counted

MAX_SEED = 2**32 - 1  # grain's limit
TRAINABLE = ("all", "head")
OPTIMIZERS, SCHEDULES = ("sgd", "adamw", "lars", "lamb"), ("poly", "cosine")  # those of training/optim.py
WEIGHTS = ("plain", "ema", "momentum")  # those of evaluation/chosen_weights.py
TRANSFERABLE = ("backbone", "decoder", "classifier", "projection", "auxiliary")
MOST_CHANNELS, MOST_THREADS, MOST_WIDTH, MOST_BATCH = 2**20, 1024, 100, 2**20  # no machine has the memory for more
MOST_PHOTOMETRIC, MOST_EPOCHS = 1000, 1e9
MOST_PIXELS = 2**38  # of the crops of a batch, likewise
LEAST_STD, MOST_MEAN = 1e-3, 1e6  # beyond them normalised photos overflow in float32


def _value(config: ConfigDict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _one_of(config: ConfigDict, key: str, allowed: tuple) -> None:
    if _value(config, key) not in allowed:
        given = schema.shown(_value(config, key))
        raise UserError(f"config.{key}={given}: expected one of {', '.join(map(str, allowed))}")


def _at_least(config: ConfigDict, key: str, low: float, strictly: bool = False) -> None:
    value = _value(config, key)
    if not math.isfinite(value):
        raise UserError(f"config.{key}={value}: expected a finite number")
    if value < low or (strictly and value == low):
        raise UserError(f"config.{key}={value}: expected {'more than' if strictly else 'at least'} {low}")


def _at_most(config: ConfigDict, key: str, high: float) -> None:
    value = _value(config, key)
    if max(value if isinstance(value, tuple) else (value,), default=0) > high:
        raise UserError(f"config.{key}={schema.shown(value)}: expected at most {high:,}")


def _share(config: ConfigDict, key: str) -> None:
    if not 0 <= _value(config, key) <= 1:
        raise UserError(f"config.{key}={_value(config, key)}: expected a number from 0 to 1")


def _range(config: ConfigDict, key: str) -> None:
    values = _value(config, key)
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise UserError(f"config.{key}={values}: expected two positive numbers, the smaller first")


_MOST = (
    (("steps",), MOST_STEPS),
    (("batch", "accumulate"), MOST_BATCH),
    (("data.threads",), MOST_THREADS),
    (("model.decoder.channels", "model.decoder.rates"), MOST_CHANNELS),
    (("model.width",), MOST_WIDTH),
)


def _common(config: ConfigDict) -> None:
    if config.continue_from and config.init != "scratch":
        raise UserError(
            f"config.continue_from={config.continue_from!r} and config.init={config.init!r}: expected one of them; a "
            "run that goes on has its weights from the other run, and --init scratch says so"
        )
    if config.init_weights not in ("", *WEIGHTS):
        raise UserError(
            f"config.init_weights={schema.shown(config.init_weights)}: expected one of {', '.join(WEIGHTS)}, or ''"
        )
    if config.init_weights and config.init == "scratch":
        raise UserError(
            f"config.init_weights={config.init_weights!r}: expected '' with config.init='scratch'; --weights says "
            "which weights of --init WORKDIR are taken"
        )
    step = config.continue_step
    if step not in ("last", "best") and not (step.isdecimal() and len(step) <= 18):
        given = schema.shown(config.continue_step)
        raise UserError(f"config.continue_step={given}: expected last, best or the number of a step")
    if step != "last" and not config.continue_from:
        raise UserError(
            f"config.continue_step={step!r}: expected 'last' with config.continue_from=''; --step says which "
            "checkpoint of --continue_from WORKDIR is taken"
        )
    for key in (
        "batch",
        "accumulate",
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "data.threads",
        "model.decoder.channels",
    ):
        _at_least(config, key, 1)
    for key in (
        "steps",
        "devices",
        "keep_every",
        "data.short_side",
        "data.check_files",
        "seed",
        "optim.weight_decay",
        "data.cache_gb",
    ):
        _at_least(config, key, 0)
    for key in ("optim.lr", "model.width"):
        _at_least(config, key, 0, strictly=True)
    if config.seed > MAX_SEED:
        raise UserError(f"config.seed={config.seed}: expected at most {MAX_SEED}")
    for key in config.data.photometric:
        _at_least(config, f"data.photometric.{key}", 0)
        _at_most(config, f"data.photometric.{key}", MOST_PHOTOMETRIC)
    for keys, high in _MOST:
        for key in keys:
            _at_most(config, key, high)
    for key in ("mean", "std"):
        if len(config.data[key]) != 3:
            raise UserError(f"config.data.{key}={config.data[key]}: expected three numbers, of the channels R, G and B")
    if min(config.data.std) <= 0:
        raise UserError(f"config.data.std={config.data.std}: expected positive numbers")
    if min(config.data.std) < LEAST_STD or max(map(abs, (*config.data.mean, *config.data.std))) > MOST_MEAN:
        raise UserError(
            f"config.data.mean={config.data.mean}, config.data.std={config.data.std}: expected those of photos whose "
            f"values go from 0 to 255; none above {MOST_MEAN:g}, no std below {LEAST_STD:g}"
        )
    if not config.model.decoder.rates or min(config.model.decoder.rates) < 1:
        raise UserError(f"config.model.decoder.rates={config.model.decoder.rates}: expected whole numbers from 1")
    _one_of(config, "data.on_bad_image", tuple(ON_BAD_IMAGE))
    _share(config, "data.bad_image_share")
    _share(config, "data.flip")
    _share(config, "optim.momentum")
    _optimizer(config)
    _range(config, "data.scale")
    stride = config.model.output_stride
    if len(config.data.crop) != 2 or min(config.data.crop) < 1 or any(side % stride for side in config.data.crop):
        raise UserError(
            f"config.data.crop={config.data.crop}: expected height and width divisible by the output stride {stride}"
            f"{_nearest(config.data.crop, stride)}"
        )
    if config.batch * config.data.crop[0] * config.data.crop[1] > MOST_PIXELS:
        raise UserError(
            f"config.batch={config.batch} with config.data.crop={config.data.crop}: expected at most {MOST_PIXELS:,} "
            "pixels in a batch"
        )


def _nearest(crop: tuple, stride: int) -> str:
    """The nearest multiples below and above each side that is none; empty where the sides cannot be named."""
    sides = [side for side in crop if side >= 1 and side % stride] if len(crop) == 2 else []
    near = sorted({multiple for side in sides for multiple in (side // stride * stride, -(-side // stride) * stride)})
    sides = [str(side) for side in near if side]
    return f"; the nearest {'is' if len(sides) == 1 else 'are'} {', '.join(sides)}" if sides else ""


def _divisor(config: ConfigDict, key: str, of: int) -> None:
    """A stride finer than that of the features, or 0."""
    value = _value(config, key)
    if value and (value < 0 or of % value):
        raise UserError(f"config.{key}={value}: expected 0 or a divisor of the output stride {of}")


def _divisible(config: ConfigDict, devices: int, together: int, what: str) -> None:
    least = together * devices * config.accumulate
    if config.batch % least:
        parts = f" in each of {config.accumulate} parts" if config.accumulate > 1 else ""
        raise UserError(
            f"config.batch={config.batch}: expected a multiple of {least} "
            f"({what} on each of {counted(devices, 'device')}{parts})"
        )


def _weights(config: ConfigDict, key: str, weights: tuple) -> None:
    count = len(config.sources)
    numbers = all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights)
    if len(weights) != count or not numbers or not sum(weights) > 0:
        raise UserError(
            f"config.{key}={schema.shown(_value(config, key))}: expected a weight of at least 0 for each of the "
            f"{count} datasets, one of them more than 0"
        )


def _mixture(config: ConfigDict) -> None:
    if config.mixture_weights:
        _weights(config, "mixture_weights", config.mixture_weights)
    before = -1
    for row in config.mixture_schedule:
        if type(row) is not tuple or not row or type(row[0]) is not int or row[0] <= before:
            raise UserError(
                f"config.mixture_schedule={schema.shown(config.mixture_schedule)}: expected rows (step, weight of "
                "each dataset), their steps from 0 on in rising order"
            )
        _weights(config, "mixture_schedule", row[1:])
        before = row[0]


def _objective(config: ConfigDict) -> None:
    """Checks that the objective can be used with the other values."""
    name, objective = config.objective, OBJECTIVES[config.objective]
    if not objective.mixes and (config.mixing.region or config.mixing.pixel):
        raise UserError(
            f"config.mixing.region={config.mixing.region} and config.mixing.pixel={config.mixing.pixel}: expected 0.0 "
            f"for both with config.objective={name!r}, which has no mixing"
        )
    if config.label_space not in objective.label_spaces:
        expected = " or ".join(map(repr, objective.label_spaces))
        raise UserError(
            f"config.label_space={config.label_space!r}: expected {expected} with config.objective={name!r}"
        )
    unlabelled = [source.name for source in config.sources if source.labels == "none"]
    if unlabelled and not objective.unlabelled:
        able = ", ".join(other for other, entry in OBJECTIVES.items() if entry.unlabelled)
        raise UserError(
            f"config.sources.{unlabelled[0]}.labels='none': expected 'masks' with config.objective={name!r}; "
            f"those that take unlabelled datasets are {able}"
        )
    if config.method.momentum_view == "mixed" and (unlabelled or config.mixing.pixel == 1):
        reason = "unlabelled datasets" if unlabelled else "config.mixing.pixel=1.0, which leaves no prototype a pixel"
        raise UserError(f"config.method.momentum_view='mixed': expected 'clean' with {reason}")
    if len(unlabelled) == len(config.sources):
        raise UserError(f"config.sources.{unlabelled[0]}.labels='none': expected 'masks' for at least one dataset")


def _names(config: ConfigDict) -> None:
    """Checks what is made of the names of classes (METHOD.md section 9); reads no file."""
    method, objective = config.method, OBJECTIVES[config.objective]
    _one_of(config, "method.relations", RELATIONS)
    _one_of(config, "method.related_as", RELATED_AS)
    _share(config, "method.relation_threshold")
    _at_least(config, "method.relation_threshold", 0, strictly=True)
    relations = f"config.method.relations={method.relations!r}"
    related, needs_file = method.relations != RELATIONS[0], method.relations == "text" or method.start_from_names
    if related and not objective.relates:
        having = ", ".join(name for name, other in OBJECTIVES.items() if other.relates)
        raise UserError(
            f"{relations}: expected {RELATIONS[0]!r} with config.objective={config.objective!r}; others are for "
            f"{having}"
        )
    if related and config.label_space != KINDS[0]:
        raise UserError(
            f"{relations}: expected {RELATIONS[0]!r} with config.label_space={config.label_space!r}, where classes of "
            "equal names are one class"
        )
    if method.related_as != RELATED_AS[0] and (not related or method.sparse_coding != "pull"):
        raise UserError(
            f"config.method.related_as={method.related_as!r}: expected {RELATED_AS[0]!r}, or config.method.relations "
            "other than 'none' and config.method.sparse_coding='pull'"
        )
    if method.start_from_names and objective.bank is None:
        having = ", ".join(name for name, other in OBJECTIVES.items() if other.bank)
        raise UserError(
            f"config.method.start_from_names=True: expected False with config.objective={config.objective!r}; "
            f"prototypes have {having}"
        )
    if needs_file and not method.names_file:
        key = relations if method.relations == "text" else "config.method.start_from_names=True"
        raise UserError(f"{key}: no vectors of names; expected config.method.names_file, an .npz (docs/relations.md)")
    if method.names_file and not needs_file:
        raise UserError(
            f"config.method.names_file={schema.shown(method.names_file)}: nothing uses it; expected '', or "
            "config.method.relations='text' or config.method.start_from_names=True"
        )
    if method.shuffle_names and not (related or method.start_from_names):
        raise UserError(
            "config.method.shuffle_names=True: nothing uses the names; expected False, or config.method.relations or "
            "config.method.start_from_names"
        )


def _prototypes(config: ConfigDict) -> None:
    """Checks the options of prototypes and of what they are compared with."""
    method, projection, channels = config.method, config.model.projection, config.model.decoder.channels
    _one_of(config, "method.negatives", NEGATIVES)
    for key in ("class_frequencies", "momentum_view", "negatives", "prototype_warmup"):
        default = getattr(MethodConfig, key)
        if method[key] != default and OBJECTIVES[config.objective].bank is None:
            having = ", ".join(name for name, objective in OBJECTIVES.items() if objective.bank)
            raise UserError(
                f"config.method.{key}={method[key]!r}: expected {default!r} with "
                f"config.objective={config.objective!r}; prototypes have {having}"
            )
    negatives = f"config.method.negatives={method.negatives!r}: expected {NEGATIVES[0]!r}"
    if method.negatives != NEGATIVES[0] and method.relations != RELATIONS[0]:
        raise UserError(f"{negatives} with config.method.relations={method.relations!r}, or relations='none'")
    if method.negatives != NEGATIVES[0] and config.label_space != KINDS[0]:
        raise UserError(f"{negatives} with config.label_space={config.label_space!r}, where sets share classes")
    if projection.layers not in (0, 1, 2):
        raise UserError(f"config.model.projection.layers={projection.layers}: expected 0, 1 or 2")
    if projection.layers == 0 and projection.dim != channels:
        raise UserError(
            f"config.model.projection.layers=0 and dim={projection.dim}: the embeddings are the decoder's features; "
            f"expected config.model.projection.dim={channels}, as config.model.decoder.channels"
        )


def _labelled_first(config: ConfigDict) -> None:
    """Unlabelled photos get their labels from prototypes, which come from the photos of labelled datasets."""
    names = [source.name for source in config.sources]
    weights = config.mixture_weights or [1] * len(names)
    if config.mixture_schedule and config.mixture_schedule[0][0] == 0:
        weights = config.mixture_schedule[0][1:]
    drawn = {name for name, weight in zip(names, weights, strict=True) if weight > 0}
    if config.stages:
        drawn &= set(config.stages[0])
    if all(source.labels == "none" for source in config.sources if source.name in drawn):
        raise UserError(
            f"config.sources.{min(drawn)}.labels='none': the run begins with unlabelled datasets alone, without "
            "prototypes to label them by; expected one with labels='masks' among those of the first steps"
        )


def _stages(config: ConfigDict) -> None:
    if not config.stages:
        return
    where, names = f"config.stages={schema.shown(config.stages)}", [source.name for source in config.sources]
    if any(
        type(stage) is not tuple or not stage or any(type(name) is not str for name in stage) for stage in config.stages
    ):
        raise UserError(f"{where}: expected tuples of dataset names, as (('a', 'b'), ('c',))")
    found = [name for stage in config.stages for name in stage]
    for name in (*found, *names):
        if name not in names:
            raise UserError(f"{where}: no dataset {name!r:.80}; expected some of {', '.join(names)}")
        if found.count(name) != 1:
            raise UserError(f"{where}: dataset {name!r} is in {found.count(name)} stages; expected one")
    if config.mixture_schedule:
        raise UserError(f"{where}: config.mixture_schedule is given too; expected one of them")
    weights = dict(zip(names, config.mixture_weights or [1] * len(names), strict=True))
    for stage in config.stages:
        if not sum(weights[name] for name in stage) > 0:
            raise UserError(
                f"{where}: no dataset of the stage {stage} has a config.mixture_weights above 0; expected one"
            )


def _views(config: ConfigDict) -> None:
    """Checks the values of the views of pretraining and of their mixing."""
    _range(config, "data.ratio")
    if config.data.scale[1] > 1:
        raise UserError(f"config.data.scale={config.data.scale}: expected shares of the photo's area, at most 1")
    if config.mixing.region + config.mixing.pixel > 1:
        raise UserError(
            f"config.mixing.region={config.mixing.region} and config.mixing.pixel={config.mixing.pixel}: "
            "expected a sum of at most 1"
        )


def _require_loop(config: ConfigDict, key: str, ours: str, other: str) -> None:
    if key not in config:
        raise UserError(f"config.{key}: missing, as in a config of mdp {other}; expected one of mdp {ours}")


def reading(config: ConfigDict) -> None:
    """Checks the values of a finished run that say how photos are read, which evaluation may change.

    Args:
      config: of either loop; a ConfigDict, whose keys errors name.

    Raises:
      UserError: a value cannot work. The message names the first.
    """
    _common(config)


def pretraining(config: ConfigDict, devices: int) -> None:
    """Checks the config of `mdp pretrain`.

    Args:
      config: complete; a ConfigDict, whose keys errors name.
      devices: number of devices of the mesh.

    Raises:
      UserError: a value cannot work. The message names the first.
    """
    _require_loop(config, "sources", "pretrain", "finetune")
    network.pixel_encoder(config.model)  # says what it cannot build
    _common(config)
    _one_of(config, "objective", tuple(OBJECTIVES))
    _one_of(config, "label_space", KINDS)
    _one_of(config, "optim.lr_rule", tuple(LR_RULES))
    _one_of(config, "method.sparse_coding", SPARSE_CODING)
    _one_of(config, "method.momentum_view", MOMENTUM_VIEWS)
    _one_of(config, "method.pixel_weights", PIXEL_WEIGHTS)
    if config.method.pixel_weights != PIXEL_WEIGHTS[0] and not OBJECTIVES[config.objective].weighs:
        having = ", ".join(name for name, objective in OBJECTIVES.items() if objective.weighs)
        raise UserError(
            f"config.method.pixel_weights={config.method.pixel_weights}: expected {PIXEL_WEIGHTS[0]} for "
            f"config.objective={config.objective}; others are for {having}"
        )
    _prototypes(config)
    for key in ("method.temperature", "method.sparse_temperature", "mixture_temperature", "mixing.beta"):
        _at_least(config, key, 0, strictly=True)
    for key in (
        "method.sparse_classes",
        "method.pixel_budget",
        "method.loss_chunk",
        "model.projection.dim",
        "model.projection.channels",
    ):
        _at_least(config, key, 1)
    for key in ("epochs", "optim.warmup_epochs"):
        _at_most(config, key, MOST_EPOCHS)
    for key in ("model.projection.dim", "model.projection.channels"):
        _at_most(config, key, MOST_CHANNELS)
    for key in ("mixing.start", "method.sparse_classes", "method.pixel_budget", "method.loss_chunk"):
        _at_most(config, key, MOST_STEPS)
    for key in ("method.sparse_weight", "optim.warmup_epochs", "epochs", "mixing.start"):
        _at_least(config, key, 0)
    for key in (
        "method.prototype_momentum",
        "method.encoder_momentum",
        "method.pseudo_threshold",
        "mixing.region",
        "mixing.pixel",
    ):
        _share(config, key)
    _divisor(config, "method.label_stride", config.model.output_stride)
    _views(config)
    _divisible(config, devices, 2, "pairs of samples")
    if not config.sources:
        raise UserError("config.sources: empty; expected at least one dataset")
    _objective(config)
    _names(config)
    _mixture(config)
    _stages(config)
    _labelled_first(config)
    if not config.steps and not config.epochs:
        raise UserError("config.steps=0 and config.epochs=0: expected one of them to be positive")


def _optimizer(config: ConfigDict) -> None:
    """Checks what the optimisation of both loops has."""
    _one_of(config, "optim.name", OPTIMIZERS)
    betas, clip, decay = config.optim.betas, config.optim.clip_norm, config.optim.layer_decay
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"config.optim.betas={betas}: expected two numbers from 0 to below 1, as (0.9, 0.999)")
    if len(clip) > 1 or any(type(norm) not in (int, float) or not 0 < norm < math.inf for norm in clip):
        raise UserError(
            f"config.optim.clip_norm={schema.shown(clip)}: expected one number above 0, the largest norm of the "
            "gradient, as (1.0,); () for no clipping"
        )
    if not 0 < decay <= 1:
        raise UserError(f"config.optim.layer_decay={decay}: expected a number above 0 and at most 1, 1 for no decay")
    if decay != 1 and network.layers(config.model) is None:
        raise UserError(
            f"config.optim.layer_decay={decay}: expected 1.0 with config.model.backbone={config.model.backbone}, which "
            "declares no layers"
        )


def _loss(config: ConfigDict) -> None:
    """Checks the loss of fine-tuning, but for the number of class weights, which the dataset's classes say."""
    _one_of(config, "loss.name", segmentation_losses.LOSSES)
    weights = tuple(config.loss.class_weights)
    names = (segmentation_losses.INVERSE, segmentation_losses.EFFECTIVE)
    counted = len(weights) == 1 and weights[0] in names
    numbers = all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights)
    if weights and not counted and not (numbers and sum(weights) > 0):
        raise UserError(
            f"config.loss.class_weights={schema.shown(weights)}: expected a number of at least 0 for each class, one "
            f"of them more than 0; or {names[:1]} or {names[1:]}; or () for none"
        )
    for key in ("loss.effective_beta", "loss.label_smoothing"):
        _share(config, key)
        if _value(config, key) == 1:
            raise UserError(f"config.{key}=1.0: expected less than 1")
    for key in ("loss.ohem_threshold", "loss.focal_alpha"):
        _share(config, key)
    _at_least(config, "loss.ohem_kept", 1)
    _at_most(config, "loss.ohem_kept", MOST_STEPS // config.batch)  # times the batch it must be an int32
    for key in ("loss.focal_gamma", "loss.dice_weight"):
        _at_least(config, key, 0)
    if config.loss.name != segmentation_losses.LOSSES[0]:
        for key in ("loss.label_smoothing", "loss.ohem_threshold"):
            if _value(config, key):
                raise UserError(
                    f"config.{key}={_value(config, key)}: expected 0.0 with config.loss.name={config.loss.name!r}; it "
                    f"belongs to {segmentation_losses.LOSSES[0]!r}"
                )


def finetuning(config: ConfigDict, devices: int) -> None:
    """Checks the config of `mdp finetune`.

    Args:
      config: complete; a ConfigDict, whose keys errors name.
      devices: number of devices of the mesh.

    Raises:
      UserError: a value cannot work. The message names the first.
    """
    _require_loop(config, "dataset", "finetune", "pretrain")
    network.segmenter(config.model, num_classes=1)  # says what it cannot build
    network.require_layers(tuple(config.model.reads), "config.model.reads=")
    _common(config)
    _one_of(config, "trainable", TRAINABLE)
    _at_least(config, "model.auxiliary.weight", 0)
    _at_least(config, "model.auxiliary.channels", 1)
    _at_most(config, "model.auxiliary.channels", MOST_CHANNELS)
    if config.model.auxiliary.weight:
        network.require_third_stage(config.model)
        if config.trainable != TRAINABLE[0]:
            raise UserError(
                f"config.model.auxiliary.weight={config.model.auxiliary.weight}: expected 0.0 with config.trainable="
                f"{config.trainable!r}, where the backbone does not learn from it"
            )
    if not config.dataset:
        raise UserError("config.dataset: empty; expected a dataset")
    if config.dataset.labels != "masks":
        given = schema.shown(config.dataset.labels)
        raise UserError(f"config.dataset.labels={given}: expected 'masks' in fine-tuning")
    if not config.transfer or not set(config.transfer) <= set(TRANSFERABLE):
        given = schema.shown(config.transfer)
        raise UserError(f"config.transfer={given}: expected some of {', '.join(TRANSFERABLE)}")
    if "projection" in config.transfer and "projection" not in config.model.reads:
        raise UserError(
            f"config.transfer={config.transfer}: expected config.model.reads with 'projection': the classifier reads "
            f"{schema.shown(config.model.reads)}, and without it the network has no projection"
        )
    if TRANSFERABLE[-1] in config.transfer and not config.model.auxiliary.weight:
        raise UserError(
            f"config.transfer={config.transfer}: expected config.model.auxiliary.weight of more than 0, as 0.4, with "
            f"{TRANSFERABLE[-1]!r}: without it the network has no auxiliary head"
        )
    _one_of(config, "loss_mean", segmentation_losses.MEANS)
    _loss(config)
    _share(config, "data.category_ratio")
    _at_least(config, "data.category_ratio", 0, strictly=True)
    for key in ("optim.lr_min", "optim.power", "optim.warmup_steps", "evaluate_every", "pictures"):
        _at_least(config, key, 0)
    _at_least(config, "steps", 1)
    _one_of(config, "optim.schedule", SCHEDULES)
    if not 0 <= config.optim.ema_decay < 1:
        raise UserError(
            f"config.optim.ema_decay={config.optim.ema_decay}: expected a share from 0 to below 1, as 0.999; 0 for no "
            "moving average"
        )
    if config.optim.warmup_steps >= config.steps:
        raise UserError(
            f"config.optim.warmup_steps={config.optim.warmup_steps}: expected fewer than config.steps={config.steps}; "
            "set --config.optim.warmup_steps=0 for a short trial"
        )
    _divisible(config, devices, 1, "samples")
    if config.trainable == "all" and config.batch == config.accumulate:
        raise UserError(
            f"config.batch={config.batch}: expected more than config.accumulate={config.accumulate} (one photo at a "
            "time has no spread in the decoder's image pooling, so its batch normalisation would learn a variance of 0)"
        )
