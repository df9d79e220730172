"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network, or of a pretrained one on its own sets (section 6)."""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping

from mdp_jax import config as configs
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.evaluation.pretrained import SourceSegmenter
from mdp_jax.models import network
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.tables import console, for_terminal, scores_table
from mdp_jax.storage.json_files import write_json
from mdp_jax.training import workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp evaluate`."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="workdir of mdp finetune, or of mdp pretrain, whose network is then scored on each of its own sets by the "
        "prototypes or the head of that set; the scores are written there too",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="val",
        help="photos to score (default val; train: those that the run was given); those of val go to evaluation.json, "
        "others to evaluation_SPLIT.json",
    )
    views.add_arguments(parser)
    parser.epilog = (
        "Config values of the data can be set by --config.key=value, e.g. --config.data_dir=DIR; the scores name them."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Scores a workdir's newest checkpoint, prints a table for each dataset and writes them as JSON.

    Raises:
        UserError: no such workdir, a config value that was fixed by the training, views that cannot be, bad data, or
            classes that are not those of the network.
    """
    if workdir.is_pretraining(args.checkpoint):
        config, label_space, variables = workdir.load_pretrained(args.checkpoint, overrides)
        of_name = {source.name: source for source in config.sources}
        datasets = [of_name[name] for name, _ in label_space.datasets]
        segmenters = [SourceSegmenter(config, label_space, d) for d in range(len(datasets))]
        classes = [names for _, names in label_space.datasets]
    else:
        config, names, variables = workdir.load_finetuned(args.checkpoint, overrides)
        datasets, segmenters, classes = [config.dataset], [network.segmenter(config.model, len(names))], [names]
    shown = views.of_arguments(args, config)
    opened = [
        sources.open_source(d, config.data, config.data_dir, args.split, config.seed, scored=True) for d in datasets
    ]
    for source, names in zip(opened, classes, strict=True):
        require_classes(source, names, args.checkpoint)
    scores = {}
    for source, segmenter in zip(opened, segmenters, strict=True):
        scores[source.name] = _score(source, segmenter, config, variables, args.split, shown)
    changed = {key: text for key, text in overrides if key not in configs.free_keys(config)}
    write_scores(pathlib.Path(args.checkpoint), scores, args.split, shown, changed)


def _score(source, segmenter, config, variables: dict, split: str, shown: views.Views) -> dict:
    """The scores of one dataset, printed as a table."""
    evaluator = Evaluator(segmenter, source, config, views=shown)
    with Progress(len(source), unit="photo") as progress:
        scores = evaluator(variables, _report_to(progress, len(source)))
    caption = f"{source.name} {split}, {scores['images']} photos of {evaluator.compiled_shapes} shape(s)"
    caption += f", {shown.described()}" if shown != views.WHOLE else ""
    console().print(for_terminal(scores_table({"IoU (%)": scores}, caption), gaps_before=[len(source.classes)]))
    return scores


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
    folder: pathlib.Path,
    scores: dict[str, dict],
    split: str = "val",
    shown: views.Views = views.WHOLE,
    changed: Mapping[str, str] | None = None,
) -> None:
    """Writes the scores (Evaluator's) of each dataset to evaluation.json, or evaluation_SPLIT.json for another split.

    The file is {"datasets": {NAME: {"mIoU", "mAcc", "aAcc", "per_class": {CLASS: IoU}, "images"}}}: percentages, null
    where there was nothing to measure. Where photos were not shown as they are, at once, "views" beside "datasets" says
    how: {"crop": [H, W] or null, "stride": [H, W] or null, "scales": [...], "flip": bool}; and "config", which of the
    run's values were `changed` for it, {dotted key: text}.
    """
    name = "evaluation.json" if split == "val" else f"evaluation_{split}.json"
    how = {} if shown == views.WHOLE else {"views": dataclasses.asdict(shown)}
    how |= {"config": dict(changed)} if changed else {}
    write_json(folder / name, {"datasets": scores} | how)


def _report_to(progress: Progress, photos: int):
    """A callback for Evaluator that updates a bar every time, but prints no more than ten lines to a file."""
    tenths = 0

    def report(done: int) -> None:
        nonlocal tenths
        if progress.live or done * 10 // photos > tenths:
            progress.update(done)
        tenths = done * 10 // photos

    return report
