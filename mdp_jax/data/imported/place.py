"""The folder that annotations are imported from: its files, each JSON read once, and where a photo is."""

import functools
import os
import pathlib
import posixpath
from collections.abc import Collection
from typing import Any

from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError
from mdp_jax.storage.files import shown
from mdp_jax.storage.json_files import read_json

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


class Place:
    """A folder, or one file in it, from which annotations are imported.

    Attributes:
      root: the folder.
      given: what the user named: the folder, or the file.
      files: relative paths with /, in order; without hidden files and hidden folders.
    """

    def __init__(self, path: str, out: str = ""):
        """Lists the files.

        Args:
          path: of the folder, or of a file of annotations.
          out: a folder that is left out where it lies within.

        Raises:
          UserError: there is no such file or folder, or it is an archive.
        """
        self.given = pathlib.Path(path)
        if not self.given.exists():
            raise UserError(
                f"{shown(path)} is missing; expected a folder or file of annotations; "
                f"{listing.found_at(self.given.parent)}"
            )
        if self.given.is_file() and self.given.suffix.lower() in _ARCHIVES:
            raise UserError(f"{path} is an archive; expected the folder that is in it: unpack it first")
        self.root = self.given if self.given.is_dir() else self.given.parent
        left_out = os.path.realpath(out) if out else ""
        self.files: list[str] = []
        for folder, inside, names in os.walk(self.root, followlinks=True):
            inside[:] = sorted(
                name
                for name in inside
                if not name.startswith(".")
                and os.path.realpath(os.path.join(folder, name)) != left_out
                and not listing.leads_back(folder, name)
            )
            for name in names:
                if not name.startswith("."):
                    listing.require_text(pathlib.Path(folder), name)
                    relative = os.path.relpath(os.path.join(folder, name), self.root)
                    self.files.append(relative.replace(os.sep, "/"))
        self.files.sort()

    def annotations(self, suffix: str) -> list[str]:
        """Relative paths of the files with a suffix: the given file alone, where one was given.

        Args:
          suffix: with its dot, in small letters.
        """
        if self.given.is_file():
            return [self.given.name] if self.given.suffix.lower() == suffix else []
        return [file for file in self.files if file.lower().endswith(suffix)]

    def path(self, file: str) -> str:
        """The path of a file.

        Args:
          file: relative, with /.
        """
        return str(self.root / file)

    @functools.lru_cache(4)  # noqa: B019 - one place a command; a file is recognised and then read
    def json(self, file: str) -> Any:
        """The value in a JSON file.

        Args:
          file: relative, with /.

        Raises:
          UserError: it is no JSON.
        """
        return read_json(self.path(file), "annotations in JSON")

    @functools.cached_property
    def images(self) -> list[str]:
        """Relative paths of the image files, read or not."""
        return [file for file in self.files if listing.is_image(posixpath.basename(file))]

    @functools.cached_property
    def _by_path(self) -> dict[str, str]:
        return {listing.composed(file): file for file in self.files}

    def resolved(self, file: str) -> str | None:
        """The file of a relative path whose letters may be in another form of Unicode.

        Args:
          file: relative, with /.
        """
        return self._by_path.get(listing.composed(posixpath.normpath(file)))


class Finder:
    """Finds the photos that annotations name, whatever folders the names begin with."""

    def __init__(self, place: Place, folder: str = "", aside: Collection[str] = ()):
        """Looks at the names of the image files.

        Args:
          place: that is imported from.
          folder: that the photos are in, under the place or absolute; "" = anywhere in the place.
          aside: paths of image files that are no photos.

        Raises:
          UserError: there is no such folder, or no photo in it.
        """
        self._near = "" if folder else None  # photos in a folder that the user names do not lie near the annotations
        if folder and "{" in folder:
            raise UserError(f"--images {folder}: expected a folder; a pattern is for sets of masks alone")
        inside = place.root / folder
        if folder and not inside.is_dir():
            raise UserError(f"--images {folder}: {inside} is no folder; {listing.found_at(inside)}")
        self._place = Place(str(inside)) if folder else place
        self._photos = [file for file in self._place.images if file.lower().endswith(listing.PHOTOS)]
        self._photos = [file for file in self._photos if self._place.path(file) not in aside]
        if not self._photos:
            raise UserError(f"{self._place.root}: no photo in it; expected photos there, or their folder in --images")
        self._known = {listing.composed(file): file for file in self._photos}
        self._by_name: dict[str, list[str]] = {}
        for file in self._photos:
            self._by_name.setdefault(listing.composed(posixpath.basename(file)), []).append(file)
        self.taken: set[str] = set()

    @property
    def root(self) -> pathlib.Path:
        """The folder that the photos are searched in."""
        return self._place.root

    def find(self, name: str, near: str = "") -> str | None:
        """The relative path of the photo of a name, or None where there is none.

        Args:
          name: as annotations have it, with folders or without.
          near: folder of the annotations, relative with /; a photo there is taken first.

        Raises:
          UserError: several photos have the name.
        """
        name = listing.composed(name.replace("\\", "/"))
        near = near if self._near is None else self._near
        for candidate in (posixpath.normpath(posixpath.join(near, name)), posixpath.normpath(name)):
            if candidate in self._known:
                return self._take(self._known[candidate])
        found = self._by_name.get(posixpath.basename(name), [])
        for parts in range(len(name.split("/")), 0, -1):
            end = "/" + "/".join(name.split("/")[-parts:])
            fitting = [file for file in found if f"/{listing.composed(file)}".endswith(end)]
            if len(fitting) == 1:
                return self._take(fitting[0])
            if fitting:
                raise UserError(
                    f"{name}: {self.root / fitting[0]} and {self.root / fitting[1]} have this name; expected one "
                    "photo of it: name the folder in --images"
                )
        return None

    def _take(self, file: str) -> str:
        self.taken.add(file)
        return file

    def path(self, file: str) -> str:
        """The path of a photo.

        Args:
          file: relative, with /.
        """
        return self._place.path(file)

    def left(self) -> list[str]:
        """The photos that were not found by any name."""
        return [file for file in self._photos if file not in self.taken]
