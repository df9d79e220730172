"""Scores of a workdir's network: of a fine-tuned one on its dataset, of a pretrained one on each of its own sets."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from mdp_jax import runtime
from mdp_jax.configs import PretrainConfig, typed, typed_pretrain
from mdp_jax.data import sources
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError
from mdp_jax.evaluation import findings, workdirs
from mdp_jax.evaluation.findings import Measured
from mdp_jax.evaluation.inference import Evaluator, mesh_of
from mdp_jax.evaluation.named import ByName, NamedSegmenter
from mdp_jax.evaluation.pretrained import SourceSegmenter
from mdp_jax.evaluation.views import WHOLE, Views
from mdp_jax.evaluation.workdirs import Workdir
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise

Report = Callable[[Source, Evaluator], Callable[[int], None]]


def require_classes(source: Source, classes: Sequence[str], where: str) -> None:
    """Checks that a source has the classes that a network was trained on.

    Args:
      source: the dataset.
      classes: of the network, by id.
      where: the workdir, for the error.

    Raises:
      UserError: naming the first class that differs.
    """
    for index in range(max(len(source.classes), len(classes))):
        ours, theirs = (names[index] if index < len(names) else None for names in (source.classes, classes))
        if ours != theirs:
            raise UserError(f"dataset {source.name!r}: class {index} is {ours!r}; {where} was trained with {theirs!r}")


def devices_of(run: Workdir) -> list[jax.Device]:
    """The devices of this process that a workdir is scored on: as many as its run asked for, where they are here.

    Args:
      run: of either loop.
    """
    here = jax.local_devices()
    return here[: run.config.devices or len(here)]


def score(run: Workdir, split: str = "val", shown: Views = WHOLE, report: Report | None = None) -> dict[str, dict]:
    """Scores the network of a workdir, on the devices of `devices_of`.

    Args:
      run: of either loop.
      split: train, val or test.
      shown: how photos are shown.
      report: given each source and its evaluator before it is scored, returns what is called with the photos done.

    Returns:
      {dataset: scores as Evaluator gives them}.

    Raises:
      UserError: bad data, or classes that are not those of the network.
    """
    return {name: found.scores for name, found in measure(run, split, shown, report).items()}


def measure(
    run: Workdir, split: str = "val", shown: Views = WHOLE, report: Report | None = None
) -> dict[str, Measured]:
    """As `score`, with the confusion matrix and the scores of each photo.

    Args:
      run: of either loop.
      split: train, val or test.
      shown: how photos are shown.
      report: as for `score`.

    Returns:
      {dataset: what was found}.

    Raises:
      UserError: for the same reasons as `score`.
    """
    config = typed(run.config)
    scorers: list[Any]
    if isinstance(config, PretrainConfig):
        of_name = {source.name: source for source in config.sources}
        datasets = [of_name[name] for name, _ in run.label_space.datasets]
        scorers = [SourceSegmenter(config, run.label_space, d) for d in range(len(datasets))]
    else:
        datasets = [config.dataset] if config.dataset else []
        scorers = [network.segmenter(config.model, len(run.classes))]
    opened = [sources.open_source(d, config.data, config.data_dir, split, config.seed, scored=True) for d in datasets]
    for source, (_, classes) in zip(opened, run.label_space.datasets, strict=True):
        require_classes(source, classes, str(run.folder))
    return _measured(run, opened, scorers, shown, report)


def measure_by_name(
    run: Workdir, source: Source, found: ByName, shown: Views = WHOLE, report: Report | None = None
) -> dict[str, Measured]:
    """As `measure`, of a pretrained network on a set of which only the names of its classes are given.

    Args:
      run: of `mdp pretrain`.
      source: the photos and masks.
      found: what answers for each of its classes.
      shown: how photos are shown.
      report: as for `score`.

    Returns:
      {dataset: what was found}.

    Raises:
      UserError: bad data, or an objective without classes.
    """
    segmenter = NamedSegmenter(typed_pretrain(run.config), run.label_space, found)
    return _measured(run, [source], [segmenter], shown, report)


def _measured(
    run: Workdir, opened: Sequence[Source], scorers: Sequence[Any], shown: Views, report: Report | None
) -> dict[str, Measured]:
    """Scores each of some sets by its scorer."""
    config = typed(run.config)
    normalise, found = Normalise.of(config.data, config.model.compute_dtype), {}
    mesh = mesh_of(devices_of(run))
    variables = jax.device_put(run.variables, NamedSharding(mesh, PartitionSpec()))
    for source, scorer in zip(opened, scorers, strict=True):
        evaluator = Evaluator(scorer, source, normalise, views=shown, threads=config.data.threads, mesh=mesh)
        told = report(source, evaluator) if report else lambda photos: None
        found[source.name] = findings.measure(evaluator, variables, len(source), told)
    return found


def evaluate(
    workdir: str | os.PathLike,
    split: str = "val",
    views: Views = WHOLE,
    step: str | int = "",
    weights: str = "",
    **values: object,
) -> dict[str, dict]:
    """Scores a checkpoint of a workdir; writes nothing.

    Args:
      workdir: of `mdp finetune` or `mdp adopt`; or of `mdp pretrain`, which is scored on each of its own sets.
      split: train, val or test.
      views: how photos are shown.
      step: "best", "last" or a step; "" = the best checkpoint where there is one, else the newest.
      weights: "plain", "ema" or "momentum", as for mdp_jax.load.
      **values: of the config's data, with "__" for the dot, as data_dir="/photos" or data__short_side=480.

    Returns:
      {dataset: {"mIoU", "mAcc", "aAcc", "mPrecision", "mDice" in percent, "per_class": {class: IoU in percent or None},
      "per_class_accuracy", "per_class_precision", "per_class_dice", "images"}}.

    Raises:
      UserError: no such workdir, checkpoint or weights, a value that was fixed by the training, bad data, or other
        classes.
    """
    runtime.prepare()
    overrides = [(key.replace("__", "."), str(value)) for key, value in values.items()]
    return score(workdirs.load(workdir, overrides, step=step, weights=weights), split, views)
