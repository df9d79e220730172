"""A network as StableHLO in the form of `jax.export`, which JAX reads without this package."""

import jax
import numpy as np
from jax import export

from mdp_jax.exporting.program import Form, Program

PLATFORMS = ("cpu", "cuda", "tpu")


def serialised(program: Program, form: Form, platforms: tuple[str, ...] = PLATFORMS) -> bytes:
    """Lowers a program for some platforms; nothing is compiled.

    Args:
      program: uint8 [B, H, W, 3] to labels or logits.
      form: its input.
      platforms: some of PLATFORMS. None of them has to be here.

    Returns:
      The bytes of a file for `jax.export.deserialize`.
    """
    return bytes(export.export(jax.jit(program), platforms=platforms)(form.image()).serialize())


def run(exported: bytes, image: np.ndarray) -> np.ndarray:
    """Runs what `serialised` gives on the devices that are here, which must be of one of its platforms.

    Args:
      exported: the bytes of the file.
      image: uint8 [B, H, W, 3].
    """
    return np.asarray(export.deserialize(bytearray(exported)).call(image))


def platform_here() -> str:
    """The name that PLATFORMS have for the devices that are here."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend
