"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network (METHOD.md section 6)."""

import argparse
import dataclasses
import pathlib

from rich.console import Console

from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.models import network
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.tables import for_terminal, scores_table
from mdp_jax.training import workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp evaluate`."""
    parser.add_argument("--checkpoint", required=True, help="workdir of mdp finetune; the scores are written there too")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="val",
        help="photos to score (default val); those of val go to evaluation.json, others to evaluation_SPLIT.json",
    )
    views.add_arguments(parser)
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.data_dir=DIR."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Scores a workdir's newest checkpoint, prints one table and writes it as JSON.

    Raises:
        UserError: no such workdir, views that cannot be, bad data, or classes that are not those of the network.
    """
    config, classes, variables = workdir.load_finetuned(args.checkpoint, overrides)
    shown = views.of_arguments(args, config)
    source = sources.open_source(config.dataset, config.data, config.data_dir, args.split, config.seed)
    require_classes(source, classes, args.checkpoint)
    evaluator = Evaluator(network.segmenter(config.model, len(classes)), source, config, views=shown)
    with Progress(len(source), unit="photo") as progress:
        scores = evaluator(variables, _report_to(progress, len(source)))
    write_scores(pathlib.Path(args.checkpoint), source.name, scores, args.split, shown)
    caption = f"{source.name} {args.split}, {scores['images']} photos of {evaluator.compiled_shapes} shapes"
    caption += f", {shown.described()}" if shown != views.WHOLE else ""
    Console().print(for_terminal(scores_table({"IoU (%)": scores}, caption), gaps_before=[len(classes)]))


def require_classes(source, classes: tuple[str, ...], where: str) -> None:
    """Checks that a source has the classes that a network was trained on.

    Raises:
        UserError: naming the first class that differs.
    """
    for index in range(max(len(source.classes), len(classes))):
        ours, theirs = (names[index] if index < len(names) else None for names in (source.classes, classes))
        if ours != theirs:
            raise UserError(f"dataset {source.name!r}: class {index} is {ours!r}; {where} was trained with {theirs!r}")


def write_scores(
    folder: pathlib.Path, dataset: str, scores: dict, split: str = "val", shown: views.Views = views.WHOLE
) -> None:
    """Writes the scores of one dataset (Evaluator's) to evaluation.json, or evaluation_SPLIT.json for another split.

    The file is {"datasets": {NAME: {"mIoU", "mAcc", "aAcc", "per_class": {CLASS: IoU}, "images"}}}: percentages, null
    where there was nothing to measure. Where photos were not shown as they are, at once, "views" beside "datasets" says
    how: {"crop": [H, W] or null, "stride": [H, W] or null, "scales": [...], "flip": bool}.
    """
    name = "evaluation.json" if split == "val" else f"evaluation_{split}.json"
    how = {} if shown == views.WHOLE else {"views": dataclasses.asdict(shown)}
    workdir.write_json(folder / name, {"datasets": {dataset: scores}} | how)


def _report_to(progress: Progress, photos: int):
    """A callback for Evaluator that updates a bar every time, but prints no more than ten lines to a file."""
    tenths = 0

    def report(done: int) -> None:
        nonlocal tenths
        if progress.live or done * 10 // photos > tenths:
            progress.update(done)
        tenths = done * 10 // photos

    return report
