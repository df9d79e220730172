"""Writes the shards of a dataset on all cores, so that a run that was killed can go on.

TFDS's own download_and_prepare writes one shard after the other into a folder that the next run does not read.
"""

import hashlib
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from array_record.python import array_record_module

from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.prepared import builder as segmentation
from mdp_jax.data.prepared import manifest, smaller
from mdp_jax.errors import of_system
from mdp_jax.storage import buckets, photo_cache
from mdp_jax.storage.bucket_path import BucketPath

# One record to a chunk, for random access. Not compressed, since photos and masks are already.
_OPTIONS = "group_size:1,uncompressed"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Shard:
    """A shard that is to be written.

    Attributes:
      file: name of the file.
      split: of the samples.
      indices: of the samples.
      source: digest of what their records depend on.
      bytes: its size, about.
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


def plan(
    name: str, kind: str, sources: Mapping[str, Source], shard_bytes: int, data_dir: str, short_side: int = 0
) -> Plan:
    """Plans the shards of a dataset.

    Args:
      name: of the dataset.
      kind: of the sources.
      sources: split -> source.
      shard_bytes: size of a shard, about.
      data_dir: of the builder.
      short_side: of the builder.

    Returns:
      The plan.

    Raises:
      UserError: a file of a source is missing.
    """
    files = {split: [_stat(source, i) for i in range(len(source))] for split, source in sources.items()}
    # The masks are encoded anew, and rarely grow to twice their size.
    sizes = {split: [photo + 2 * mask for _, photo, _, _, mask, _ in rows] for split, rows in files.items()}
    counts = {split: min(len(rows), max(1, -(-sum(rows) // shard_bytes))) for split, rows in sizes.items()}
    builder = segmentation.SegmentationBuilder(name, sources, counts, data_dir, short_side)
    shards = []
    for split, source in sources.items():
        smaller_to = (short_side,) if short_side and split == smaller.SPLIT else ()
        for k, indices in enumerate(builder.shard_indices(split)):
            part = slice(indices.start, indices.stop)
            depends = (manifest.VERSION, kind, tuple(source.classes), files[split][part], *smaller_to)
            digest = hashlib.sha256(repr(depends).encode()).hexdigest()
            file = segmentation.shard_name(name, split, k, counts[split])
            shards.append(Shard(file, split, indices, digest, sum(sizes[split][part])))
    return Plan(builder, shards)


def _stat(source: Source, index: int) -> tuple:
    row = []
    for path in source.files(index):
        try:
            row += [path.name, *_size_and_version(path)]
        except OSError as error:
            raise of_system(error, f"{path} cannot be read ({error.strerror}); expected a file") from None
    return tuple(row)


def _size_and_version(path: pathlib.Path) -> tuple[int, int | str]:
    """The size of a file, and what changes when it is written again."""
    if isinstance(path, BucketPath):
        entry = photo_cache.known(path)
        return entry.size, entry.version
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def kept(shards: list[Shard], earlier: dict | None, folder: pathlib.Path, jobs: int) -> dict[str, dict]:
    """Finds the shards of an earlier run that are complete and were made from the same files.

    Args:
      shards: all planned shards.
      earlier: manifest of the earlier run, or None.
      folder: of the shards.
      jobs: threads that compute checksums.

    Returns:
      {file: its entry in the manifest}.
    """
    entries = {e["file"]: e for split in (earlier["splits"].values() if earlier else ()) for e in split["shards"]}
    same = [entries[s.file] for s in shards if s.file in entries and entries[s.file]["source"] == s.source]
    if same:
        print(f"{folder}: checking {len(same)} shards of an earlier run", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        whole = pool.map(lambda entry: _is_whole(folder / entry["file"], entry), same)
        return {entry["file"]: entry for entry, good in zip(same, whole, strict=True) if good}


def _is_whole(path: pathlib.Path, entry: dict) -> bool:
    if isinstance(path, BucketPath):  # written as a whole, with the storage's own checksum
        found = buckets.entry(str(path))
        return found is not None and found.size == entry["bytes"]
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
    """Writes shards, each of them completely or not at all.

    Args:
      builder: of the plan.
      shards: the shards to write.
      folder: the folder that they are written in.
      jobs: number of threads; OpenCV, files and checksums let other threads run.
      on_finished: called in this thread with the manifest's entry of each finished shard.

    Raises:
      UserError: a sample is wrong, or a shard cannot be written; unfinished shards are dropped.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [pool.submit(_write_one, builder, shard, folder, stop) for shard in shards]
        for future in as_completed(futures):
            entry = future.result()
            if entry is not None:
                on_finished(entry)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _partial_of(path: pathlib.Path) -> pathlib.Path:
    """The file of this machine that a shard is written to until it is whole."""
    if not isinstance(path, BucketPath):
        return path.with_name(path.name + _PARTIAL)
    descriptor, name = tempfile.mkstemp(prefix="mdp-prepare-", suffix=_PARTIAL)
    os.close(descriptor)
    return pathlib.Path(name)


def _write_one(
    builder: segmentation.SegmentationBuilder, shard: Shard, folder: pathlib.Path, stop: threading.Event
) -> dict | None:
    """The manifest's entry of a shard that was written; None where the run was stopped."""
    path = folder / shard.file
    partial = _partial_of(path)
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
        if isinstance(path, BucketPath):
            buckets.upload(partial, str(path))
        else:
            partial.replace(path)
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError, whatever is wrong with the file
        raise of_system(error, f"{path} cannot be written: {' '.join(str(error).split())}") from None
    finally:
        partial.unlink(missing_ok=True)
    return entry


def remove_others(name: str, shards: list[Shard], folder: pathlib.Path) -> None:
    """Removes other shards of a dataset: those of an earlier plan, and half-written ones.

    Args:
      name: of the dataset.
      shards: the shards that stay.
      folder: of the shards.
    """
    ours = {shard.file for shard in shards}
    for path in folder.glob(f"{name}-*.array_record-*"):
        if path.name not in ours:
            path.unlink()


def manifest_of(identity: dict, shards: list[Shard], done: dict[str, dict], complete: bool) -> dict:
    """Makes the manifest of the finished shards.

    Args:
      identity: the keys of the manifest that say what the dataset is.
      shards: all planned shards.
      done: file -> entry of the finished shards.
      complete: whether all shards are finished.

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
