"""Writes what is imported: photos, masks of class ids, classes, and a manifest; all of it or nothing.

The result is made in a folder beside the wanted one, which gets its name at the very end. import.json is {"version",
"made_of", a digest of the options and of names, sizes and times of the files that were used; "options", with "source"
and "form"; "classes", "palette", "splits": {SPLIT: photos}, "photos": [{"name", "split", "image", "photo",
"annotation", "bytes"}, ...], "notes"}. "photo" and "annotation" are files of the source, "bytes" those of the mask.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np

from mdp_jax.data import images
from mdp_jax.data.doctor.scan import digest
from mdp_jax.data.imported import splitting
from mdp_jax.data.imported.form import SPLITS, Labelled, Opened, Photo
from mdp_jax.data.imported.splitting import TEST, TRAIN, VAL
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import IGNORE
from mdp_jax.data.prepared.archives import require_space
from mdp_jax.errors import UserError, of_system
from mdp_jax.reporting.progress import Progress
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.locks import locked
from mdp_jax.storage.paths import require_possible
from mdp_jax.words import counted

MANIFEST = "import.json"
_CLASSES = "classes.txt"
_VERSION = 1
_LOCK, _HOLDERS = ".lock", "another mdp data import"
_FORM = {
    "version": int,
    "made_of": str,
    "splits": {str: int},
    "classes": [str],
    "photos": [{"name": str, "split": str, "image": str, "photo": str, "bytes": int}],
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the photos are written and split.

    Attributes:
      link: whether photos become links to the source's files, in place of copies.
      share: of the photos for validation, where a split is made; None = only where the source has none.
      seed: of a split that is made.
      group: pattern with {group} of names that stay on one side; "" for none.
      lists: of --split: split -> names; empty for none.
      skip_missing: whether listed names without a photo are passed over.
      workers: threads.
    """

    link: bool = False
    share: float | None = None
    seed: int = 0
    group: str = ""
    lists: splitting.Lists = dataclasses.field(default_factory=dict)
    skip_missing: bool = False
    workers: int = 1


DEFAULT_SHARE = 0.2  # of the photos for validation, where neither the source nor the user says


class _Written(NamedTuple):
    """A sample whose mask was written.

    Attributes:
      pixels: int64 [C + 1], ignored ones first.
      digest: of the photo's pixels.
      notes: of its mask.
    """

    pixels: np.ndarray
    digest: bytes
    notes: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Result:
    """What is in the folder.

    Attributes:
      classes: names in the order of their ids.
      pixels: split -> int64 [C + 1], ignored ones first.
      photos: split -> int64 [C], photos with the class.
      counts: split -> photos.
      notes: lines to be said.
    """

    classes: tuple[str, ...]
    pixels: dict[str, np.ndarray]
    photos: dict[str, np.ndarray]
    counts: dict[str, int]
    notes: list[str]


def identity(opened: Opened, words: Mapping[str, Any], lists: Sequence[str] = ()) -> str:
    """A digest of what an import is made of.

    Args:
      opened: what is imported.
      words: the options.
      lists: files of --split.
    """
    found = hashlib.sha256(json.dumps([words, opened.classes], sort_keys=True).encode())
    used = (path for sample in opened.labelled for path in (sample.photo, sample.where))
    for path in dict.fromkeys([*used, *opened.files, *lists]):
        status = os.stat(path)
        found.update(os.fsencode(os.path.abspath(path)))  # a folder above may have bytes that are no UTF-8
        found.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def require_usable(out: pathlib.Path) -> None:
    """Checks that a folder can be imported into.

    Args:
      out: the folder.

    Raises:
      UserError: it is there, and neither empty nor an import, or it cannot be made.
    """
    if not (out / MANIFEST).exists():  # a finished import may lie where nobody writes
        require_possible(os.path.dirname(os.path.abspath(out)), "--out")
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise UserError(f"--out {out}: a file; expected a new folder")
    if any(out.iterdir()) and not (out / MANIFEST).exists():
        raise UserError(
            f"--out {out}: not empty, and no import of this command ({listing.found_at(out)}); expected a new folder "
            "or an empty one"
        )


