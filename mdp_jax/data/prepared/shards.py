"""Writing the shards of a dataset on all cores, so that a run that was killed goes on where it stopped.

TFDS's own download_and_prepare writes one shard after the other into a folder that the next run does not look at.
"""

import hashlib
import pathlib
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from array_record.python import array_record_module

from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.prepared import builder as segmentation
from mdp_jax.data.prepared import manifest
from mdp_jax.errors import UserError

# One record to a chunk, for random access. Not compressed, since photos and masks are already.
_OPTIONS = "group_size:1,uncompressed"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Shard:
    """A shard that is to be written.

    Attributes:
      file: name of the file.
      split: split.
      indices: the samples.
      source: digest of what their records depend on.
      bytes: about as large will it be.
    """

    file: str
    split: str
    indices: range
    source: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
      builder: of the records.
      shards: in the order of the splits and samples.
    """

    builder: segmentation.SegmentationBuilder
    shards: list[Shard]


def plan(name: str, kind: str, sources: Mapping[str, Source], shard_bytes: int, data_dir: str) -> Plan:
    """The builder of a dataset and its shards.

    Args:
      name: of the dataset.
      kind: of the sources.
      sources: split -> source.
      shard_bytes: about as large may a shard be.
      data_dir: of the builder.

    Returns:
      The plan.

    Raises:
      UserError: a file of a source is missing.
    """
    files = {split: [_stat(source, i) for i in range(len(source))] for split, source in sources.items()}
    # The masks are encoded anew, and rarely grow to twice their size.
    sizes = {split: [photo + 2 * mask for _, photo, _, _, mask, _ in rows] for split, rows in files.items()}
    counts = {split: min(len(rows), max(1, -(-sum(rows) // shard_bytes))) for split, rows in sizes.items()}
    builder = segmentation.SegmentationBuilder(name, sources, counts, data_dir)
    shards = []
    for split, source in sources.items():
        for k, indices in enumerate(builder.shard_indices(split)):
            part = slice(indices.start, indices.stop)
            depends = (manifest.VERSION, kind, tuple(source.classes), files[split][part])
            digest = hashlib.sha256(repr(depends).encode()).hexdigest()
            file = segmentation.shard_name(name, split, k, counts[split])
            shards.append(Shard(file, split, indices, digest, sum(sizes[split][part])))
    return Plan(builder, shards)


def _stat(source: Source, index: int) -> tuple:
    row = []
    for path in source.files(index):
        try:
            found = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); expected a file") from None
        row += [path.name, found.st_size, found.st_mtime_ns]
    return tuple(row)


def kept(shards: list[Shard], earlier: dict | None, folder: pathlib.Path, jobs: int) -> dict[str, dict]:
    """The shards of an earlier run that are whole and made of the same files: file -> its entry in the manifest.

    Args:
      shards: those that are to be there in the end.
      earlier: manifest of the earlier run, or None.
      folder: of the shards.
      jobs: threads that compute checksums.

    Returns:
      Only shards that are there.
    """
    entries = {e["file"]: e for split in (earlier["splits"].values() if earlier else ()) for e in split["shards"]}
    same = [entries[s.file] for s in shards if s.file in entries and entries[s.file]["source"] == s.source]
    if same:
        print(f"{folder}: checking {len(same)} shards of an earlier run", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        whole = pool.map(lambda entry: _is_whole(folder / entry["file"], entry), same)
        return {entry["file"]: entry for entry, good in zip(same, whole, strict=True) if good}


def _is_whole(path: pathlib.Path, entry: dict) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and _sha256(path) == entry["sha256"]


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(
    builder: segmentation.SegmentationBuilder,
    shards: list[Shard],
    folder: pathlib.Path,
    jobs: int,
    on_finished: Callable[[dict], None],
) -> None:
    """Writes shards, each whole or not at all.

    Args:
      builder: of `plan`.
      shards: to be written.
      folder: where.
      jobs: threads; OpenCV, files and checksums leave Python to the others.
      on_finished: called by this thread with the manifest's entry of each shard when it is there.

    Raises:
      UserError: a sample is wrong, or a shard cannot be written; the other shards that were begun are dropped.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [pool.submit(_write_one, builder, shard, folder, stop) for shard in shards]
        for future in as_completed(futures):
            on_finished(future.result())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _write_one(builder, shard: Shard, folder: pathlib.Path, stop: threading.Event) -> dict | None:
    path = folder / shard.file
    partial = path.with_name(path.name + _PARTIAL)
    try:
        writer = array_record_module.ArrayRecordWriter(str(partial), _OPTIONS)
        try:
            for record in builder.records(shard.split, shard.indices):
                if stop.is_set():
                    return None
                writer.write(record)
        finally:
            writer.close()
        entry = {
            "file": shard.file,
            "records": len(shard.indices),
            "bytes": partial.stat().st_size,
            "sha256": _sha256(partial),
            "source": shard.source,
        }
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError, whatever is wrong with the file
        raise UserError(f"{path} cannot be written: {' '.join(str(error).split())}") from None
    finally:
        partial.unlink(missing_ok=True)
    return entry


def remove_others(name: str, shards: list[Shard], folder: pathlib.Path) -> None:
    """Removes the shards of a dataset that are none of these: those of an earlier plan, and half-written ones.

    Args:
      name: of the dataset.
      shards: that stay.
      folder: of the shards.
    """
    ours = {shard.file for shard in shards}
    for path in folder.glob(f"{name}-*.array_record-*"):
        if path.name not in ours:
            path.unlink()


def manifest_of(identity: dict, shards: list[Shard], done: dict[str, dict], complete: bool) -> dict:
    """The manifest of the shards that are there.

    Args:
      identity: its keys that say what the dataset is.
      shards: that are to be there.
      done: file -> entry of those that are.
      complete: whether nothing more is to come.

    Returns:
      The manifest, as manifest.py describes it.
    """
    splits: dict[str, dict] = {shard.split: {"records": 0, "bytes": 0, "shards": []} for shard in shards}
    for shard in shards:
        if shard.file in done:
            entry, split = done[shard.file], splits[shard.split]
            split["records"] += entry["records"]
            split["bytes"] += entry["bytes"]
            split["shards"].append(entry)
    return {"version": manifest.VERSION, **identity, "complete": complete, "splits": splits}
