"""How a network is shown a photo that it is to label: whole or by windows, at which sizes, mirrored or not."""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

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
        flip: whether each size is shown mirrored left to right too.

    Raises:
        UserError: a value that cannot be.
    """

    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self):
        for crop, stride in zip(self.crop or (), self.stride or (), strict=True):
            if crop < 1:
                raise UserError(f"--crop {_text(self.crop)}: expected height and width of at least 1 pixel")
            if not 1 <= stride <= crop:
                expected = f"1 pixel to those of --crop {_text(self.crop)}, or windows would leave gaps"
                raise UserError(f"--stride {_text(self.stride)}: expected {expected}")
        for scale in self.scales:
            if not 0 < scale <= MOST_SCALE:
                raise UserError(f"--scales {_text(self.scales)}: expected factors above 0, up to {MOST_SCALE:g}")

    @property
    def single(self) -> bool:
        """Whether there is one view alone, and so nothing to average."""
        return len(self.scales) == 1 and not self.flip

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of a photo at each scale, rounded as MMSegmentation rounds them; at least one pixel."""
        return [tuple(max(1, int(side * scale + 0.5)) for side in (height, width)) for scale in self.scales]

    def of(self, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Photos uint8 [H,W,3] of one shape at each scale, uint8 [B,H_i,W_i,3]; resized as images.resize_photo does."""
        sizes = self.sizes(*photos[0].shape[:2])
        return tuple(np.stack([images.resize_photo(photo, *size) for photo in photos]) for size in sizes)

    def described(self) -> str:
        """One line for people, without what is as by default; empty where all of it is."""
        parts = [] if self.crop is None else [f"windows of {_by(self.crop)} every {_by(self.stride)} pixels"]
        parts += [] if self.scales == (1.0,) else [f"scales {_text(self.scales)}"]
        return ", ".join(parts + ["mirrored too"] * self.flip)


WHOLE = Views()


def class_scores(
    logits_of: Callable[[jax.Array], jax.Array], views: Views, seen: Sequence[jax.Array], size: tuple[int, int]
) -> jax.Array:
    """A score of every class in every pixel, the greatest of which is the network's answer; pure.

    Logits are brought to `size`. Those of several views are not averaged themselves: as in MMSegmentation's
    SegTTAModel (and `aug_test` before it) it is the softmax of each that is. Views run one after another, so that
    memory holds the logits of one of them beside the average.

    Args:
        logits_of: [B,h,w,3] to [B,h',w',C], for any h and w; pure.
        views: static.
        seen: [B,H_i,W_i,3] for each of the scales.
        size: (H', W') of the result, static.

    Returns:
        [B,H',W',C], float32 or wider: logits of a single view, else mean probabilities.
    """

    def logits(image: jax.Array) -> jax.Array:
        found = logits_of(image) if views.crop is None else slide(logits_of, image, views.crop, views.stride)
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
    total, _ = jax.lax.scan(add, jnp.zeros(like.shape, like.dtype), (scale.astype(np.int32), mirrored == 1))
    return total / len(scale)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how photos are shown."""
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


def of_arguments(args: argparse.Namespace, config) -> Views:
    """The views that the arguments ask for; `config` is of fine-tuning, `data.crop` is read.

    Raises:
        UserError: a value that cannot be, or windows asked for where there are none.
    """
    windows = {}
    if args.mode == "slide":
        crop = tuple(args.crop or config.data.crop)
        stride = tuple(args.stride or (max(1, round(side * 2 / 3)) for side in crop))
        windows = {"crop": crop, "stride": stride}
    elif args.crop or args.stride:
        raise UserError(f"--{'crop' if args.crop else 'stride'}: for --mode slide alone; expected it too, or neither")
    return Views(**windows, scales=tuple(args.scales), flip=args.flip)


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