def earlier(out: pathlib.Path, made_of: str) -> dict | None:
    """The manifest of an earlier import into a folder; None where the folder is new or empty.

    Args:
      out: the folder, as `require_usable` wants it.
      made_of: what the import is to be made of.

    Raises:
      UserError: the folder holds an import of something else, or one that was changed.
    """
    path = out / MANIFEST
    if not path.exists():
        return None
    found = read_json(path, "the manifest of an import", _FORM)
    if found["version"] != _VERSION or found["made_of"] != made_of:
        raise UserError(
            f"--out {out}: holds an import of other files or with other options; remove it to import again, or name "
            "another folder"
        )
    whole_of: dict[pathlib.Path, bool] = {out / _CLASSES: _holds(out / _CLASSES, _class_lines(found["classes"]))}
    for row in found["photos"]:
        photo, mask = out / "images" / row["split"] / row["image"], out / "masks" / row["split"] / f"{row['name']}.png"
        # The photo of the source has the size that it had: `made_of` is the same.
        whole_of[photo] = photo.is_file() and photo.stat().st_size == os.stat(row["photo"]).st_size
        whole_of[mask] = mask.is_file() and mask.stat().st_size == row["bytes"]
    for file, whole in whole_of.items():
        if not whole:
            raise UserError(
                f"--out {out}: {file} was changed or is missing since the import; remove the folder, and import again"
            )
    return found


