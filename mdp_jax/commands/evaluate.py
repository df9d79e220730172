"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network, or of a pretrained one on its own sets (section 6)."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands import arguments
from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.sources import photos_of
from mdp_jax.evaluation import findings, scoring, views, workdirs
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.evaluation.scores import confusions_beside, photos_of_run, write_scores
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.report import Section, html
from mdp_jax.reporting.tables import all_scores_table, console, for_terminal
from mdp_jax.storage.json_files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp evaluate` to a parser."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=arguments.named,
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
    arguments.add_step(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--page",
        action="store_true",
        help="also write a page of the confusion matrix and of the worst and best photos, beside the scores (.html)",
    )
    arguments.add_platform(parser)
    views.add_arguments(parser)
    parser.epilog = (
        "Config values of the data can be set by --config.key=value, e.g. --config.data_dir=DIR; the scores name them."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Scores a checkpoint of a workdir, writes scores and confusions, and prints a table for each dataset.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.

    Raises:
      UserError: there is no such workdir, training fixed a config value, views are impossible, data are bad, or the
        classes are not those of the network.
    """
    runtime.start_devices(args.platform)
    run = workdirs.load(args.checkpoint, overrides, step=args.step or "", weights=args.weights)
    shown = views.of_arguments(args, run.config.data)
    scored: dict[str, tuple[Source, Evaluator]] = {}
    bars = contextlib.ExitStack()

    def told(source: Source, evaluator: Evaluator) -> Callable[[int], None]:
        if not scored:
            print(runtime.described(len(scoring.devices_of(run))), file=sys.stderr)
        scored[source.name] = (source, evaluator)
        bars.close()  # of the dataset before
        return _report_to(bars.enter_context(Progress(len(source), unit="photo")), len(source))

    with bars:
        measured = scoring.measure(run, args.split, shown, told)
    changed = {key: text for key, text in overrides if key not in configs.free_keys(run.config)}
    scores = {name: found.scores for name, found in measured.items()}
    before = photos_of_run(run.folder) if args.split == "val" else {}
    photos = {name: photos_of(scored[name][0]) for name in before if name in scored}
    others = photos != before
    file = write_scores(run.folder, scores, args.split, shown, changed, chosen=run.chosen, photos=photos, others=others)
    if others:
        print("mdp: these are not the photos that evaluation.json and report.html are of", file=sys.stderr)
    sections: list[Section] = []
    for name, (source, evaluator) in scored.items():
        found = measured[name]
        csv = confusions_beside(file, name if len(scored) > 1 else "")
        findings.confusions_csv(csv, found.counts, source.classes)
        caption = f"{name} {args.split}, {found.scores['images']} photos of {evaluator.compiled_shapes} shape(s)"
        caption += f", {shown.described()}" if shown != views.WHOLE else ""
        caption += f", {'best checkpoint, ' if run.chosen.best else ''}step {run.step}{run.chosen.in_words()}"
        table = all_scores_table(found.scores, caption)
        console().print(for_terminal(table, gaps_before=[len(source.classes)]))
        for line in findings.in_words(found.counts, source.classes):
            print(line)
        if args.page:
            predict = functools.partial(evaluator.predict, run.variables)
            sections += [Section(name, tables=[table]), *findings.sections(found, source, predict)]
        print(f"confusions: {csv}")
    if args.page:
        page = file.with_suffix(".html")
        write_text(page, html(f"Scores of {run.folder}", sections))
        print(f"page: {page}")
    print(f"scores: {file}")


def _report_to(progress: Progress, photos: int) -> Callable[[int], None]:
    """A callback for Evaluator that updates a bar every time, but prints at most ten lines to a file."""
    tenths = 0

    def report(done: int) -> None:
        nonlocal tenths
        if progress.live or done * 10 // photos > tenths:
            progress.update(done)
        tenths = done * 10 // photos

    return report
