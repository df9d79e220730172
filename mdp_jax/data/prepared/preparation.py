"""Makes the records of a dataset; a run that was stopped goes on."""

import pathlib
import sys
import tempfile
from collections.abc import Collection, Mapping

from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.prepared import archives, manifest, shards
from mdp_jax.errors import UserError, of_system
from mdp_jax.reporting.progress import Progress
from mdp_jax.storage import buckets
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.json_files import PARTIAL, write_json
from mdp_jax.storage.locks import locked
from mdp_jax.storage.paths import require_possible

_LOCK, _HOLDERS = ".lock", "another mdp data prepare"


def prepare(
    name: str,
    kind: str,
    sources: Mapping[str, Source],
    folder: pathlib.Path,
    jobs: int,
    shard_bytes: int,
    short_side: int = 0,
) -> dict:
    """Writes the records of a dataset into a folder, with progress on stderr.

    Args:
      name: of the dataset.
      kind: of the sources.
      sources: split -> source of its kind.
      folder: new, empty, or that of an earlier run, which goes on.
      jobs: number of threads.
      shard_bytes: size of a shard, about; of photos in their own size.
      short_side: that larger photos of the split "train" are resized to, in pixels; 0 = they stay as they are.

    Returns:
      The manifest, as it is in the folder (manifest.py).

    Raises:
      UserError: a sample is bad, the folder is in use or has other things in it, or there is not enough space. Complete
        shards stay for the next run.
    """
    in_bucket = isinstance(folder, BucketPath)
    if in_bucket:
        require_possible(folder, "--out")
    earlier = _earlier(folder, name, kind, sources)
    plan = shards.plan(name, kind, sources, shard_bytes, str(folder), short_side)
    builder, planned = plan.builder, plan.shards
    done = shards.kept(planned, earlier, folder, jobs)
    missing = [shard for shard in planned if shard.file not in done]
    if earlier:
        print(f"{folder}: {len(done)} of {len(planned)} shards are there and whole", file=sys.stderr, flush=True)
    if in_bucket:  # a shard of each thread is on this machine until it is uploaded
        here = pathlib.Path(tempfile.gettempdir())
        archives.require_space(here, sum(sorted(shard.bytes for shard in missing)[-jobs:]), f"preparing {name}")
    else:
        archives.require_space(folder, sum(shard.bytes for shard in missing), f"preparing {name}")
    identity = {"name": name, "kind": kind, **_classes(next(iter(sources.values())))}
    identity |= {"short_side": short_side} if short_side else {}

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
        line = f"--out {folder}: cannot be written ({error.strerror}); what is whole is kept"
        raise of_system(error, line) from None


def _classes(source: Source) -> dict:
    return {
        "classes": list(source.classes),
        "palette": None if source.palette is None else source.palette.tolist(),
    }


def _is_of_a_start(path: pathlib.Path) -> bool:
    """Whether a file is one that a run leaves which was killed before its first manifest."""
    in_bucket = isinstance(path, BucketPath) and path.name.startswith((f"{_LOCK}.", buckets.PROBE))
    return path.suffix == PARTIAL or path.name == _LOCK or in_bucket


def _earlier(folder: pathlib.Path, name: str, kind: str, splits: Collection[str]) -> dict | None:
    """The manifest of an earlier run on the folder, or None where it is new or empty."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: a file; expected a folder")
    if not folder.is_dir() or all(_is_of_a_start(path) for path in folder.iterdir()):
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
