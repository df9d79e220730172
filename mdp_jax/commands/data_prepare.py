"""`mdp data prepare`: a dataset as it was released becomes ArrayRecords that TFDS reads, too, without TensorFlow."""

import argparse
import pathlib
import re
import sys
import time

import cv2
import rich.console
from ml_collections import ConfigDict

from mdp_jax.commands import data as data_command
from mdp_jax.commands.arguments import named, path, place, whole_number
from mdp_jax.data.doctor import findings
from mdp_jax.data.doctor.scan import cores
from mdp_jax.data.kinds import DEFAULT_KIND, KINDS
from mdp_jax.data.prepared import archives, preparation, smaller
from mdp_jax.data.sources import require_photos
from mdp_jax.errors import UserError
from mdp_jax.reporting import tables
from mdp_jax.storage.paths import as_path, local
from mdp_jax.words import counted

_MIB = 1 << 20
# Values of a dataset that do not change its records, as they are where they do nothing.
_WHEN_READING = {"drop_classes": (), "class_groups": (), "limit": 0, "holdout": 0, "labels": "masks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp data prepare` to a parser."""
    parser.add_argument("name", metavar="NAME", help="name of the dataset")
    parser.add_argument("--data_dir", required=True, type=named, metavar="D", help="folder of the datasets")
    parser.add_argument(
        "--kind",
        choices=data_command.kinds_with_masks(),
        help=f"layout of the release (default: NAME if it is one, else {DEFAULT_KIND})",
    )
    parser.add_argument(
        "--root", type=place, metavar="R", help="folder of the release under D (default: where its kind lies)"
    )
    parser.add_argument("--out", type=place, metavar="O", help="folder of the records (default: prepared/NAME under D)")
    parser.add_argument("--splits", default="train,val", metavar="A,B", help="to be written (default train,val)")
    parser.add_argument("--jobs", type=whole_number, default=cores(), metavar="N", help="threads (default: one a core)")
    parser.add_argument(
        "--shard_mib", type=whole_number, default=64, metavar="S", help="size of a shard in MiB (default 64)"
    )
    parser.add_argument(
        "--short_side",
        type=whole_number,
        default=0,
        metavar="P",
        help="resize larger photos of the split train to a short side of so many pixels (default: as they are)",
    )
    parser.add_argument(
        "--archive", nargs="+", type=path, default=[], metavar="FILE", help="zip or tar files to unpack first"
    )
    parser.epilog = "Values of the dataset can be set by --config.key=value, as its kind has them."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes the records and prints a table of them. Started again, it does not write complete shards again.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: an argument is wrong, an archive or a sample is bad, the folder has other things in it, or there is not
        enough space.
    """
    started = time.monotonic()
    dataset, splits = _dataset(args, overrides), _splits(args.splits)
    if args.short_side and smaller.SPLIT not in splits:
        raise UserError(
            f"--short_side {args.short_side}: belongs to the split {smaller.SPLIT}; expected it in --splits"
        )
    data_dir = as_path(args.data_dir)
    folder = data_dir / "prepared" / dataset.name if args.out is None else as_path(args.out)
    if args.archive:
        local(data_dir, "--archive: --data_dir")
        _unpack(args.archive, data_dir, dataset.root)
    cv2.setNumThreads(0)  # samples are read in several threads
    open_split = KINDS[dataset.kind].source
    sources = {split: open_split(dataset, args.data_dir, split) for split in splits}
    for split, source in sources.items():
        require_photos(source, split)
        for line in findings.beside(f"{dataset.name} {split}", source):
            _say(f"mdp: warning: {line}")
    found = preparation.prepare(
        dataset.name, dataset.kind, sources, folder, args.jobs, args.shard_mib * _MIB, args.short_side
    )
    tables.console().print(tables.for_terminal(_table(found, folder, time.monotonic() - started)))


def _dataset(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> ConfigDict:
    dataset = data_command.dataset_config(args, data_command.kinds_with_masks(), overrides)
    if not re.fullmatch(r"[A-Za-z]\w*", dataset.name, re.ASCII):
        raise UserError(f"dataset {dataset.name!r}: expected a name of letters, digits and _, a letter first")
    for key, nothing in _WHEN_READING.items():
        if dataset[key] != nothing:
            raise UserError(f"--config.{key}: prepare writes the whole dataset; set it where the records are read")
    return dataset


def _splits(text: str) -> list[str]:
    splits = text.split(",")
    for split in splits:
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise UserError(f"--splits {text}: {split!r}; expected names of splits with commas between, as train,val")
    return splits


def _unpack(paths: list[str], data_dir: pathlib.Path, root: str) -> None:
    _say(f"unpacking {', '.join(paths)} into {data_dir}")
    with rich.console.Console(stderr=True).status("unpacking") as status:
        others = archives.extract(
            paths, data_dir, root, lambda done, total: status.update(f"unpacking {done}/{total} files")
        )
    if others:
        _say(
            f"mdp: warning: {counted(len(others), 'file')} of the archive's size, but not of its content, stay as they "
            f"are, such as {others[0]}; remove them to have those of the archive"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(found: dict, folder: pathlib.Path, seconds: float) -> tables.Table:
    rows = [
        [split, part["records"], len(part["shards"]), part["bytes"] / _MIB] for split, part in found["splits"].items()
    ]
    side = found.get("short_side")
    smaller_to = f", photos of {smaller.SPLIT} with a short side of at most {side}" if side else ""
    caption = f"{found['name']}: {len(found['classes'])} classes{smaller_to}, prepared in {folder} ({seconds:.1f} s)"
    return tables.Table(["split", "photos", "shards", "MiB"], rows, caption)
