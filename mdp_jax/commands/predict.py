"""`mdp predict`: label maps, overlays and probabilities for photos."""

import argparse
import concurrent.futures
import io
import os
import pathlib
import sys

import cv2
import numpy as np
from PIL import Image

from mdp_jax import runtime
from mdp_jax.commands import arguments, earlier, predict_files
from mdp_jax.configs import typed, typed_pretrain
from mdp_jax.data import images
from mdp_jax.data.kinds import KINDS
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views, workdirs
from mdp_jax.evaluation.inference import Predictor, Probable, Segmenter
from mdp_jax.evaluation.named import ByName, NamedSegmenter, by_name, is_file, read_names, seen_classes
from mdp_jax.evaluation.pretrained import ALL, SetSegmenter, answers_in
from mdp_jax.evaluation.tiles import GRID, LEAST, require_tile
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.reporting.colors import contours, of_classes, overlay
from mdp_jax.reporting.progress import Progress
from mdp_jax.storage.json_files import write_bytes
from mdp_jax.storage.paths import make_folder, require_possible
from mdp_jax.words import counted

LABELS, OVERLAY, CONTOURS = ".png", "_overlay.jpg", "_contours.png"
PROBABILITIES = {"": "", "max": "_probability.png", "classes": "_probabilities.npz"}  # by the value of the argument
MOST_PIXELS = 65_500  # on a side, as a JPEG has at most
MOST_CLASSES = 255  # that the 8 bits of a label PNG tell apart, 255 being kept for ignored pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp predict` to a parser."""
    parser.add_argument(
        "--checkpoint", required=True, type=arguments.named, help="workdir of mdp finetune, mdp adopt or mdp pretrain"
    )
    parser.add_argument(
        "--as",
        dest="answers",
        default=ALL,
        metavar="SET",
        help="of a pretrained workdir: the set in whose classes photos are labelled; or all (default), whose ids are "
        "those of label_space.json; or a .txt file of class names, one on each line, which its classes answer for by "
        "their names",
    )
    arguments.add_names(parser)
    parser.add_argument(
        "--out",
        required=True,
        type=arguments.named,
        help="folder for NAME.png (class ids; of 16 bits for more than 255 classes) and NAME_overlay.jpg of each "
        "photo; photos of a folder keep their paths",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=arguments.named,
        metavar="IMAGE",
        help="photos, folders with photos at any depth, or patterns in quotes such as 'data/**/*.jpg'",
    )
    arguments.add_step(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--probabilities",
        choices=[name for name in PROBABILITIES if name],
        default="",
        help="max: also NAME_probability.png, 0 to 255 = the probability of the label in each pixel; classes: also "
        "NAME_probabilities.npz, uint8 [H, W, C] with the probability of every class",
    )
    parser.add_argument(
        "--contours", action="store_true", help="also NAME_contours.png, the photo with the outlines of its labels"
    )
    parser.add_argument(
        "--palette", action="store_true", help="NAME.png shows the ids in colours (a palette PNG; its values are ids)"
    )
    arguments.add_platform(parser)
    views.add_arguments(parser)
    parser.add_argument(
        "--tile",
        type=int,
        default=0,
        metavar="PIXELS",
        help=f"cut larger photos into tiles of this side, as 1024 (a multiple of {GRID} from {LEAST} on), so that "
        "memory does not grow with the photo; a quarter of a tile on each side only gives context (default 0: as a "
        "whole)",
    )
    parser.epilog = (
        "Config values of the data can be set by --config.key=value, e.g. --config.data.short_side=480. "
        "Photos stand before --scales or after another option."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Labels photos with a checkpoint of a workdir. All photos are read once before anything is written.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.

    Raises:
      UserError: there is no such workdir or set, views are impossible, a photo cannot be read or is too large, two
        photos have the same name, or an output would replace a photo, or a label map a file of somebody else.
    """
    runtime.start_devices(args.platform)
    require_tile(args.tile, f"--tile {args.tile}")
    photos = predict_files.find(args.images, args.out)
    also = [CONTOURS] * args.contours + [PROBABILITIES[args.probabilities]] * bool(args.probabilities)
    outputs = predict_files.plan(photos, args.out, [LABELS, OVERLAY, *also])
    for labels, shown_labels, *_ in outputs:
        predict_files.require_own(labels, shown_labels, args.out)
    require_possible(args.out, "--out")
    changed: dict[str, list[str]] = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for photo, changes in zip(photos, pool.map(_changes, [photo.path for photo in photos]), strict=True):
            for change in changes:
                changed.setdefault(change, []).append(photo.path)
    run = workdirs.load(args.checkpoint, overrides, step=args.step or "", weights=args.weights)
    config, palette = run.config, None if run.pretraining else run.palette()
    named = _by_name(args, run)
    shown = views.of_arguments(args, config.data)
    segmenter: Segmenter
    if named is not None:
        classes, segmenter = named.classes, NamedSegmenter(typed_pretrain(config), run.label_space, named)
    elif run.pretraining:
        classes, ids = answers_in(run.label_space, args.answers, f"--as {args.answers}: {args.checkpoint}")
        segmenter = SetSegmenter(typed_pretrain(config), run.label_space, ids)
    else:
        answers_in(run.label_space, args.answers, f"--as {args.answers}: {args.checkpoint}")
        classes, segmenter = run.classes, network.segmenter(config.model, len(run.classes))
    if args.palette and len(classes) > MOST_CLASSES:
        raise UserError(f"--palette: {len(classes)} classes; expected at most {MOST_CLASSES}, as a palette PNG has")
    for change, paths in changed.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        print(f"mdp: {paths[0]}{more}: {change}", file=sys.stderr)
    for line in named.said() if named else ():
        print(f"mdp: --as {args.answers}: {line}", file=sys.stderr)
    if named is None and run.pretraining and args.answers == ALL and len(run.label_space.datasets) > 1:
        print(
            f"mdp: --as {ALL}: labels are the ids of all sets, as in {run.folder / 'label_space.json'}; --as SET gives "
            "those of one set",
            file=sys.stderr,
        )
    make_folder(args.out, "--out")
    print(runtime.described(1), file=sys.stderr)
    stated = palette is not None and KINDS[config.dataset.kind].palette_file  # by the user
    normalise = Normalise.of(config.data, config.model.compute_dtype)
    predictor = Predictor(segmenter, normalise, shown, typed(config).model)
    depth = np.uint8 if len(classes) <= MOST_CLASSES else np.uint16
    colours = of_classes([(classes, palette)])
    in_colours = colours if args.palette else palette if stated else None
    with Progress(len(photos), unit="photo") as progress:
        for done, (photo, files) in enumerate(zip(photos, outputs, strict=True), start=1):
            image = images.read_photo(photo.path)
            height, width, _ = image.shape
            seen = images.resize_photo(image, *images.short_side_size(height, width, config.data.short_side))
            make_folder(files[0].parent, "--out")
            if args.probabilities:
                every = args.probabilities == "classes"
                found = predictor.probable(run.variables, seen, (height, width), every, args.tile)
                label = found.label
                _write_probabilities(files[-1], found, classes)
            else:
                label = predictor(run.variables, seen, (height, width), args.tile)
            # A legend that is too long for a JPEG is cut off.
            shown_with_legend = overlay(image, label, classes, colours)[:MOST_PIXELS, :MOST_PIXELS]
            write_picture(files[1], cv2.cvtColor(shown_with_legend, cv2.COLOR_RGB2BGR))
            write_picture(files[0], label.astype(depth), in_colours)  # behind the overlay, which says whose it is
            if args.contours:
                outlined = contours(image, label, classes, colours)
                write_picture(files[2], cv2.cvtColor(outlined, cv2.COLOR_RGB2BGR))
            progress.update(done)
    others = [suffix for suffix in (CONTOURS, *filter(None, PROBABILITIES.values())) if suffix not in also]
    earlier.say(labels.with_name(labels.stem + suffix) for labels, *_ in outputs for suffix in others)
    print(f"{counted(len(photos), 'photo')} labelled: label maps and overlays in {args.out}")


def _by_name(args: argparse.Namespace, run: workdirs.Workdir) -> ByName | None:
    """The classes that a file of --as names; None where it is a set."""
    sets = [name for name, _ in run.label_space.datasets]
    if args.answers in (*sets, ALL) or not is_file(args.answers):
        if args.names or args.near:
            option = f"--names {args.names}" if args.names else f"--near {args.near:g}"
            raise UserError(f"{option}: expected --as FILE too, a .txt file with the names of classes")
        return None
    if not run.pretraining:
        raise UserError(f"--as {args.answers}: {run.folder} is a workdir of mdp finetune; expected one of mdp pretrain")
    given = read_names(args.answers, "--as")
    seen = seen_classes(typed_pretrain(run.config), run.variables)
    return by_name(given, run.label_space, f"--as {args.answers}", args.names or "", args.near, seen)


def _write_probabilities(file: pathlib.Path, found: Probable, classes: tuple[str, ...]) -> None:
    """A PNG of one number a pixel, or an .npz of all classes with their names."""
    if file.suffix == ".png":
        write_picture(file, found.probability)
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=found.probability, classes=np.array(classes))
    write_bytes(file, buffer.getvalue())


def _changes(photo: str) -> list[str]:
    """What reading changes of a photo. UserError where it cannot be read, or its overlay not be written."""
    side = max(images.read_photo(photo).shape)
    if side > MOST_PIXELS:
        raise UserError(f"{photo}: a side of {side} pixels; expected at most {MOST_PIXELS}, as an overlay is a JPEG")
    return images.changes(photo)


def write_picture(path: pathlib.Path, picture: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Writes uint8 or uint16 [H,W], or BGR [H,W,3], in the format of the file's suffix: the file is whole or absent.

    With a `palette`, uint8 RGB [C,3], the values of a picture [H,W] are its indices in a palette PNG.

    Raises:
        UserError: the file cannot be written.
    """
    write_bytes(path, _encoded(path.suffix, picture, palette))


def _encoded(suffix: str, picture: np.ndarray, palette: np.ndarray | None) -> bytes:
    if palette is None:
        return cv2.imencode(suffix, picture)[1].tobytes()
    indexed, buffer = Image.fromarray(picture), io.BytesIO()
    indexed.putpalette(palette.ravel().tolist())
    indexed.save(buffer, "PNG")
    return buffer.getvalue()
