"""Paths of buckets in the form of pathlib, so that `folder / name` and `file.exists()` hold for them too."""

import errno
import fnmatch
import io
import os
import pathlib
import stat
from collections.abc import Generator
from typing import IO, Any

from mdp_jax.storage import buckets


class BucketPath(pathlib.PosixPath):
    """A path such as s3://bucket/folder/file.

    What pathlib computes from names alone is as usual. What asks the storage is written here. All other methods of
    pathlib.Path are refused, since they would look for such a file on this machine.
    """

    __slots__ = ()

    def __str__(self) -> str:
        # pathlib keeps one slash of two.
        text = super().__str__()
        scheme, colon, rest = text.partition(":/")
        return f"{scheme}://{rest.lstrip('/')}" if colon else text

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple:
        return type(self), (str(self),)

    def is_absolute(self) -> bool:
        """True: there is no folder that one is in."""
        return True

    def absolute(self) -> "BucketPath":
        """The path itself."""
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        """The path itself: there are no links."""
        del strict
        return self

    def expanduser(self) -> "BucketPath":
        """The path itself: ~ is a letter like the others."""
        return self

    def relative_to(self, *other: Any, **options: Any) -> pathlib.Path:  # type: ignore[override]
        """The part of the path behind another one, which is a path of no machine."""
        return pathlib.Path(*super().relative_to(*other, **options).parts)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object or a folder."""
        del follow_symlinks
        return buckets.entry(str(self)) is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object."""
        del follow_symlinks
        found = buckets.entry(str(self))
        return found is not None and not found.folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there are objects below it."""
        del follow_symlinks
        found = buckets.entry(str(self))
        return found is not None and found.folder

    def is_symlink(self) -> bool:
        """False."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and kind; all else is 0.

        Raises:
          FileNotFoundError: there is nothing.
        """
        del follow_symlinks
        found = buckets.entry(str(self))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        mode = stat.S_IFDIR if found.folder else stat.S_IFREG
        return os.stat_result((mode, 0, 0, 0, 0, 0, found.size, 0, 0, 0))

    def iterdir(self) -> Generator["BucketPath", None, None]:
        """What is in the folder."""
        yield from (self / name for name in sorted(buckets.entries(str(self))))

    def glob(self, pattern: str, **options: Any) -> Generator["BucketPath", None, None]:
        """What is in the folder and has a name of this pattern; a pattern with slashes is refused."""
        if "/" in pattern or "**" in pattern or options:
            raise NotImplementedError(f"{self}: the pattern {pattern!r}")
        yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        """The bytes of the object."""
        return buckets.read(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The text of the object."""
        del newline
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        """Writes the object as a whole."""
        content = bytes(data)
        buckets.write(str(self), content)
        return len(content)

    def open(self, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """The object in memory, to be read as bytes."""
        if mode != "rb" or args or options.keys() - {"buffering"}:
            raise NotImplementedError(f"{self}: open with mode {mode!r}")
        return io.BytesIO(self.read_bytes())

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes the object."""
        del missing_ok
        buckets.delete([str(self)])

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a folder is there when an object is in it."""
        del mode, parents, exist_ok


def _refused(name: str) -> Any:
    def method(self: BucketPath, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{self}: {name} of a path of a bucket")

    return method


# Of pathlib.Path, and not of the paths that only names are computed with.
_OF_DISKS = [name for name in vars(pathlib.Path) if not name.startswith("_") and name not in vars(BucketPath)]
for _name in _OF_DISKS:
    if callable(getattr(pathlib.Path, _name)) and _name not in vars(pathlib.PurePath):
        setattr(BucketPath, _name, _refused(_name))
