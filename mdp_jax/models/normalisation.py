"""From the pipeline's uint8 photos to what the networks take."""

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import DataConfig


def normalise_image(image: jax.Array, data_config: DataConfig, dtype: str) -> jax.Array:
    """Brings images to the range that the networks take.

    Args:
      image: [B, H, W, 3], on the 0..255 scale.
      data_config: its mean and std, on the same scale.
      dtype: of the computation.

    Returns:
      (image - mean) / std in `dtype`, at least float32.
    """
    dtype = jnp.promote_types(dtype, jnp.float32)
    mean, std = (np.asarray(x, np.float64).reshape(1, 1, 1, 3) for x in (data_config.mean, data_config.std))
    return (image.astype(dtype) - mean.astype(dtype)) / std.astype(dtype)
