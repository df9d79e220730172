"""`mdp inspect`: what a pretraining has found of its classes, as tables, pictures and one page."""

import argparse
import sys

import numpy as np

from mdp_jax.commands import earlier
from mdp_jax.commands.arguments import add_weights, named, place
from mdp_jax.errors import UserError
from mdp_jax.evaluation import banks
from mdp_jax.evaluation.chosen_weights import MOMENTUM, PLAIN
from mdp_jax.reporting import bank, bank_figures, runs
from mdp_jax.reporting.report import Figure, Section, html
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_bytes, write_text
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.storage.paths import as_path, make_folder, require_possible
from mdp_jax.words import counted

_PAIRS = 15  # rows in the terminal
_NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp inspect` to a parser."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=named,
        help="workdir of a pretraining (mdp pretrain, edit-bank or adopt --append); all kept checkpoints are read",
    )
    parser.add_argument(
        "--out",
        type=named,
        help="folder for inspect.html, CSV files and pictures (default: inspect in the workdir)",
    )
    parser.add_argument(
        "--map",
        choices=(*bank_figures.METHODS, _NONE),
        default="pca",
        help="a picture of classes and pixels in a plane: principal axes (default), t-SNE (needs the extra 'inspect'), "
        "or none",
    )
    parser.add_argument(
        "--pixels",
        type=int,
        default=20,
        metavar="N",
        help="of each class in the map, and for the length of their mean (default 20; 0: no photo is read)",
    )
    add_weights(parser, "the workdir, for the pixels of the map", (PLAIN, MOMENTUM))
    parser.add_argument("--data_dir", type=place, help="folder of the sets (default: that of the run)")


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Reads the kept checkpoints, prints what may be wrong and which classes are alike, and writes all of it.

    Args:
      args: what `add_arguments` declares.
      overrides: none.

    Raises:
      UserError: no such workdir, an objective without vectors of classes, or files that cannot be written.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: mdp inspect changes no config; expected no such argument")
    if args.pixels < 0:
        raise UserError(f"--pixels {args.pixels}: expected 0 for none, or a number of pixels")
    for name in ("weights", "data_dir"):
        if getattr(args, name) and not args.pixels:
            raise UserError(
                f"--{name} {getattr(args, name)}: of photos, and --pixels 0 reads none; leave one of them out"
            )
    if args.out:
        require_possible(args.out, "--out")
    if args.map == "tsne":
        bank_figures.require_tsne()
    found = banks.history(args.checkpoint, _say)
    newest = found.steps[-1]
    if newest.seen.sum() < 2:
        raise UserError(
            f"{args.checkpoint}: {counted(int(newest.seen.sum()), 'class', 'classes')} seen so far; expected at "
            "least two"
        )
    out = as_path(args.out or as_path(args.checkpoint) / "inspect")
    require_possible(out, "--out")
    metrics, wrong = read_metrics(args.checkpoint), bank.sentences(found.steps)
    pixels = None
    if args.pixels:
        pixels = banks.sample_pixels(args.checkpoint, found, args.pixels, args.data_dir, _say, args.weights)
    lengths = None
    if pixels is not None and len(pixels.ids):
        lengths = bank.mean_lengths(pixels.vectors, pixels.ids, len(newest.seen))
    table, pairs = bank.classes_table(found.steps, lengths), bank.neighbours_table(newest)
    pictures = _pictures(args, found, pixels, metrics)
    summary = _summary(found, runs.read_edited(args.checkpoint))
    page = html(_title(found), _sections(found, wrong, pictures, table, summary, args.checkpoint))
    make_folder(out, "--out")
    write_text(out / "classes.csv", bank.as_csv(table))
    write_text(out / "neighbours.csv", bank.as_csv(pairs))
    for name, figure in pictures.items():
        write_bytes(out / f"{name}.png", figure.png)
    write_text(out / "inspect.html", page)
    earlier.say([out / "map.png"] * ("map" not in pictures))
    for sentence in wrong:
        print(f"mdp: warning: {sentence}")
    console().print(for_terminal(summary))
    if len(newest.set_names) > 1:
        console().print(for_terminal(bank.neighbours_table(newest, most=_PAIRS, mutual=True)))
    print(f"tables, pictures and page: {out}")


def _say(line: str) -> None:
    print(f"mdp: {line}", file=sys.stderr)


def _title(found: banks.History) -> str:
    return f"Classes of {', '.join(found.steps[-1].set_names)} after step {found.steps[-1].step}"


def _pictures(
    args: argparse.Namespace, found: banks.History, pixels: banks.Pixels | None, metrics: list[dict]
) -> dict[str, Figure]:
    newest = found.steps[-1]
    heat = bank_figures.clustered_heatmap(newest)
    pictures = {"heatmap": Figure(heat, "Cosines between all classes; alike ones stand together, whatever their set.")}
    if args.map != _NONE and newest.seen.sum() > 2:
        if pixels is None:
            pixels = banks.Pixels(np.zeros((0, newest.vectors.shape[1]), np.float32), np.zeros(0, np.int64))
        keep = newest.seen[pixels.ids]
        png, words = bank_figures.map_picture(newest, pixels.vectors[keep], pixels.ids[keep], args.map)
        dots = f"; dots: {keep.sum()} pixels" if len(keep) else ""
        caption = f"Classes (marks, named where there is room{dots}) in {words}."
        pictures["map"] = Figure(png, caption)
    curves = bank_figures.over_time(found.steps, metrics)
    text = "Above: the mean cosine between classes. Middle: classes seen."
    text += " Below: the median of the angles by which the classes of a set have turned." * (len(found.steps) > 1)
    return pictures | {"over_time": Figure(curves, text)}


def _summary(found: banks.History, edited: dict | None) -> Table:
    newest = found.steps[-1]
    vectors = newest.vectors[newest.seen]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    mutual = sum(pair.mutual for pair in bank.neighbours(newest))
    kept = ", ".join(str(one.step) for one in found.steps)
    rows = [
        ["kept steps", kept],
        ["classes seen", f"{newest.seen.sum()} of {len(newest.seen)}"],
        ["mean cosine between classes", runs.cosine_in_words(bank.mean_cosine(newest))],
        ["effective dimension", runs.dimension_in_words(runs.effective_dimension(unit), min(unit.shape))],
        ["pairs of classes that are nearest both ways", str(mutual)],
    ]
    if edited and (gone := runs.gone_sets(edited, [source.name for source in found.config.sources])):
        names = ", ".join(row["name"] for row in gone)
        whose = "this set" if len(gone) == 1 else "these sets"
        rows.append(["taken out by mdp edit-bank", f"{names}; the weights were trained on {whose} before"])
    return Table(["classes", ""], rows)


def _sections(
    found: banks.History,
    wrong: list[str],
    pictures: dict[str, Figure],
    table: Table,
    summary: Table,
    checkpoint: str,
) -> list[Section]:
    newest = found.steps[-1]
    said = "\n\n".join(sentence[0].upper() + sentence[1:] + "." for sentence in wrong) or "Nothing looks wrong."
    sections = [Section("Summary", said, [summary])]
    if len(newest.set_names) > 1:
        text = (
            "Classes of different sets whose vectors are nearest to each other, both ways. Nobody told the network "
            "which of them mean the same. All nearest classes are in neighbours.csv."
        )
        sections.append(Section("Nearest classes of other sets", text, [bank.neighbours_table(newest, mutual=True)]))
    sections.append(Section("Similarity", figures=[pictures["heatmap"]]))
    if "map" in pictures:
        sections.append(Section("Map", figures=[pictures["map"]]))
    sections.append(Section("Over time", _TOLD[len(found.steps) > 1], figures=[pictures["over_time"]]))
    sections.append(Section("Classes", "The same as in classes.csv.", [table]))
    return [*sections, runs.about([("workdir", checkpoint), ("objective", found.config.objective)])]


_TOLD: dict[bool, str] = {
    True: "",
    False: "One checkpoint is kept. With config.keep_checkpoints or config.keep_every a run keeps more of them, and "
    "this page then says how far each class turns.",
}
