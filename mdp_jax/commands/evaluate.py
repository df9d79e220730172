"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network, or of a pretrained one on its own sets (section 6)."""

import argparse
import contextlib
import sys
from collections.abc import Callable

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands import arguments
from mdp_jax.data.kinds.kind import Source
from mdp_jax.evaluation import scoring, views, workdirs
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.tables import console, for_terminal, scores_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp evaluate` to a parser."""
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

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.

    Raises:
      UserError: there is no such workdir, training fixed a config value, views are impossible, data are bad, or the
        classes are not those of the network.
    """
    runtime.start_devices(args.platform)
    run = workdirs.load(args.checkpoint, overrides)
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
        scores = scoring.score(run, args.split, shown, told)
    changed = {key: text for key, text in overrides if key not in configs.free_keys(run.config)}
    file = write_scores(run.folder, scores, args.split, shown, changed)
    for name, (source, evaluator) in scored.items():
        caption = f"{name} {args.split}, {scores[name]['images']} photos of {evaluator.compiled_shapes} shape(s)"
        caption += f", {shown.described()}" if shown != views.WHOLE else ""
        table = scores_table({"IoU, or mean (%)": scores[name]}, caption)
        console().print(for_terminal(table, gaps_before=[len(source.classes)]))
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
