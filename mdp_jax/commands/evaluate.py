"""`mdp evaluate`: mIoU, mAcc and aAcc of a fine-tuned network, or of a pretrained one on its own sets (section 6)."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Sequence

import numpy as np

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands import arguments, earlier
from mdp_jax.configs import typed_finetune, typed_pretrain
from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.sources import is_same, open_source, photos_of
from mdp_jax.errors import UserError
from mdp_jax.evaluation import findings, scoring, views, workdirs
from mdp_jax.evaluation.inference import Evaluator
from mdp_jax.evaluation.named import ByName, by_name, require_distinct, seen_classes
from mdp_jax.evaluation.scores import confusions_beside, photos_of_run, write_scores
from mdp_jax.reporting import contact_sheet
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.report import Section, html
from mdp_jax.reporting.tables import all_scores_table, console, for_terminal
from mdp_jax.storage.json_files import write_text
from mdp_jax.storage.paths import require_possible
from mdp_jax.words import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp evaluate` to a parser."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=arguments.named,
        help="workdir of mdp finetune or mdp adopt; or of mdp pretrain, whose network is then scored on each of its "
        "own sets by the prototypes or the head of that set. The scores are written there",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="val",
        help="photos to score (default val; train: those that the run was given). Scores of val go to evaluation.json, "
        "others to evaluation_SPLIT.json. Other views, changed values of the config, and a --step or --weights that is "
        "not the default stand in the name, as in evaluation_slide512x512_flip.json",
    )
    arguments.add_step(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--on",
        type=arguments.place,
        metavar="CONFIG",
        help="of a pretrained workdir: a config of mdp finetune. The network is scored on its dataset, of which it "
        "knows only the names of the classes; to evaluation_named_SET.json",
    )
    arguments.add_names(parser)
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
      UserError: there is no such workdir, or one that nothing can be written to; training fixed a config value, views
        are impossible, data are bad, or the classes are not those of the network.
    """
    runtime.start_devices(args.platform)
    if args.on is None and (args.names or args.near):
        option = f"--names {args.names}" if args.names else f"--near {args.near:g}"
        raise UserError(f"{option}: expected --on CONFIG too, a config of mdp finetune")
    of_set = [pair for pair in overrides if args.on and pair[0].split(".")[0] in ("data_dir", "dataset")]
    of_run = [pair for pair in overrides if pair not in of_set]
    kind = True if args.on else None
    run = workdirs.load(args.checkpoint, of_run, pretraining=kind, step=args.step or "", weights=args.weights)
    shown = views.of_arguments(args, run.config.data)
    require_possible(run.folder, "--checkpoint")  # where the scores are written, maybe after hours
    scored: dict[str, tuple[Source, Evaluator]] = {}
    bars = contextlib.ExitStack()

    def told(source: Source, evaluator: Evaluator) -> Callable[[int], None]:
        if not scored:
            print(runtime.described(len(scoring.devices_of(run))), file=sys.stderr)
        scored[source.name] = (source, evaluator)
        bars.close()  # of the dataset before
        return _report_to(bars.enter_context(Progress(len(source), unit="photo")), len(source))

    named: dict[str, dict] = {}
    with bars:
        if args.on:
            source, found_by_name = _known_by_name(args, run, of_set)
            for line in found_by_name.said():
                print(f"mdp: {line}", file=sys.stderr)
            measured = scoring.measure_by_name(run, source, found_by_name, shown, told)
            named[source.name] = {"file": args.names or "", "matches": found_by_name.matches}
        else:
            measured = scoring.measure(run, args.split, shown, told)
    changed = {key: text for key, text in overrides if key not in configs.free_keys(run.config)}
    scores = {name: found.scores for name, found in measured.items()}
    before = photos_of_run(run.folder) if args.split == "val" and not named else {}
    photos = {name: photos_of(scored[name][0]) for name in before if name in scored}
    others = photos.keys() != before.keys() or not all(is_same(before[name], photos[name]) for name in photos)
    file = write_scores(
        run.folder, scores, args.split, shown, changed, chosen=run.chosen, photos=photos, others=others, named=named
    )
    if others:
        print("mdp: these are not the photos that evaluation.json and report.html are of", file=sys.stderr)
    sections: list[Section] = []
    colours = _colours([source for source, _ in scored.values()]) if args.page else {}
    for name, (source, evaluator) in scored.items():
        found = measured[name]
        csv = confusions_beside(file, name if len(scored) > 1 else "")
        findings.confusions_csv(csv, found.counts, source.classes)
        seen = counted(found.scores["images"], "photo")
        caption = f"{name} {args.split}, {seen} of {counted(evaluator.compiled_shapes, 'shape')}"
        caption += f", {shown.described()}" if shown != views.WHOLE else ""
        at = f"step {run.step}" if run.step else "without a training step"  # as `mdp adopt` makes it
        caption += f", {'best checkpoint, ' if run.chosen.best else ''}{at}{run.chosen.in_words()}"
        table = all_scores_table(found.scores, caption)
        console().print(for_terminal(table, gaps_before=[len(source.classes)]))
        for line in findings.in_words(found.counts, source.classes):
            print(line)
        if args.page:
            predict = functools.partial(evaluator.predict, run.variables)
            sections += [Section(name, tables=[table]), *findings.sections(found, source, predict, colours[name])]
        print(f"confusions: {csv}")
    if args.page:
        page = file.with_suffix(".html")
        write_text(page, html(f"Scores of {run.folder}", sections))
        print(f"page: {page}")
    else:
        earlier.say([file.with_suffix(".html")])
    print(f"scores: {file}")


def _colours(opened: Sequence[Source]) -> dict[str, np.ndarray]:
    """The colours of the classes of each set: equal names have one on the whole page, as in the report of the run."""
    ends = np.cumsum([len(source.classes) for source in opened])
    colours = np.split(contact_sheet.class_colours(opened), ends[:-1])
    return {source.name: own for source, own in zip(opened, colours, strict=True)}


def _known_by_name(
    args: argparse.Namespace, run: workdirs.Workdir, overrides: list[tuple[str, str]]
) -> tuple[Source, ByName]:
    """The set of --on, with the photos read as the pretraining read its own, and what answers for its classes."""
    config = configs.apply_overrides(configs.load(args.on), overrides)
    if "dataset" not in config or not config.dataset:
        raise UserError(f"--on {args.on}: no dataset in it; expected a config of mdp finetune")
    typed, own = typed_finetune(config, f"--on {args.on}: "), typed_pretrain(run.config)
    assert typed.dataset is not None
    data_dir = typed.data_dir or own.data_dir
    source = open_source(typed.dataset, own.data, data_dir, args.split, typed.seed, scored=True)
    where = f"--on {args.on}"
    require_distinct(source.classes, where)
    seen = seen_classes(own, run.variables)
    return source, by_name(source.classes, run.label_space, where, args.names or "", args.near, seen)


def _report_to(progress: Progress, photos: int) -> Callable[[int], None]:
    """A callback for Evaluator that updates a bar every time, but prints at most ten lines to a file."""
    tenths = 0

    def report(done: int) -> None:
        nonlocal tenths
        if progress.live or done * 10 // photos > tenths:
            progress.update(done)
        tenths = done * 10 // photos

    return report
