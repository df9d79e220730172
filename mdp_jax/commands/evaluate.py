"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network, or of a pretrained one on its own sets (section 6)."""

import argparse
import pathlib
import sys
from typing import NamedTuple

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands import arguments
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views, workdirs
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.evaluation.pretrained import SourceSegmenter
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.tables import Table, console, for_terminal, scores_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp evaluate`."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=arguments.path,
        help="workdir of mdp finetune, or of mdp pretrain, whose network is then scored on each of its own sets by the "
        "prototypes or the head of that set; the scores are written there too",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="val",
        help="photos to score (default val; train: those that the run was given); those of val go to evaluation.json, "
        "others to evaluation_SPLIT.json; other views stand in the name, as in evaluation_slide_flip.json",
    )
    arguments.add_platform(parser)
    views.add_arguments(parser)
    parser.epilog = (
        "Config values of the data can be set by --config.key=value, e.g. --config.data_dir=DIR; the scores name them."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Scores a workdir's newest checkpoint, writes the scores as JSON and prints a table for each dataset.

    Raises:
        UserError: no such workdir, a config value that was fixed by the training, views that cannot be, bad data, or
            classes that are not those of the network.
    """
    runtime.start_devices(args.platform)
    run = workdirs.load(args.checkpoint, overrides)
    config = run.config
    classes = [names for _, names in run.label_space.datasets]
    if run.pretraining:
        of_name = {source.name: source for source in config.sources}
        datasets = [of_name[name] for name, _ in run.label_space.datasets]
        segmenters = [SourceSegmenter(config, run.label_space, d) for d in range(len(datasets))]
    else:
        datasets, segmenters = [config.dataset], [network.segmenter(config.model, len(run.classes))]
    shown = views.of_arguments(args, config)
    opened = [
        sources.open_source(d, config.data, config.data_dir, args.split, config.seed, scored=True) for d in datasets
    ]
    for source, names in zip(opened, classes, strict=True):
        require_classes(source, names, args.checkpoint)
    print(runtime.described(1), file=sys.stderr)
    scores, tables = {}, []
    for source, segmenter in zip(opened, segmenters, strict=True):
        found = _score(source, segmenter, config, run.variables, args.split, shown)
        scores[source.name] = found.scores
        tables.append(for_terminal(found.table, gaps_before=[len(source.classes)]))
    changed = {key: text for key, text in overrides if key not in configs.free_keys(config)}
    file = write_scores(pathlib.Path(args.checkpoint), scores, args.split, shown, changed)
    for table in tables:
        console().print(table)
    print(f"scores: {file}")


class _Scored(NamedTuple):
    """The scores of a dataset, and the table that shows them."""

    scores: dict
    table: Table


def _score(source, segmenter, config, variables: dict, split: str, shown: views.Views) -> _Scored:
    """The scores of one dataset."""
    evaluator = Evaluator(
        segmenter,
        source,
        Normalise.of(config.data, config.model.compute_dtype),
        views=shown,
        threads=config.data.threads,
    )
    with Progress(len(source), unit="photo") as progress:
        scores = evaluator(variables, _report_to(progress, len(source)))
    caption = f"{source.name} {split}, {scores['images']} photos of {evaluator.compiled_shapes} shape(s)"
    caption += f", {shown.described()}" if shown != views.WHOLE else ""
    return _Scored(scores, scores_table({"IoU (%)": scores}, caption))


def require_classes(source, classes: tuple[str, ...], where: str) -> None:
    """Checks that a source has the classes that a network was trained on.

    Raises:
        UserError: naming the first class that differs.
    """
    for index in range(max(len(source.classes), len(classes))):
        ours, theirs = (names[index] if index < len(names) else None for names in (source.classes, classes))
        if ours != theirs:
            raise UserError(f"dataset {source.name!r}: class {index} is {ours!r}; {where} was trained with {theirs!r}")


def _report_to(progress: Progress, photos: int):
    """A callback for Evaluator that updates a bar every time, but prints no more than ten lines to a file."""
    tenths = 0

    def report(done: int) -> None:
        nonlocal tenths
        if progress.live or done * 10 // photos > tenths:
            progress.update(done)
        tenths = done * 10 // photos

    return report
