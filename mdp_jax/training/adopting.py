"""A new set without a training step: a classifier in closed form on the features of a trained network (METHOD.md 8)."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mdp_jax import checks, configs, distributed, runtime
from mdp_jax import config as config_files
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import TransientError, UserError
from mdp_jax.evaluation import closed_form, loaded, workdirs
from mdp_jax.evaluation.budgets import BUDGETS
from mdp_jax.evaluation.closed_form import AUTO, Head
from mdp_jax.evaluation.discriminant import Linear
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.evaluation.scoring import score
from mdp_jax.models import network
from mdp_jax.models.registry import NO_DECODER
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.training import workdir
from mdp_jax.training.state import FinetuneState, initial_variables

_HELD = {"config.json": "a run", BUDGETS: BUDGETS}
SCRATCH = "scratch"  # in place of a checkpoint: the network of the config with its initial weights


class Adopted(NamedTuple):
    """What a set was adopted from.

    Attributes:
      classes: names.
      photos: int64 [C], labelled photos that hold each class.
      weight: float64 [C], features of each class.
      seconds: for the features and the classifier, without reading the weights.
      shrinkage: of the covariance; None where the head has none.
    """

    classes: tuple[str, ...]
    photos: np.ndarray
    weight: np.ndarray
    seconds: float
    shrinkage: float | None = None

    def unseen(self) -> list[str]:
        """Classes without a labelled pixel, which are never predicted."""
        return [name for name, weight in zip(self.classes, self.weight, strict=True) if weight == 0]


def layers_of(text: str) -> tuple[str, ...]:
    """The layers that a text names, joined by "+".

    Args:
      text: such as "backbone" or "backbone+decoder".

    Raises:
      UserError: a name that no network has, or one twice.
    """
    found = tuple(text.split("+"))
    network.require_layers(found, "--layer ")
    return found


class Opened(NamedTuple):
    """A new set and the network that adopts it.

    Attributes:
      checkpoint: where the network comes from.
      folder: the workdir.
      net: the network.
      untyped: the config as the user gave it.
      config: the same, with the normalisation of the network, where it is of a run.
      source: the labelled photos.
      label_space: of the set alone.
      hold: of the workdir.
      weights: which of the checkpoint's; "" = the usual ones.
    """

    checkpoint: str
    folder: pathlib.Path
    net: loaded.Network
    untyped: ConfigDict
    config: configs.FinetuneConfig
    source: sources.Source
    label_space: LabelSpace
    hold: workdir.Held
    weights: str = ""

    def validation(self) -> sources.Source:
        """The photos that heads are scored on."""
        assert self.config.dataset is not None
        return sources.open_source(
            self.config.dataset, self.config.data, self.config.data_dir, "val", self.config.seed, scored=True
        )


@contextlib.contextmanager
def opened(
    checkpoint: str | os.PathLike,
    config: ConfigDict,
    folder: str | os.PathLike,
    layers: Sequence[tuple[str, ...]],
    result: str = "config.json",
    step: str | int = "",
    weights: str = "",
) -> Iterator[Opened]:
    """Opens a network and the labelled photos, and keeps the workdir, in which nothing is written yet.

    Args:
      checkpoint: as for `adopt`.
      config: as for `adopt`.
      folder: the workdir.
      layers: that the network must have.
      result: the file which says that the folder is in use.
      step: as for `adopt`.
      weights: as for `adopt`.

    Raises:
      UserError: as for `adopt`.
    """
    runtime.prepare()
    folder = expanded(folder)
    with workdir.Held(folder) as hold:
        if (folder / result).exists():
            raise UserError(f"--workdir {folder}: holds {_HELD[result]}; expected a new folder")
        own = configs.typed_finetune(config)
        if own.dataset is None:
            raise UserError("config.dataset: empty; expected a dataset")
        checks.reading(config)
        if str(checkpoint) == SCRATCH and step != "":
            raise UserError(f"--step {step}: {SCRATCH} has no steps; expected the workdir of a run")
        if str(checkpoint) == SCRATCH and weights:
            raise UserError(f"--weights {weights}: {SCRATCH} has initial weights alone; expected the workdir of a run")
        net = _untrained(own) if str(checkpoint) == SCRATCH else _trained(checkpoint, own, step, weights)
        for some in layers:
            closed_form.require_layers(net, some)
        own = dataclasses.replace(own, data=dataclasses.replace(own.data, mean=net.data.mean, std=net.data.std))
        assert own.dataset is not None
        source = sources.open_source(own.dataset, own.data, own.data_dir, "train", own.seed, scored=True)
        sources.require_size(source, own.data.short_side)
        label_space = label_spaces.build([source])
        sources.check_source(source, own.data.check_files, distributed.say)  # before the pass over all photos
        yield Opened(os.fspath(checkpoint), folder, net, config, own, source, label_space, hold, weights)


def _trained(
    checkpoint: str | os.PathLike, config: configs.FinetuneConfig, step: str | int, weights: str
) -> loaded.Network:
    data = None
    if not expanded(checkpoint).is_dir():  # a file does not say how its photos were normalised; the config does
        data = dataclasses.replace(configs.FinetuneDataConfig(), mean=config.data.mean, std=config.data.std)
    return loaded.load(checkpoint, data=data, step=step, weights=weights)


def _untrained(config: configs.FinetuneConfig) -> loaded.Network:
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    module = network.segmenter(config.model, 1)
    variables = jax.jit(lambda: initial_variables(module, config.data.crop, config.seed))()._asdict()
    return loaded.Network(config.model, config.data, module, None, variables, ())


def adopt(
    checkpoint: str | os.PathLike,
    config: ConfigDict,
    folder: str | os.PathLike,
    layer: str = "backbone",
    head: str = "lda",
    shrinkage: float | str = AUTO,
    frequencies: bool = True,
    step: str | int = "",
    weights: str = "",
) -> Adopted:
    """Makes a segmenter of a new set, in a workdir like one of `mdp finetune`, and scores it.

    Args:
      checkpoint: workdir of `mdp pretrain` or `mdp finetune`, or a file of weights; "scratch" = the network of the
        config with its initial weights.
      config: as configs.finetune() makes it; its dataset, data_dir, seed, and how photos are resized are read.
      folder: new workdir; gets config.json, label_space.json, checkpoints/, evaluation.json.
      layer: features under the classifier: "backbone", "decoder" or "projection", or several, as "backbone+decoder".
      head: "lda" or "prototypes".
      shrinkage: a number, see discriminant.linear_discriminant; or "auto", see discriminant.chosen_shrinkage.
      frequencies: see discriminant.linear_discriminant.
      step: of a workdir, the checkpoint, as for mdp_jax.load.
      weights: of a workdir, which weights of the checkpoint, as for mdp_jax.load.

    Returns:
      What it was made from.

    Raises:
      UserError: nothing at `checkpoint`, a folder that is in use, bad data, or values that cannot be.
    """
    layers, wanted = layers_of(layer), Head(head, shrinkage, frequencies)
    with opened(checkpoint, config, folder, [layers], step=step, weights=weights) as at:
        return _adopt(at, layers, wanted)


def _adopt(at: Opened, layers: tuple[str, ...], head: Head) -> Adopted:
    source, label_space, folder = at.source, at.label_space, at.folder
    adopted = _config_of(at, layers)
    workdir.require_free_or_same(folder, adopted, label_space)
    scored = _scored_photos(at)
    began = time.perf_counter()
    statistics = closed_form.statistics_of(at.net, source, layers)
    made = head.make(statistics)
    seconds = time.perf_counter() - began
    state = _state_of(at.net, made.linear, layers)
    at.hold.keep()
    workdir.start(folder, adopted, label_space)
    workdirs.keep_palette(folder, source.palette)
    checkpoints = workdir.checkpoints(folder, configs.typed_finetune(adopted))
    meta = {
        "config": config_files.to_dict(adopted),
        "label_space": label_space.rows(),
        "photos": {source.name: sources.photos_of(source)},
        "next_batch": 0,
        "adopted": {
            "layer": "+".join(layers),
            "head": head.name,
            "shrinkage": made.shrinkage,
            "frequencies": head.frequencies,
        },
    }
    try:
        checkpoints.save(0, state, meta)
    finally:
        checkpoints.close()
    if scored:
        run = workdirs.load(folder)
        write_scores(folder, score(run), chosen=run.chosen, photos=scored)
    return Adopted(tuple(source.classes), statistics.photos, statistics.weight, seconds, made.shrinkage)


def _scored_photos(at: Opened) -> dict[str, dict]:
    """{dataset: its validation photos, as sources.photos_of gives them}, all of them good; {} where there are none."""
    try:
        photos = at.validation()
    except TransientError:
        raise
    except UserError as error:
        distributed.say(f"mdp: not scored, as there are no validation photos ({error})")
        return {}
    sources.check_source(photos, at.config.data.check_files, distributed.say)
    return {photos.name: sources.photos_of(photos)}


def adopt_budgets(
    checkpoint: str | os.PathLike,
    config: ConfigDict,
    folder: str | os.PathLike,
    layers: Sequence[str],
    photos: Sequence[int],
    draws: int,
    head: Head | None = None,
    step: str | int = "",
    weights: str = "",
) -> dict:
    """Scores segmenters of a new set that are made from few labelled photos and from many; keeps no network.

    Args:
      checkpoint: as for `adopt`.
      config: as for `adopt`; its seed draws the photos.
      folder: workdir, new or of such a call that did not come to its end; gets config.json, label_space.json,
        budgets.json.
      layers: as `layer` of `adopt`, one or several.
      photos: numbers of labelled photos; 0 = all.
      draws: of the photos, of each number.
      head: of each classifier; None = the default one.
      step: as for `adopt`.
      weights: as for `adopt`.

    Returns:
      What budgets.json holds: {"mIoU": the mean of all cells, "cells": {"LAYERS/PHOTOS": {"mIoU": the mean, "draws":
      [mIoU of each draw]}}, "seconds"}.

    Raises:
      UserError: as for `adopt`.
    """
    wanted, cells = [layers_of(layer) for layer in layers], {}
    with opened(checkpoint, config, folder, wanted, BUDGETS, step, weights) as at:
        settled = config.copy_and_resolve_references()
        with settled.unlocked():
            settled.init, settled.init_weights = at.checkpoint, at.weights
        workdir.require_free_or_same(at.folder, settled.lock(), at.label_space)
        val = at.validation()
        for number in photos:
            closed_form.draws_of(len(at.source), number, 1, 0)  # says what cannot be
        at.hold.keep()
        workdir.start(at.folder, settled, at.label_space)
        began = time.perf_counter()
        for some in wanted:
            found = closed_form.scores_of_budgets(
                at.net, at.source, val, some, photos, draws, at.config.seed, head or Head()
            )
            for number, scores in found.items():
                name = f"{'+'.join(some)}/{number or 'all'}"
                cells[name] = {"mIoU": float(np.mean(scores)), "draws": scores}
        mean = float(np.mean([cell["mIoU"] for cell in cells.values()]))
        result = {"mIoU": mean, "cells": cells, "seconds": time.perf_counter() - began}
        write_json(at.folder / BUDGETS, result)
        return result


def _config_of(at: Opened, layers: tuple[str, ...]) -> ConfigDict:
    """The fine-tuning config whose network is the adopted one."""
    made, net = at.untyped.copy_and_resolve_references(), at.net
    # On the backbone alone there is no decoder, whose weights would be read for nothing.
    decoder = configs.DecoderConfig(name=NO_DECODER) if layers == ("backbone",) else net.model.decoder
    model = {field.name: getattr(net.model, field.name) for field in dataclasses.fields(configs.ModelConfig)}
    model |= {"decoder": dataclasses.replace(decoder, dropout=0.0)}
    if layers != ("backbone",):
        model["reads"] = layers
    if isinstance(net.model, configs.PretrainModelConfig | configs.FinetuneModelConfig) and "projection" in layers:
        model["projection"] = net.model.projection
    with made.unlocked():
        made.init, made.init_weights = at.checkpoint, at.weights
        made.model.update(configs.as_config_dict(configs.FinetuneModelConfig(**model)))
        made.data.mean, made.data.std = tuple(net.data.mean), tuple(net.data.std)
    return made.lock()


def _state_of(net: loaded.Network, linear: Linear, layers: tuple[str, ...]) -> FinetuneState:
    """The state of a fine-tuning that has not begun, with the layers that the classifier needs."""
    last = max(network.LAYERS.index(layer) for layer in layers)
    parts = network.LAYERS[: last + 1]
    dtype = jax.tree.leaves(net.variables["params"])[0].dtype
    params = {part: net.variables["params"][part] for part in parts if part in net.variables["params"]}
    conv = {"kernel": jnp.asarray(linear.kernel[None, None], dtype), "bias": jnp.asarray(linear.bias, dtype)}
    params["classifier"] = {"conv": conv}
    stats = net.variables["batch_stats"]
    batch_stats = {part: stats[part] for part in parts if part in stats}
    return FinetuneState(jnp.zeros((), jnp.int32), params, batch_stats, optax.EmptyState())
