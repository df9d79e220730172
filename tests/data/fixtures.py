"""What the tests of the data modules share: dataset folders written to disk, and a source held in memory."""

import pathlib

import cv2
import numpy as np


class MemorySource:
    """A source of given (image, label) pairs."""

    palette, passed_over, content = None, (), ""

    def __init__(self, name: str, classes: tuple[str, ...], samples: list[tuple[np.ndarray, np.ndarray]]):
        self.name, self.classes, self._samples = name, classes, samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image, label = self._samples[index]
        return {"image": image, "label": label}

    def describe(self, index: int) -> str:
        return f"{self.name}-{index}"

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        return ()


def numbered_source(name: str, classes: int, photos: int, first: int = 0, size=(20, 24)) -> MemorySource:
    """Photo i is one grey, first + i, and its labels are all i modulo the number of classes."""
    samples = [(np.full((*size, 3), first + i, np.uint8), np.full(size, i % classes, np.int16)) for i in range(photos)]
    return MemorySource(name, tuple(f"class{i}" for i in range(classes)), samples)


def write_folder(root: pathlib.Path, classes=("sky", "tree", "road"), photos: int = 4, size=(20, 24)) -> pathlib.Path:
    """A folder dataset with a train and a val split of random photos and masks; returns its root."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        for i in range(photos):
            write_jpeg(root / "images" / split / f"p{i}.jpg", rng.integers(0, 256, (*size, 3)))
            write_png(root / "masks" / split / f"p{i}.png", rng.integers(0, len(classes), size))
    return root


def write_jpeg(path: pathlib.Path, image: np.ndarray, *parameters: int) -> None:
    path.write_bytes(cv2.imencode(".jpg", image.astype(np.uint8), list(parameters))[1].tobytes())


def write_png(path: pathlib.Path, image: np.ndarray, *parameters: int, dtype=np.uint8) -> None:
    path.write_bytes(cv2.imencode(".png", image.astype(dtype), list(parameters))[1].tobytes())
