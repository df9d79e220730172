"""`mdp bench data`: photos a second that one core reads, decodes, augments, batches and brings to the device.

Each alone, and all together in the pipeline of a run; beside a torch DataLoader with Pillow (parity/torch_loader.py).
At last the pipeline again, with a thread for each core.
"""

import argparse
import contextlib
import functools
import importlib.util
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import checks, configs, runtime
from mdp_jax.benchmarks.chosen import config_of
from mdp_jax.benchmarks.measure import Row, Stream, calls_per_second, one_core, results_per_second
from mdp_jax.data import images, sources
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data.batches import augment, pipeline
from mdp_jax.data.doctor.scan import cores
from mdp_jax.data.drawn import scenes as synthetic
from mdp_jax.errors import UserError
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting.progress import Progress
from mdp_jax.training import sharding
from mdp_jax.words import counted

DRAWN = "town"
PHOTOS = 32  # that are drawn, or read of datasets of one's own, before they come again
SIZE = (375, 500)  # height, width of the drawn photos
_QUALITY = 97  # makes JPEGs of VOC's 60 to 140 kB
_IGNORE = 255


class _Part(NamedTuple):
    """A part of the pipeline by itself: a function of an item, which stands for so many images, and its clock."""

    function: Callable
    items: Sequence
    images: int = 1
    clock: Callable[[], float] = time.process_time

    def rate(self, seconds: float) -> float:
        return self.images * calls_per_second(self.function, self.items, seconds, self.clock)


class _Side(NamedTuple):
    """One of the two that are compared."""

    parts: dict[str, _Part]
    stream: Stream  # of batches


def draw_folder(root: pathlib.Path, photos: int) -> None:
    """Writes a dataset in the folder layout: drawn scenes of SIZE as JPEG photos, and PNG masks packed like VOC's.

    Args:
      root: a new folder.
      photos: number of scenes.
    """
    (root / "images" / "train").mkdir(parents=True)
    (root / "masks" / "train").mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in synthetic.classes(DRAWN)))
    for i in range(photos):
        image, label = synthetic.draw(DRAWN, "train", i, size=SIZE)
        photo = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        mask = np.where(label < 0, _IGNORE, label).astype(np.uint8)
        mask = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE])[1]
        (root / "images" / "train" / f"{i:04d}.jpg").write_bytes(photo.tobytes())
        (root / "masks" / "train" / f"{i:04d}.png").write_bytes(mask.tobytes())


def _drawn_config(folder: str) -> ConfigDict:
    """Fine-tuning with MMSegmentation's crop and scales, but every crop taken: the work that others do too."""
    config = configs.finetune()
    config.dataset = configs.folder("drawn", folder)
    config.data.category_ratio = 1.0
    config.devices = 1  # whatever there are: the batch is small
    config.lock()
    return config


def measure(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> tuple[list[Row], str]:
    """The rows of the case, and a line that says what was measured.

    Args:
      args: `config`, or None for drawn photos; its `data_dir`, or None; `seconds` for each measurement.
      overrides: of the config.

    Raises:
      UserError: a wrong config, or datasets that cannot be read.
    """
    if args.classes:
        raise UserError(f"--classes {args.classes}: belongs to step and loss; data reads the datasets themselves")
    with tempfile.TemporaryDirectory(prefix="mdp_bench_") as folder:
        config = config_of(args, [*overrides, ("data.threads", "1")], _drawn_config(folder))
        if not args.config:
            draw_folder(pathlib.Path(folder), PHOTOS)
        return _measured(config, args.seconds)


def _measured(config: ConfigDict, seconds: float) -> tuple[list[Row], str]:
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    mesh = sharding.make_mesh(config.devices)  # starts JAX, whose own threads stay on all cores
    (checks.pretraining if "sources" in config else checks.finetuning)(config, mesh.size)
    opened = [
        sources.open_source(dataset, config.data, config.data_dir, "train", config.seed)
        for dataset in sources.datasets_of(config)
    ]
    samples = _spread(opened)
    files = [source.files(i) for source, i in samples]
    source, i = samples[0]
    height, width = source[i]["label"].shape
    with one_core():
        ours = _ours(config, opened, mesh, samples, files)
        theirs = _theirs(config, files) if _comparable(config, files) else None
        with Progress(len(ours.parts) + 1, unit="measurement") as progress:
            rows = [*_alone(ours, theirs, seconds, progress), *_together(ours, theirs, seconds, config.batch)]
            progress.update(len(ours.parts) + 1)
    rows.append(_on_all_cores(config, opened, mesh, seconds))
    return rows, (
        f"Images/s of one core, but for the last row, of {counted(cores(), 'core')}: "
        f"{counted(len(samples), 'photo')}, the first of {height} x {width} pixels; "
        f"{counted(_views(config), 'view')} of each, {config.data.crop[0]} x {config.data.crop[1]}; "
        f"batches of {config.batch}."
    )


def _alone(ours: _Side, theirs: _Side | None, seconds: float, progress: Progress) -> list[Row]:
    rows = []
    for done, name in enumerate(ours.parts):
        progress.update(done)
        own = ours.parts[name].rate(seconds)
        other = theirs.parts[name].rate(seconds) if theirs and name in theirs.parts else None
        rows.append(Row(f"data: {name}", own, other))
    progress.update(len(ours.parts))
    return rows


def _together(ours: _Side, theirs: _Side | None, seconds: float, batch: int) -> list[Row]:
    streams = {name: side.stream for name, side in (("ours", ours), ("theirs", theirs)) if side}
    rates = results_per_second(streams, seconds)
    cases = ("data: all together", "data: all together, by processor time")
    return [
        Row(case, batch * rates["ours"][k], batch * rates["theirs"][k] if "theirs" in rates else None)
        for k, case in enumerate(cases)
    ]


def _on_all_cores(config: ConfigDict, opened: list, mesh: jax.sharding.Mesh, seconds: float) -> Row:
    threaded = config.copy_and_resolve_references()
    threaded.data.threads = cores()
    rate, _ = results_per_second({"ours": _stream(_pipeline(threaded, opened), mesh)}, seconds)["ours"]
    return Row("data: all together, on all cores", config.batch * rate, None)


def _spread(opened: list) -> list[tuple]:
    """(source, index) of PHOTOS samples, or of all there are, taken from the sources in turn."""
    each_source = ([(source, i) for i in range(min(len(source), PHOTOS))] for source in opened)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*each_source))
    return [sample for sample in turns if sample is not None][:PHOTOS]


