"""How photos are shown to a network: whole or by windows, at which sizes, mirrored or not."""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import DataConfig
from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.evaluation.sliding import slide
from mdp_jax.models.network import upsample

MOST_SCALE = 10.0  # a percentage given for a factor would fill the memory


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of a photo whose predictions are averaged. The default is the photo as it is, at once.

    Attributes:
      crop: height, width of the windows in pixels (sliding.slide); None: each view at once.
      stride: pixels from one window to the next; None with `crop`.
      scales: factors of the photo's sides, one for each size that it is shown at.
      flip: whether each size is also shown mirrored left to right.

    Raises:
      UserError: a value is impossible.
    """

    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        crops, strides = self.crop or (), self.stride or ()
        for crop, stride in zip(crops, strides, strict=True):
            if crop < 1:
                raise UserError(f"--crop {_text(crops)}: expected height and width of at least 1 pixel")
            if not 1 <= stride <= crop:
                expected = f"1 pixel to those of --crop {_text(crops)}, or windows would leave gaps"
                raise UserError(f"--stride {_text(strides)}: expected {expected}")
        for scale in self.scales:
            if not 0 < scale <= MOST_SCALE:
                raise UserError(f"--scales {_text(self.scales)}: expected factors above 0, up to {MOST_SCALE:g}")

    @property
    def single(self) -> bool:
        """Whether there is only one view, and so nothing to average."""
        return len(self.scales) == 1 and not self.flip

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The height and width of a photo at each scale, rounded like in MMSegmentation; at least one pixel.

        Args:
          height: of the photo.
          width: of the photo.
        """
        return [(max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))) for scale in self.scales]

    def of(self, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Resizes photos to each scale, by images.resize_photo.

        Args:
          photos: uint8 [H,W,3], all of one shape.

        Returns:
          uint8 [B,H_i,W_i,3] for each scale.

        Raises:
          UserError: a scale makes more pixels of a photo than fit into memory.
        """
        own = photos[0].shape[:2]
        sizes = self.sizes(*own)
        for scale, (height, width) in zip(self.scales, sizes, strict=True):
            if scale > 1 and height * width > images.MOST_ENLARGED:
                raise UserError(
                    f"--scales {scale:g}: a photo of {own[0]} x {own[1]} pixels (height x width) becomes {height} x "
                    f"{width}; expected at most {images.MOST_ENLARGED:,} pixels: smaller scales, or a smaller "
                    "config.data.short_side"
                )
        return tuple(np.stack([images.resize_photo(photo, *size) for photo in photos]) for size in sizes)

    def described(self) -> str:
        """The values that differ from the defaults, in words; "" where none differs."""
        windows = self.crop and self.stride and f"windows of {_by(self.crop)} every {_by(self.stride)} pixels"
        parts = [windows] if windows else []
        parts += [] if self.scales == (1.0,) else [f"scales {_text(self.scales)}"]
        return ", ".join(parts + ["mirrored too"] * self.flip)


WHOLE = Views()


def class_scores(
    logits_of: Callable[[jax.Array], jax.Array], views: Views, seen: Sequence[jax.Array], size: tuple[int, int]
) -> jax.Array:
    """Computes a score of every class in every pixel; the greatest is the network's answer. Pure.

    Logits are resized to `size`. With several views their softmax is averaged, not the logits, as in MMSegmentation's
    SegTTAModel (and `aug_test` before it). Views run one after another, so that memory holds the logits of one view
    besides the average.

    Args:
      logits_of: [B,h,w,3] to [B,h',w',C], for any h and w; pure.
      views: static.
      seen: [B,H_i,W_i,3] for each of the scales.
      size: (H', W') of the result, static.

    Returns:
      [B,H',W',C], float32 or wider: logits of a single view, else mean probabilities.
    """

    def logits(image: jax.Array) -> jax.Array:
        if views.crop is None or views.stride is None:
            found = logits_of(image)
        else:
            found = slide(logits_of, image, views.crop, views.stride)
        return found if found.shape[1:3] == size else upsample(found, size)

    if views.single:
        return logits(seen[0])

    def probabilities(image: jax.Array, mirrored: jax.Array) -> jax.Array:
        found = logits(jnp.where(mirrored, image[:, :, ::-1], image))
        return jax.nn.softmax(jnp.where(mirrored, found[:, :, ::-1], found), axis=-1)

    of_scale = [functools.partial(jax.jit(probabilities), image) for image in seen]

    # A loop, unlike a sum, cannot be reordered so that the logits of all views wait for each other in memory.
    def add(total: jax.Array, view: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        scale, mirrored = view
        return total + jax.lax.switch(scale, of_scale, mirrored), None

    scale, mirrored = np.divmod(np.arange(len(seen) * (1 + views.flip)), 1 + views.flip)
    like = jax.eval_shape(of_scale[0], False)
    each = (jnp.asarray(scale.astype(np.int32)), jnp.asarray(mirrored == 1))
    total, _ = jax.lax.scan(add, jnp.zeros(like.shape, like.dtype), each)
    return total / len(scale)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say how photos are shown to a parser."""
    group = parser.add_argument_group("views of a photo")
    group.add_argument(
        "--mode",
        choices=("whole", "slide"),
        default="whole",
        help="whole: each photo at once (default); slide: overlapping windows, whose logits are averaged",
    )
    group.add_argument(
        "--crop", nargs=2, type=int, metavar=("H", "W"), help="size of the windows (default: config.data.crop)"
    )
    group.add_argument(
        "--stride", nargs=2, type=int, metavar=("H", "W"), help="from window to window (default: 2/3 of the crop)"
    )
    group.add_argument(
        "--scales",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="S",
        help="sizes to show each photo at, as factors; the probabilities are averaged (default: 1)",
    )
    group.add_argument("--flip", action="store_true", help="average over each photo and its mirror image")


def of_arguments(args: argparse.Namespace, data: DataConfig) -> Views:
    """Makes the views that the arguments ask for.

    Args:
      args: what `add_arguments` declares.
      data: the run's `data`, whose crop is the default of the windows.

    Raises:
      UserError: a value is impossible, or --crop or --stride is given without --mode slide.
    """
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    if args.mode == "slide":
        height, width = args.crop or data.crop
        crop = (height, width)
        down, right = args.stride or (max(1, round(side * 2 / 3)) for side in crop)
        stride = (down, right)
    elif args.crop or args.stride:
        given = f"--crop {_text(args.crop)}" if args.crop else f"--stride {_text(args.stride)}"
        raise UserError(f"{given}: has a meaning with --mode slide alone; expected --mode slide too, or neither")
    return Views(crop, stride, tuple(args.scales), args.flip)


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
