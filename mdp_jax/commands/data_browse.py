"""`mdp data browse`: a contact sheet of what the network will really see, or of a dataset class by class."""

import argparse
import contextlib
import itertools
import math
import pathlib

from ml_collections import ConfigDict

from mdp_jax import checks
from mdp_jax.commands import data_selection as selection
from mdp_jax.commands.arguments import named, whole_number
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import mixture, pipeline, stages
from mdp_jax.data.doctor import examples
from mdp_jax.errors import UserError
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import contact_sheet, runs
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.report import Figure, Section, html
from mdp_jax.storage.json_files import write_bytes, write_text
from mdp_jax.storage.paths import as_path, make_folder, require_possible

_COUNT = {"config": 16, "name": 4}  # samples of a config; photos of each class of a dataset
_MOST = 1000  # that are looked at as pictures
_PAIRS = 2  # in one picture
_CLASSES = 8  # in one picture
_LOOKED_AT = 1000  # photos that are searched for classes, evenly spaced over the dataset
_STRIPES = "Stripes are ignored pixels."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp data browse` to a parser."""
    selection.add_arguments(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), help="of NAME (default train)")
    parser.add_argument(
        "--out",
        type=named,
        default="contact_sheet",
        metavar="DIR",
        help="folder to write to (default %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=whole_number,
        metavar="N",
        help=f"samples of a config (default {_COUNT['config']}), or photos of each class of NAME ({_COUNT['name']})",
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes DIR/X.png and DIR/X.html; X is the last part of NAME, or the config's file name.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: an argument or the config is wrong, or data are bad.
    """
    count = _COUNT["name" if args.config is None else "config"] if args.count is None else args.count
    if args.config is not None and args.split is not None:
        raise UserError(f"--split {args.split}: belongs to NAME; a config is shown as training sees it")
    if count > _MOST:
        raise UserError(f"--count {count}: expected at most {_MOST}")
    out = as_path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file; expected a folder")
    require_possible(out, "--out")
    config = selection.config_of(args, overrides)
    if args.config is None:
        stem, section = _last_part(args.name, args.data_dir), _classes_section(config, args.split or "train", count)
    else:
        section = _dataset_batches(config, count) if "dataset" in config else _mixture_batches(config, count)
        stem = pathlib.Path(args.config).stem
    png = contact_sheet.stacked([figure.png for figure in section.figures])
    make_folder(out, "--out")
    write_bytes(out / f"{stem}.png", png)
    write_text(out / f"{stem}.html", html(f"Contact sheet of {stem}", [section]))
    print(f"contact sheet: {out / stem}.png, {out / stem}.html")


def _last_part(name: str, data_dir: str | None) -> str:
    """The last part of a name, of which . and .. have none."""
    found = pathlib.PurePath(name).name
    return found if found not in ("", "..") else pathlib.Path(data_dir or "", name).resolve().name


def _mixture_batches(config: ConfigDict, count: int) -> Section:
    """Pairs from the first batches of a pretraining."""
    checks.pretraining(config, devices=1)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets, config.label_space)
    steps = stages.total_steps(config, sum(map(len, datasets)))
    shares = mixture.shares(pipeline.pretrain_schedule(config, datasets), steps * config.batch // 2)
    key_view = OBJECTIVES[config.objective].two_views
    batches = pipeline.pretrain_batches(config, datasets, label_space, start_batch=0, key_view=key_view)
    with contextlib.closing(batches):
        chosen = examples.pairs_of_each_kind(batches, -(-count // 2), shares)
    colours = contact_sheet.class_colours(datasets)[label_space.first_rows()]
    figures = []
    for start in range(0, len(chosen["mix_kind"]), _PAIRS):
        part = range(start, min(start + _PAIRS, len(chosen["mix_kind"])))
        png = contact_sheet.pairs(contact_sheet.choose_pairs(chosen, part), label_space, colours)
        text = f"{_numbers('Pair', part[0] + 1, part[-1] + 1)}. {_STRIPES} {contact_sheet.KEEPS}"
        figures.append(Figure(png, text))
    text = (
        f"The first pairs of each kind, as {config.objective} sees them before their channels are normalised: plain, "
        "region-mixed and pixel-mixed, in about their shares and in the order of the run. The members of a pair stand "
        "side by side. The query view of each is mixed with its partner's, the key view is not."
    )
    return Section("Pretraining", text, [runs.datasets_table(datasets, shares)], figures)


def _dataset_batches(config: ConfigDict, count: int) -> Section:
    """Samples of the first batches of a fine-tuning."""
    checks.finetuning(config, devices=1)
    source = sources.open_source(config.dataset, config.data, config.data_dir, "train", config.seed)
    with contextlib.closing(pipeline.finetune_batches(config, source, start_batch=0)) as batches:
        found = examples.joined(list(itertools.islice(batches, math.ceil(count / config.batch))))
    colours = contact_sheet.class_colours([source])
    figures = []
    for start in range(0, count, 2 * _PAIRS):
        part = {key: array[start : min(start + 2 * _PAIRS, count)] for key, array in found.items()}
        png = contact_sheet.samples(part, source.classes, colours, start + 1)
        figures.append(Figure(png, f"{_numbers('Sample', start + 1, start + len(part['image']))}. {_STRIPES}"))
    text = "Samples of the first batches in their order, as the network sees them before their channels are normalised."
    return Section(f"Fine-tuning on {source.name}", text, [], figures)


def _classes_section(config: ConfigDict, split: str, count: int) -> Section:
    """Photos and masks of a dataset, for each class those in which it fills most of the photo."""
    source = sources.open_source(config.dataset, config.data, config.data_dir, split, config.seed)
    looked_at = examples.spread(source, _LOOKED_AT)
    with Progress(len(looked_at), unit="photo") as progress:

        def report(done: int) -> None:
            if progress.live or done == len(looked_at):
                progress.update(done)

        best = examples.photos_of_each_class(source, looked_at, count, report)
    colours = contact_sheet.class_colours([source])
    seen = [name for name in source.classes if best[name]]
    if not seen:
        raise UserError(f"dataset {source.name!r} {split}: no pixel of any class in {len(looked_at)} masks")
    figures = []
    for start in range(0, len(seen), _CLASSES):
        shown = {
            name: [(source[index]["image"], source[index]["label"]) for index in best[name]]
            for name in seen[start : start + _CLASSES]
        }
        names = "; ".join(f"{name}: {', '.join(map(source.describe, best[name]))}" for name in shown)
        figures.append(Figure(contact_sheet.examples(shown, source.classes, colours), f"{_STRIPES} {names}."))
    text = f"For each class the photos, out of {len(looked_at)} of {len(source)}, that it fills most of."
    missing = [name for name in source.classes if not best[name]]
    if missing:
        text += f"\n\nIn none of them: {', '.join(missing)}."
    return Section(f"{source.name} {split}", text, [], figures)


def _numbers(what: str, first: int, last: int) -> str:
    """Such as "Pair 1" or "Pairs 1 to 4"."""
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"