def _comparable(config: ConfigDict, files: list) -> bool:
    """Whether PyTorch is here and its side does the same work: without what it leaves out it would look faster."""
    plain = config.data.short_side == 0 and not config.data.cache
    same = plain and "sources" not in config and config.data.category_ratio >= 1 and all(files)
    return bool(same and importlib.util.find_spec("torch"))


def _views(config: ConfigDict) -> int:
    return 1 + ("sources" in config and OBJECTIVES[config.objective].two_views)


def _pipeline(config: ConfigDict, opened: list) -> Callable:
    """Starts the pipeline of a run at a batch."""
    if "sources" in config:
        space = label_spaces.build(opened, config.label_space)
        return functools.partial(pipeline.pretrain_batches, config, opened, space, key_view=_views(config) == 2)
    return functools.partial(pipeline.finetune_batches, config, opened[0])


def _to_device(batch: dict, mesh: jax.sharding.Mesh) -> None:
    jax.block_until_ready(sharding.to_devices(batch, mesh))


def _stream(start: Callable, mesh: jax.sharding.Mesh) -> Stream:
    @contextlib.contextmanager
    def stream() -> Iterator[Callable[[], object]]:
        with contextlib.closing(start(start_batch=0)) as batches:
            yield lambda: _to_device(next(batches), mesh)

    return stream


def _ours(config: ConfigDict, opened: list, mesh: jax.sharding.Mesh, samples: list[tuple], files: list) -> _Side:
    """Each part of the pipeline by itself, a photo or a batch at a time, and all of it."""
    view: Callable = augment.pretrain_view if "sources" in config else augment.finetune_view
    start = _pipeline(config, opened)

    def one_view(item: tuple[int, dict]) -> tuple:
        number, sample = item
        rng = np.random.default_rng(number)  # the same work whenever this photo comes
        return sum((view(sample["image"], sample["label"], rng, config.data) for _ in range(_views(config))), ())

    with contextlib.closing(start(start_batch=0)) as batches:
        batch = next(batches)
    decoded = list(enumerate(source[i] for source, i in samples))
    stacked = grain.MapDataset.source([one_view(item) for item in decoded]).repeat().batch(config.batch)
    waits = time.perf_counter
    reading = {"read and decode": _Part(lambda sample: sample[0][sample[1]], samples, clock=waits)}
    if all(len(pair) == 2 for pair in files):
        reading = {"read": _Part(_read, files, clock=waits), "decode": _Part(_decode, [_read(pair) for pair in files])}
    parts = reading | {
        "augment": _Part(one_view, decoded),
        "batch": _Part(lambda number: stacked[number], range(2), images=config.batch),
        "to device": _Part(lambda batch: _to_device(batch, mesh), [batch], images=config.batch, clock=waits),
    }
    return _Side(parts, _stream(start, mesh))


def _read(pair: tuple[pathlib.Path, pathlib.Path]) -> tuple[bytes, bytes]:
    photo, mask = pair
    return photo.read_bytes(), mask.read_bytes()


def _decode(pair: tuple[bytes, bytes]) -> tuple[np.ndarray, np.ndarray]:
    photo, mask = pair
    return images.decode_photo("photo", photo), images.decode_mask("mask", mask, palette=True)


def _theirs(config: ConfigDict, files: list) -> _Side:
    """The same parts of a DataLoader, but for those that are no work of its own: reading bytes, and the device."""
    from mdp_jax.parity import torch_loader

    torch_loader.use_one_thread()
    view = torch_loader.View(config.data)
    encoded = [_read(pair) for pair in files]
    decoded = [(*torch_loader.decode(*pair), i) for i, pair in enumerate(encoded)]

    def one_view(item: tuple) -> tuple:
        photo, mask, number = item
        return view(photo, mask, np.random.default_rng(number))

    augmented = [one_view(item) for item in itertools.islice(itertools.cycle(decoded), config.batch)]
    batches = torch_loader.batches(files, view, config.batch)
    parts = {
        "decode": _Part(lambda pair: torch_loader.decode(*pair), encoded),
        "augment": _Part(one_view, decoded),
        "batch": _Part(torch_loader.collate, [augmented], images=config.batch),
    }
    return _Side(parts, lambda: contextlib.nullcontext(lambda: next(batches)))
