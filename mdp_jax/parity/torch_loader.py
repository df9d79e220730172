"""What `mdp bench data` compares with: a torch DataLoader that reads and augments photos with Pillow.

The work is that of data/augment.py `finetune_view`, in the way it is usually written for PyTorch, as torchvision's and
MMSegmentation's own training scripts have it: photo and mask are scaled as a whole and then cropped.
"""

import io
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from mdp_jax.configs import FinetuneDataConfig

_LEVELS = np.arange(256)
_HUES = 256 / 180  # a step of OpenCV's hue in Pillow's


def decode(photo: bytes, mask: bytes) -> tuple[Image.Image, Image.Image]:
    """Decodes a photo, as RGB, and its mask.

    Args:
      photo: bytes of its file.
      mask: bytes of its file.
    """
    pictures = Image.open(io.BytesIO(photo)).convert("RGB"), Image.open(io.BytesIO(mask))
    pictures[1].load()
    return pictures


class View:
    """Makes one training view of photo and mask of Pillow: tensors uint8 [H, W, 3] and int16 [H, W]."""

    def __init__(self, data: FinetuneDataConfig):
        """Reads the strengths of the augmentation.

        Args:
          data: of a fine-tuning config, with a category ratio of 1, which is not computed here.
        """
        self._height, self._width = data.crop
        self._scale, self._flip, self._distortion = data.scale, data.flip, data.photometric
        self._fill = tuple(round(value) for value in data.mean)
        self._to_label = np.where(_LEVELS == 255, -1, _LEVELS).astype(np.int16)

    def __call__(
        self, photo: Image.Image, mask: Image.Image, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales, crops, flips, distorts and pads photo and mask."""
        factor = rng.uniform(*self._scale)
        size = max(1, round(photo.width * factor)), max(1, round(photo.height * factor))
        photo = photo.resize(size, Image.Resampling.BILINEAR)
        mask = mask.resize(size, Image.Resampling.NEAREST)
        width, height = min(size[0], self._width), min(size[1], self._height)
        left, top = int(rng.integers(size[0] - width + 1)), int(rng.integers(size[1] - height + 1))
        box = (left, top, left + width, top + height)
        photo, mask = photo.crop(box), mask.crop(box)
        if rng.random() < self._flip:
            photo, mask = (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in (photo, mask))
        photo = self._photometric(photo, rng)
        if (width, height) != (self._width, self._height):
            photo, mask = self._padded(photo, self._fill), self._padded(mask, 255)
        return torch.from_numpy(np.array(photo)), torch.from_numpy(self._to_label[np.asarray(mask)])

    def _padded(self, picture: Image.Image, fill: int | tuple[int, ...]) -> Image.Image:
        padded = Image.new(picture.mode, (self._width, self._height), fill)
        padded.paste(picture)
        return padded

    def _photometric(self, photo: Image.Image, rng: np.random.Generator) -> Image.Image:
        def draw(neutral: float, strength: float) -> float:
            return rng.uniform(neutral - strength, neutral + strength) if rng.random() < 0.5 else neutral

        shift, gain = draw(0.0, self._distortion.brightness), draw(1.0, self._distortion.contrast)
        contrast_first = rng.random() < 0.5
        saturation, turn = draw(1.0, self._distortion.saturation), round(draw(0.0, self._distortion.hue))
        first, last = (gain, 1.0) if contrast_first else (1.0, gain)
        if shift != 0.0 or first != 1.0:
            photo = photo.point(3 * _table((_LEVELS + shift) * first))
        if saturation != 1.0 or turn != 0:
            hues = ((_LEVELS + round(_HUES * turn)) % 256).tolist()
            photo = photo.convert("HSV").point(hues + _table(_LEVELS * saturation) + _LEVELS.tolist()).convert("RGB")
        return photo.point(3 * _table(_LEVELS * last)) if last != 1.0 else photo


def _table(values: np.ndarray) -> list[int]:
    return np.clip(np.rint(values), 0, 255).astype(int).tolist()


class _Photos(torch.utils.data.Dataset):
    def __init__(self, files: Sequence[tuple[pathlib.Path, pathlib.Path]], view: View):
        self._files, self._view, self._rng = files, view, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo, mask = self._files[index]
        return self._view(*decode(photo.read_bytes(), mask.read_bytes()), self._rng)


def batches(files: Sequence[tuple[pathlib.Path, pathlib.Path]], view: View, batch: int) -> Iterator:
    """Makes endless shuffled batches by a DataLoader.

    It loads in the calling process: a worker process on the same core only adds the transfer between the two.

    Args:
      files: paths of photos and masks.
      view: makes the training views.
      batch: B.

    Returns:
      An iterator of pairs, uint8 [B, H, W, 3] and int16 [B, H, W].
    """
    dataset = _Photos(files, view)
    endless = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=1 << 40)
    return iter(torch.utils.data.DataLoader(dataset, batch, sampler=endless, num_workers=0))


def collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Makes one batch of views, like the DataLoader.

    Args:
      samples: photo and label of each view.
    """
    return torch.utils.data.default_collate(samples)


def use_one_thread() -> None:
    """Keeps PyTorch from starting threads of its own for its operations."""
    torch.set_num_threads(1)
