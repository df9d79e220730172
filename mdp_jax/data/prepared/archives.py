"""Unpacking the archives of a release: zip and tar, nothing outside the folder, nothing begun that does not fit."""

import contextlib
import lzma
import os
import pathlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mdp_jax.data.kinds import KINDS
from mdp_jax.errors import UserError
from mdp_jax.storage.files import require_regular

_HEADROOM = 64 << 20  # bytes that are left free
# What reading a damaged archive raises, of either kind and each compression.
_DAMAGED = (
    OSError,
    UnicodeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class _Member:
    path: pathlib.Path  # where it goes
    size: int
    opened: Callable  # -> file object of its content


def require_space(folder: pathlib.Path, needed: int, what: str) -> None:
    """Checks that `needed` bytes fit on the disk of a folder, which need not exist.

    Raises:
      UserError: naming both sizes.
    """
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed + _HEADROOM:
        sizes = f"needs about {_mib(needed + _HEADROOM)}, of which {_mib(free)} are free there"
        raise UserError(f"{folder}: {what} {sizes}; nothing was written")


def _mib(count: int) -> str:
    return f"{-(-count >> 20):,} MiB"


def extract(paths: list[str], data_dir: pathlib.Path, root: str, report: Callable[[int, int], None]) -> None:
    """Unpacks archives; files that are there in their full size are left as they are.

    Args:
      paths: of the archives; all of them are looked through before the first file is written.
      data_dir: where they go.
      root: folder of the dataset under data_dir; official archives go to their places in it, by their names.
      report: called with the files that are done and their number in all.

    Raises:
      UserError: no archive, a damaged one, one with links or with an entry outside its folder, an official one that
        belongs outside of data_dir by this root, or no space.
    """
    found = [(path, _open(path)) for path in map(pathlib.Path, paths)]
    try:
        members = []
        for path, archive in found:
            folder = _place(path, data_dir, root)
            members += [(path, member) for member in _members(path, archive, folder) if not _is_there(path, member)]
        require_space(data_dir, sum(member.size for _, member in members), "unpacking")
        for number, (path, member) in enumerate(members, start=1):
            _write(path, member)
            report(number, len(members))
    finally:
        for _, archive in found:
            archive.close()


def _place(path: pathlib.Path, data_dir: pathlib.Path, root: str) -> pathlib.Path:
    """The folder that an archive goes to: an official one from the root of its dataset, others that of all datasets."""
    places = {name: place for kind in KINDS.values() for name, place in kind.official_archives.items()}
    if path.name not in places:
        return data_dir
    place = os.path.normpath(os.path.join(root, places[path.name]))
    if place.split(os.sep)[0] == "..":
        levels = places[path.name].count("..")
        raise UserError(f"--root {root}: expected at least {levels} folders, one in the other, for --archive {path}")
    return data_dir / place


def _open(path: pathlib.Path) -> zipfile.ZipFile | tarfile.TarFile:
    require_regular(path, "a zip or tar file", f"--archive {path}")
    try:
        # A tar first: the end of one may be that of a zip in it.
        if not tarfile.is_tarfile(path) and zipfile.is_zipfile(path):
            return zipfile.ZipFile(path)
        return tarfile.open(path)
    except OSError as error:
        raise UserError(f"--archive {path}: {error.strerror or error}; expected a zip or tar file") from None
    except _DAMAGED:
        raise UserError(f"--archive {path}: neither zip nor tar, or damaged; expected an archive") from None


def _members(path: pathlib.Path, archive, folder: pathlib.Path) -> Iterator[_Member]:
    try:
        if isinstance(archive, zipfile.ZipFile):
            for info in archive.infolist():
                if not info.is_dir():
                    target = _target(path, info.filename, folder)
                    yield _Member(target, info.file_size, lambda info=info: archive.open(info))
            return
        for info in archive:
            if info.isfile():
                target = _target(path, info.name, folder)
                yield _Member(target, info.size, lambda info=info: archive.extractfile(info))
            elif not info.isdir():
                raise UserError(f"--archive {path}: entry {info.name!r} is a link or device; expected files alone")
        # The checksum of a compressed tar stands behind its last entry.
        while archive.fileobj.read(1 << 20):
            pass
    except _DAMAGED as error:
        raise UserError(f"--archive {path} is damaged ({error}); download it again") from None


def _target(path: pathlib.Path, name: str, folder: pathlib.Path) -> pathlib.Path:
    """Where an entry goes. As no archive brings links, its name alone says whether that is in the folder."""
    parts = pathlib.PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"--archive {path}: entry {name!r} leads out of {folder}; nothing was unpacked")
    return folder / parts


def _is_there(path: pathlib.Path, member: _Member) -> bool:
    try:
        return member.path.is_file() and member.path.stat().st_size == member.size
    except (OSError, ValueError) as error:  # a name that is too long, or in which other bytes than those of UTF-8 are
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--archive {path}: entry {str(member.path)!r:.300} cannot be a file here ({reason})") from None


def _write(path: pathlib.Path, member: _Member) -> None:
    partial = member.path.with_name(member.path.name + ".partial")
    try:
        member.path.parent.mkdir(parents=True, exist_ok=True)
        with member.opened() as source, open(partial, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        partial.replace(member.path)
    except _DAMAGED as error:
        raise UserError(f"--archive {path}: {member.path} cannot be unpacked ({error})") from None
    finally:
        with contextlib.suppress(OSError, ValueError):  # as where its own path is none
            partial.unlink(missing_ok=True)
