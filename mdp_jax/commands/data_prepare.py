"""`mdp data prepare`: a dataset as it was released becomes ArrayRecords that TFDS reads, too, without TensorFlow."""

import argparse
import os
import pathlib
import re
import sys
import time
from collections.abc import Collection

import cv2
import rich.console
from ml_collections import ConfigDict

from mdp_jax.commands import data as data_command
from mdp_jax.commands.arguments import whole_number
from mdp_jax.data.doctor import findings
from mdp_jax.data.doctor.scan import cores
from mdp_jax.data.kinds import DEFAULT_KIND, KINDS
from mdp_jax.data.prepared import archives, manifest, shards
from mdp_jax.data.sources import require_photos
from mdp_jax.errors import UserError
from mdp_jax.reporting import tables
from mdp_jax.reporting.progress import Progress
from mdp_jax.storage.json_files import PARTIAL, write_json
from mdp_jax.storage.locks import locked

_MIB = 1 << 20
_LOCK, _HOLDERS = ".lock", "another mdp data prepare"
# Values of a dataset that do not change its records, as they are where they do nothing.
_WHEN_READING = {"drop_classes": (), "limit": 0, "holdout": 0, "labels": "masks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp data prepare`."""
    parser.add_argument("name", metavar="NAME", help="name of the dataset")
    parser.add_argument("--data_dir", required=True, metavar="D", help="folder of the datasets")
    parser.add_argument(
        "--kind",
        choices=data_command.kinds_with_masks(),
        help=f"layout of the release (default: NAME if it is one, else {DEFAULT_KIND})",
    )
    parser.add_argument("--root", metavar="R", help="folder of the release under D (default: where its kind lies)")
    parser.add_argument("--out", metavar="O", help="folder of the records (default: prepared/NAME under D)")
    parser.add_argument("--splits", default="train,val", metavar="A,B", help="to be written (default train,val)")
    parser.add_argument("--jobs", type=whole_number, default=cores(), metavar="N", help="threads (default: one a core)")
    parser.add_argument(
        "--shard_mib", type=whole_number, default=64, metavar="S", help="size of a shard in MiB (default 64)"
    )
    parser.add_argument("--archive", nargs="+", default=[], metavar="FILE", help="zip or tar files to unpack first")
    parser.epilog = "Values of the dataset can be set by --config.key=value, as its kind has them."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes the records and prints a table of them; started again, it keeps the shards that are whole.

    Raises:
      UserError: wrong arguments, a bad archive or sample, a folder with other things in it, or no space.
    """
    started = time.monotonic()
    dataset = _dataset(args, overrides)
    data_dir = pathlib.Path(os.path.expanduser(args.data_dir))
    folder = data_dir / "prepared" / dataset.name if args.out is None else pathlib.Path(os.path.expanduser(args.out))
    if args.archive:
        _unpack(args.archive, data_dir, dataset.root)
    cv2.setNumThreads(0)  # samples are read in several threads
    open_split = KINDS[dataset.kind].source
    sources = {split: open_split(dataset, args.data_dir, split) for split in args.splits.split(",")}
    for split, source in sources.items():
        require_photos(source, split)
        for line in findings.beside(f"{dataset.name} {split}", source):
            _say(f"mdp: warning: {line}")
    found = prepare(dataset.name, dataset.kind, sources, folder, args.jobs, args.shard_mib * _MIB)
    tables.console().print(tables.for_terminal(_table(found, folder, time.monotonic() - started)))


def _dataset(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> ConfigDict:
    dataset = data_command.dataset_config(args, data_command.kinds_with_masks(), overrides)
    if not re.fullmatch(r"[A-Za-z]\w*", dataset.name, re.ASCII):
        raise UserError(f"dataset {dataset.name!r}: expected a name of letters, digits and _, a letter first")
    for key, nothing in _WHEN_READING.items():
        if dataset[key] != nothing:
            raise UserError(f"--config.{key}: prepare writes the whole dataset; set it where the records are read")
    return dataset


def _unpack(paths: list[str], data_dir: pathlib.Path, root: str) -> None:
    _say(f"unpacking {', '.join(paths)} into {data_dir}")
    with rich.console.Console(stderr=True).status("unpacking") as status:
        archives.extract(paths, data_dir, root, lambda done, total: status.update(f"unpacking {done}/{total} files"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def prepare(name: str, kind: str, sources: dict, folder: pathlib.Path, jobs: int, shard_bytes: int) -> dict:
    """Writes the records of a dataset into a folder, with progress on stderr.

    Args:
      name: of the dataset.
      kind: of the sources.
      sources: split -> source of data/files.py.
      folder: new, empty, or of an earlier run, which goes on.
      jobs: threads.
      shard_bytes: about as large may a shard be.

    Returns:
      The manifest, as it is in the folder (mdp_jax/data/prepared/manifest.py).

    Raises:
      UserError: a bad sample, a folder with other things in it or in use, or no space; what is whole stays for the
        next run.
    """
    earlier = _earlier(folder, name, kind, sources)
    builder, planned = shards.plan(name, kind, sources, shard_bytes, str(folder))
    done = shards.kept(planned, earlier, folder, jobs)
    missing = [shard for shard in planned if shard.file not in done]
    if earlier:
        _say(f"{folder}: {len(done)} of {len(planned)} shards are there and whole")
    archives.require_space(folder, sum(shard.bytes for shard in missing), f"preparing {name}")
    identity = {"name": name, "kind": kind, **_classes(next(iter(sources.values())))}

    def record(complete: bool) -> dict:
        found = shards.manifest_of(identity, planned, done, complete)
        write_json(folder / manifest.FILE, found)
        return found

    before = sum(entry["records"] for entry in done.values())
    total = before + sum(len(shard.indices) for shard in missing)
    try:
        with locked(folder, _LOCK, "--out", _HOLDERS), Progress(total, before, unit="photo") as progress:
            record(complete=False)

            def on_finished(entry: dict) -> None:
                done[entry["file"]] = entry
                record(complete=False)
                progress.update(sum(entry["records"] for entry in done.values()))

            shards.write(builder, missing, folder, jobs, on_finished)
            shards.remove_others(name, planned, folder)
            builder.write_metadata(folder, shards.manifest_of(identity, planned, done, complete=True)["splits"])
            return record(complete=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); what is whole is kept") from None


def _classes(source) -> dict:
    return {
        "classes": list(source.classes),
        "palette": None if source.palette is None else source.palette.tolist(),
    }


def _earlier(folder: pathlib.Path, name: str, kind: str, splits: Collection[str]) -> dict | None:
    """The manifest of an earlier run on the folder, or None where it is new or empty."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: a file; expected a folder")
    if not folder.is_dir() or all(path.suffix == PARTIAL or path.name == _LOCK for path in folder.iterdir()):
        return None
    if not (folder / manifest.FILE).exists():
        raise UserError(
            f"--out {folder}: not empty and without {manifest.FILE}; expected a new folder or a prepared one"
        )
    found = manifest.read(folder)
    if (found["name"], found["kind"]) != (name, kind):
        raise UserError(f"--out {folder}: holds {found['name']} of kind {found['kind']}; expected another folder")
    for split in found["splits"]:
        if split not in splits:
            raise UserError(f"--out {folder}: holds the split {split}, too; expected it in --splits, or another folder")
    return found


def _table(found: dict, folder: pathlib.Path, seconds: float) -> tables.Table:
    rows = [
        [split, part["records"], len(part["shards"]), part["bytes"] / _MIB] for split, part in found["splits"].items()
    ]
    caption = f"{found['name']}: {len(found['classes'])} classes, prepared in {folder} ({seconds:.1f} s)"
    return tables.Table(["split", "photos", "shards", "MiB"], rows, caption)