def _class_lines(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _holds(file: pathlib.Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


def write(opened: Opened, out: pathlib.Path, made_of: str, header: Mapping[str, Any], plan: Plan) -> Result:
    """Writes photos, masks and classes, with progress on stderr.

    Args:
      opened: what is imported.
      out: new or empty folder.
      made_of: of the manifest.
      header: more of the manifest.
      plan: how.

    Returns:
      What was written.

    Raises:
      UserError: a photo and its annotation are wrong, the split leaves a class out of train, or the folder cannot be
        written. Nothing is left then.
    """
    out = pathlib.Path(os.path.realpath(out))  # the folder that a link names
    work = out.with_name(f".{out.name}.importing")
    samples, listed, said = _listed(opened.labelled, plan)
    if not plan.link:
        require_space(out, sum(os.stat(sample.photo).st_size for sample in samples), "copying the photos")
    try:
        with locked(work, _LOCK, "--out", _HOLDERS):
            try:
                for entry in work.iterdir():
                    if entry.name != _LOCK:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                result = _fill(opened, samples, listed, work, made_of, header, plan, said)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
            (work / _LOCK).unlink()
            os.replace(work, out)
    except OSError as error:
        name = error.filename or out
        line = f"--out {out}: {name}: {error.strerror or error}; expected a folder that can be written"
        raise of_system(error, line) from None
    return result


def _listed(labelled: Sequence[Labelled], plan: Plan) -> tuple[list[Labelled], list[str], list[str]]:
    """The photos that are taken, the split of each as it is said ("" for none), and lines to be said."""
    samples = sorted(labelled, key=lambda sample: (sample.name, sample.photo))
    if plan.lists:
        splits, notes = splitting.by_lists(plan.lists, [(s.name, s.photo) for s in samples], plan.skip_missing)
        chosen = [(sample, split) for sample, split in zip(samples, splits, strict=True) if split]
        return [sample for sample, _ in chosen], [split for _, split in chosen], notes
    if plan.share is not None:
        return samples, [""] * len(samples), []
    splits = [sample.split for sample in samples]
    if any(splits) and not all(splits):
        first = samples[splits.index("")].photo
        notes = [f"the source's split is not used: it leaves out {counted(splits.count(''), 'photo')}, such as {first}"]
        return samples, [""] * len(samples), notes
    if any(splits) and TRAIN not in splits:
        return (
            samples,
            [""] * len(samples),
            [f"the source's split is not used: it has {splits[0]} alone and no train"],
        )
    return samples, splits, []


def _fill(
    opened: Opened,
    samples: Sequence[Labelled],
    listed: Sequence[str],
    work: pathlib.Path,
    made_of: str,
    header: Mapping[str, Any],
    plan: Plan,
    said: Sequence[str],
) -> Result:
    (work / "new").mkdir()
    written = _write_masks(samples, work / "new", len(opened.classes), plan.workers)
    present = np.stack([one.pixels[1:] > 0 for one in written])
    notes = [*opened.notes, *said]
    splits, more = _splits(samples, listed, written, present, plan)
    notes += more
    _require_classes(opened.classes, present, splits, samples)
    totals: collections.Counter = collections.Counter()
    for one in written:
        totals.update(one.notes)
    notes += [f"{what}: {count:,}" for what, count in totals.items()]
    names_of = _names(samples, splits)
    rows = []
    for number, (sample, split, name) in enumerate(zip(samples, splits, names_of, strict=True)):
        mask = work / "masks" / split / f"{name}.png"
        photo = work / "images" / split / f"{name}{pathlib.PurePath(sample.photo).suffix}"
        for file in (mask, photo):
            file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / "new" / f"{number}.png", mask)
        if plan.link:
            photo.symlink_to(os.path.abspath(sample.photo))
        else:
            shutil.copyfile(sample.photo, photo)
        rows.append(
            {
                "name": name,
                "split": split,
                "image": f"{name}{photo.suffix}",
                "photo": sample.photo,
                "annotation": sample.where,
                "bytes": mask.stat().st_size,
            }
        )
    (work / "new").rmdir()
    (work / _CLASSES).write_text(_class_lines(opened.classes), encoding="utf-8")
    if opened.palette is not None:
        lines = ("{} {} {}\n".format(*colour) for colour in opened.palette.tolist())
        (work / "palette.txt").write_text("".join(lines), encoding="utf-8")
    counts = {split: splits.count(split) for split in SPLITS if split in splits}
    result = Result(
        opened.classes,
        {
            split: np.sum([one.pixels for one, part in zip(written, splits, strict=True) if part == split], axis=0)
            for split in counts
        },
        {split: present[[part == split for part in splits]].sum(axis=0) for split in counts},
        counts,
        notes,
    )
    about = {"version": _VERSION, "made_of": made_of, **header, "classes": list(opened.classes)}
    palette = None if opened.palette is None else opened.palette.tolist()
    write_json(work / MANIFEST, {**about, "palette": palette, "splits": counts, "photos": rows, "notes": notes})
    return result


def _write_masks(samples: Sequence[Labelled], folder: pathlib.Path, classes: int, workers: int) -> list[_Written]:
    def one(number: int) -> _Written:
        sample = samples[number]
        image = images.read_photo(sample.photo)
        photo = Photo(sample.photo, image.shape[0], image.shape[1], images.orientation(sample.photo))
        drawn = sample.draw(photo)
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", drawn.ids)[1].tobytes())
        counts = np.bincount(drawn.ids.ravel(), minlength=256).astype(np.int64)
        pixels = np.concatenate([counts[IGNORE:], counts[:classes]])
        return _Written(pixels, digest(image), drawn.notes)

    done: list[_Written] = []
    pool = ThreadPoolExecutor(workers)
    try:
        with Progress(len(samples), unit="photo") as progress:
            for found in pool.map(one, range(len(samples))):
                done.append(found)
                if progress.live or len(done) == len(samples):
                    progress.update(len(done))
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _splits(
    samples: Sequence[Labelled], listed: Sequence[str], written: Sequence[_Written], present: np.ndarray, plan: Plan
) -> tuple[list[str], list[str]]:
    """The split of each photo, and what is to be said."""
    digests = [one.digest for one in written]
    known = all(listed)
    if known and VAL not in listed and TEST in listed:
        note = "test photos of the source are the val photos here, as it has no others; --val 0.2 makes a new split"
        said = [note, *_not_used(plan), *_doubles(samples, listed, digests)]
        return [VAL if split == TEST else split for split in listed], said
    if known and VAL in listed:
        return list(listed), [*_not_used(plan), *_doubles(samples, listed, digests)]
    # Without --val, a part of the source that is for training alone is split as photos without any part are.
    share = DEFAULT_SHARE if plan.share is None else plan.share
    photo_names = [sample.name for sample in samples]
    if len(set(photo_names)) < len(photo_names):
        photo_names = _long(samples)
    groups = splitting.groups_of(photo_names, plan.group, digests)
    splits, notes = splitting.by_share(photo_names, groups, present, share, plan.seed)
    same = len(digests) - len(set(digests))
    notes += [f"photos with the pixels of another one, on the same side of the split: {same}"] if same else []
    counts = f"{splits.count(TRAIN)} train, {splits.count(VAL)} val"
    made = f"split by share and seed: {counts} (--val {share:g} --seed {plan.seed})"
    return splits, [made, *notes]


def _not_used(plan: Plan) -> list[str]:
    """What is said of the options of a split that is made, where one is taken as it is."""
    given = [f"--group {plan.group}"] * bool(plan.group) + [f"--seed {plan.seed}"] * bool(plan.seed)
    way = "--val 0.2 without --split" if plan.lists else "--val 0.2"
    return [f"{option}: not used, as there is a split already; {way} makes another one" for option in given]


def _doubles(samples: Sequence[Labelled], splits: Sequence[str], digests: Sequence[bytes]) -> list[str]:
    """Photos of the source's own split that are on two sides of it."""
    first: dict[bytes, int] = {}
    found = []
    for number, photo in enumerate(digests):
        one = first.setdefault(photo, number)
        if splits[one] != splits[number]:
            found.append((samples[one].photo, samples[number].photo))
    if not found:
        return []
    return [
        f"photos that are in two parts of the split: {len(found)} ({found[0][0]} = {found[0][1]}); --val 0.2 makes "
        "a split without such photos"
    ]


def _require_classes(
    classes: Sequence[str], present: np.ndarray, splits: Sequence[str], samples: Sequence[Labelled]
) -> None:
    """UserError where a class of other photos is in no training photo."""
    training = present[[split == TRAIN for split in splits]].any(axis=0)
    lost = np.flatnonzero(present.any(axis=0) & ~training)
    if len(lost):
        rows = np.flatnonzero(present[:, lost[0]])
        more = f", and {counted(len(lost) - 1, 'more class', 'more classes')}" if len(lost) > 1 else ""
        raise UserError(
            f"the split leaves class {classes[lost[0]]!r} out of train: it is in {counted(len(rows), 'photo')} of "
            f"{splits[rows[0]]} alone, such as {samples[rows[0]].photo}{more}; expected every class in train: give "
            "another --split, make one with --val 0.2, or ignore the class with --classes KEY=ignore"
        )


def _names(samples: Sequence[Labelled], splits: Sequence[str]) -> list[str]:
    """Names without suffix, each once in its split."""
    found = [sample.name for sample in samples]
    if len(set(zip(found, splits, strict=True))) < len(found):
        found = _long(samples)
    seen: dict[tuple[str, str], str] = {}
    for sample, name, split in zip(samples, found, splits, strict=True):
        first = seen.setdefault((name, split), sample.photo)
        if first != sample.photo:
            raise UserError(
                f"{first} and {sample.photo} have the name {name}; expected one photo for each name without suffix: "
                "rename one"
            )
    return found


def _long(samples: Sequence[Labelled]) -> list[str]:
    """Names with all folders from the first one on in which the photos differ."""
    top = os.path.commonpath([os.path.dirname(os.path.abspath(sample.photo)) for sample in samples])
    relative = (os.path.relpath(os.path.abspath(sample.photo), top) for sample in samples)
    return [listing.composed(os.path.splitext(name)[0].replace(os.sep, "/")) for name in relative]
