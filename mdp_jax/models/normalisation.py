"""From the pipeline's uint8 photos to what the networks take."""

import jax
import jax.numpy as jnp
import numpy as np


def normalise_image(image: jax.Array, data_config, dtype: str) -> jax.Array:
    """Images [B, H, W, 3] to (image - mean) / std in `dtype`, at least float32; all three on the 0..255 scale."""
    dtype = jnp.promote_types(dtype, jnp.float32)
    mean, std = (np.asarray(x, np.float64).reshape(1, 1, 1, 3) for x in (data_config.mean, data_config.std))
    return (image.astype(dtype) - mean.astype(dtype)) / std.astype(dtype)
