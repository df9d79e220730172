"""Unpacks the archives of a release, zip and tar: never outside the folder, and only where there is space."""

import contextlib
import functools
import io
import lzma
import os
import pathlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from mdp_jax.data.kinds import KINDS
from mdp_jax.errors import UserError, of_system
from mdp_jax.storage.files import require_regular

_CHUNK = 1 << 20  # bytes that are read at once
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
    path: pathlib.Path  # of the unpacked file
    size: int
    opened: Callable[[], IO[bytes] | None]
    checksum: int | None  # CRC-32 of the content; None where the archive has none


def require_space(folder: pathlib.Path, needed: int, what: str) -> None:
    """Checks that a disk has enough space.

    Args:
      folder: on the disk; it need not exist.
      needed: bytes.
      what: what needs them, for the error.

    Raises:
      UserError: there is not enough space. The message names both sizes.
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


def extract(
    paths: list[str], data_dir: pathlib.Path, root: str, report: Callable[[int, int], None]
) -> list[pathlib.Path]:
    """Unpacks archives; files that exist with their full size are not written again.

    Args:
      paths: of the archives; all of them are read through before the first file is written.
      data_dir: the folder that they are unpacked in.
      root: folder of the dataset under data_dir; official archives are unpacked in it, by their names.
      report: called with the number of files that are done and the number of all files.

    Returns:
      The files that were there with their full size and other bytes than the archive has.

    Raises:
      UserError: a file is not an archive or is damaged, has links or an entry outside its folder, an official archive
        belongs outside of data_dir by this root, or there is not enough space.
    """
    found = [(path, _open(path)) for path in map(pathlib.Path, paths)]
    try:
        members, others = [], []
        for path, archive in found:
            for member in _members(path, archive, _place(path, data_dir, root)):
                if not _is_there(path, member):
                    members.append((path, member))
                elif not _has_content(path, member):
                    others.append(member.path)
        require_space(data_dir, sum(member.size for _, member in members), "unpacking")
        for number, (path, member) in enumerate(members, start=1):
            _write(path, member)
            report(number, len(members))
        return others
    finally:
        for _, archive in found:
            archive.close()


def _place(path: pathlib.Path, data_dir: pathlib.Path, root: str) -> pathlib.Path:
    """The folder that an archive is unpacked in: of an official one, from its dataset's root; of others, data_dir."""
    folders = {name: folder for kind in KINDS.values() for name, folder in kind.official_archives.items()}
    if path.name not in folders:
        return data_dir
    folder = os.path.normpath(os.path.join(root, folders[path.name]))
    if folder.split(os.sep)[0] == "..":
        levels = folders[path.name].count("..")
        raise UserError(f"--root {root}: expected at least {levels} folders, one in the other, for --archive {path}")
    return data_dir / folder


def _open(path: pathlib.Path) -> zipfile.ZipFile | tarfile.TarFile:
    require_regular(path, "a zip or tar file", f"--archive {path}")
    try:
        # A tar first: the end of one may be that of a zip in it.
        if not tarfile.is_tarfile(path) and zipfile.is_zipfile(path):
            return zipfile.ZipFile(path)
        return tarfile.open(path)
    except OSError as error:
        line = f"--archive {path}: {error.strerror or error}; expected a zip or tar file"
        raise of_system(error, line) from None
    except _DAMAGED:
        raise UserError(f"--archive {path}: neither zip nor tar, or damaged; expected an archive") from None


def _members(path: pathlib.Path, archive: zipfile.ZipFile | tarfile.TarFile, folder: pathlib.Path) -> Iterator[_Member]:
    try:
        if isinstance(archive, zipfile.ZipFile):
            for info in archive.infolist():
                if not info.is_dir():
                    target = _target(path, info.filename, folder)
                    yield _Member(target, info.file_size, functools.partial(archive.open, info), info.CRC)
            return
        for entry in archive:
            if entry.isfile():
                target = _target(path, entry.name, folder)
                yield _Member(target, entry.size, functools.partial(archive.extractfile, entry), None)
            elif not entry.isdir():
                raise UserError(f"--archive {path}: entry {entry.name!r} is a link or device; expected files alone")
        # The checksum of a compressed tar stands behind its last entry.
        while archive.fileobj and archive.fileobj.read(_CHUNK):
            pass
    except _DAMAGED as error:
        raise of_system(error, f"--archive {path} is damaged ({error}); download it again") from None


def _target(path: pathlib.Path, name: str, folder: pathlib.Path) -> pathlib.Path:
    """The path of an unpacked entry. No archive has links, so the name alone says whether it is in the folder."""
    parts = pathlib.PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"--archive {path}: entry {name!r} leads out of {folder}; nothing was unpacked")
    return folder / parts


def _is_there(path: pathlib.Path, member: _Member) -> bool:
    try:
        return member.path.is_file() and member.path.stat().st_size == member.size
    except (OSError, ValueError) as error:  # a name that is too long, or in which other bytes than those of UTF-8 are
        reason = getattr(error, "strerror", None) or error
        line = f"--archive {path}: entry {str(member.path)!r:.300} cannot be a file here ({reason})"
        raise of_system(error, line) from None


def _has_content(path: pathlib.Path, member: _Member) -> bool:
    """Whether a file of the right size has the content of an entry, too: a later release may have other bytes in it."""
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(member.path.open("rb"))
            if member.checksum is not None:
                found = 0
                while chunk := file.read(_CHUNK):
                    found = zlib.crc32(chunk, found)
                return found == member.checksum
            opened = member.opened()  # a tar is read in order, and its reader stands at this entry
            source = stack.enter_context(opened) if opened else io.BytesIO()
            return all(file.read(_CHUNK) == chunk for chunk in iter(lambda: source.read(_CHUNK), b""))
    except _DAMAGED as error:
        raise of_system(error, f"--archive {path}: {member.path} cannot be compared with it ({error})") from None


def _write(path: pathlib.Path, member: _Member) -> None:
    partial = member.path.with_name(member.path.name + ".partial")
    try:
        member.path.parent.mkdir(parents=True, exist_ok=True)
        source = member.opened()
        if source is None:
            raise OSError("it has no content")
        with source, open(partial, "wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        partial.replace(member.path)
    except _DAMAGED as error:
        raise of_system(error, f"--archive {path}: {member.path} cannot be unpacked ({error})") from None
    finally:
        with contextlib.suppress(OSError, ValueError):  # as where its own path is none
            partial.unlink(missing_ok=True)
