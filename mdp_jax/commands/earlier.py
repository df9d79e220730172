"""Files that an earlier command left beside those of this one, and that a reader could take for new."""

import pathlib
import sys
from collections.abc import Iterable

from mdp_jax.storage.bucket_path import BucketPath


def say(files: Iterable[pathlib.Path]) -> None:
    """Says on stderr, in one line, which of some files are there; those of buckets are not looked for.

    Args:
      files: that the command would write with other options, and does not write with these.
    """
    found = [file for file in files if not isinstance(file, BucketPath) and file.exists()]
    if found:
        more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
        print(f"mdp: {found[0]}{more}: of an earlier command, and not written again", file=sys.stderr)
