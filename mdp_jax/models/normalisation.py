"""Normalises the pipeline's uint8 photos for the networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import DataConfig


@dataclasses.dataclass(frozen=True)
class Normalise:
    """(image - mean) / std in `dtype`, at least float32; all three on the 0..255 scale.

    Attributes:
      mean: of the channels R, G, B.
      std: of the channels R, G, B.
      dtype: of the network's computation.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dtype: str

    @classmethod
    def of(cls, data: DataConfig, dtype: str) -> "Normalise":
        """Makes the normalisation of a config.

        Args:
          data: the config's `data`.
          dtype: of the network's computation.
        """
        return cls(data.mean, data.std, dtype)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalises uint8 or float [B, H, W, 3] to float [B, H, W, 3]."""
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        mean, std = (np.asarray(x, np.float64).reshape(1, 1, 1, 3) for x in (self.mean, self.std))
        return (image.astype(dtype) - mean.astype(dtype)) / std.astype(dtype)
