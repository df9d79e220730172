"""`mdp data check`: opens every photo and mask once, and says what training would meet."""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence

import numpy as np

from mdp_jax.commands import data_check_page
from mdp_jax.commands import data_selection as selection
from mdp_jax.commands.arguments import output_file, place, whole_number
from mdp_jax.data import sources
from mdp_jax.data.doctor import findings, oddness, shrinking
from mdp_jax.data.doctor.findings import Part
from mdp_jax.data.doctor.parts import label_space_failure, open_parts
from mdp_jax.data.doctor.scan import cores, scan
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.reporting import balance
from mdp_jax.reporting.progress import Progress
from mdp_jax.reporting.report import html
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json, write_text

SPLITS = ("train", "val", "test")
_ODD = 20  # masks of a part that the JSON names at most
_SHOWN = 3  # files of each kind of problem, and pairs of doubles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp data check` to a parser."""
    selection.add_arguments(parser)
    parser.add_argument("--splits", metavar="A,B", help="to be looked at (default train,val)")
    parser.add_argument(
        "--json", type=place, metavar="FILE", help="write all that was found, every file with a problem by name"
    )
    parser.add_argument(
        "--html",
        type=place,
        metavar="FILE",
        help="write a page: balance of the classes, which come together, examples of each, the oddest masks",
    )
    parser.add_argument(
        "--workers", type=whole_number, default=cores(), metavar="N", help="threads (default: one a core)"
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Opens every photo, prints tables, warnings and problems, and writes the JSON.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: an argument is wrong; or, after everything is printed, training would fail on the data.
    """
    file, page = output_file(args.json), output_file(args.html, "--html")
    config = selection.config_of(args, overrides)
    asked = _splits(args.splits)
    needed = asked or (("train", "val") if "dataset" in config else ("train",))
    datasets = sources.datasets_of(config)
    parts = open_parts(datasets, config.data, config.data_dir, config.seed, asked or ("train", "val"), needed)
    _look(parts, args.workers)
    size = (config.data.short_side, network.feature_stride(config.model))
    found = _Report(parts, config.label_space if "sources" in config else "concatenated", size)
    if file:
        write_json(file, found.as_json())
    found.print()
    if page:
        write_text(
            page, html("What is in the data", data_check_page.sections(found.looked_at, found.tables(), found.lines()))
        )
        print(f"page: {page}")
    if found.failures:
        more = f" (and {len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
        raise UserError(f"training would fail: {found.failures[0]}{more}")


def _splits(text: str | None) -> tuple[str, ...]:
    splits = tuple(text.split(",")) if text is not None else ()
    for split in splits:
        if split not in SPLITS or splits.count(split) > 1:
            raise UserError(
                f"--splits {text}: {split!r}; expected some of {','.join(SPLITS)}, each once, with commas between"
            )
    return splits


def _look(parts: Sequence[Part], workers: int) -> None:
    """Fills in what is found in each part, behind one progress bar."""
    opened = [part for part in parts if part.source is not None]
    total, done, start = sum(len(part.opened) for part in opened), 0, time.perf_counter()
    with Progress(total, unit="photo") as progress:

        def report(photos: int) -> None:
            nonlocal done
            before, done = done, done + photos
            # A file gets ten lines, a terminal every step.
            if progress.live or before * 10 // total < done * 10 // total:
                progress.update(done, images_per_second=done / (time.perf_counter() - start))

        for part in opened:
            part.found = scan(part.opened, workers, report)


class _Report:
    """What was found in all parts, to be printed and to be written."""

    def __init__(self, parts: Sequence[Part], kind: str, size: tuple[int, int]):
        """Draws the conclusions.

        Args:
          parts: all of them; those that could be opened were read.
          kind: of the label space that the datasets share.
          size: short side of photos and stride of features, in pixels.
        """
        self.parts = parts
        self.looked_at = [part for part in parts if part.found]
        self.doubles = findings.doubles(parts)
        self.clashes = label_space_failure(parts, kind)
        self.failures = findings.failures(parts) + self.clashes
        self.remarks = [line for part in self.looked_at for line in _remarks(part)]
        self.remarks += [line for part in self.looked_at if part.split == "train" for line in _losses(part, *size)]

    def print(self) -> None:
        """Tables, problems and warnings, to stdout."""
        screen = console()
        for table in self.tables():
            screen.print(for_terminal(table))
        sys.stdout.flush()
        for line in self.lines():
            print(line)

    def tables(self) -> list[Table]:
        """All tables."""
        return [photos_table(self.looked_at), sizes_table(self.looked_at), *class_tables(self.looked_at)]

    def lines(self) -> list[str]:
        """Warnings and problems."""
        lines = [f"warning: {line}" for line in self.remarks]
        lines += [line for double in self.doubles for line in self._double_lines(double)]
        for part in self.parts:
            lines += [f"problem: {part}: {part.refused}"] if part.refused else _problem_lines(part)
        lines += [f"problem: {clash}" for clash in self.clashes]
        lines.append(f"reasons to fail: {len(self.failures)}, warnings: {len(self.remarks) + len(self.doubles)}")
        return lines

    def _double_lines(self, double: findings.Doubles) -> list[str]:
        first, second = self.parts[double.first], self.parts[double.second]
        where = f"twice in {first}" if first is second else f"in {first} and {second}"
        lines = [f"warning: the same photo {where}: {len(double.photos)}"]
        lines += [f"  {one} = {other}" for one, other in double.photos[:_SHOWN]]
        return lines + _rest(double.photos)

    def as_json(self) -> dict:
        """{"parts": a dict for each split of each dataset, "doubles", "warnings", "failures"}."""
        return {
            "parts": [_part_json(part) for part in self.parts],
            "doubles": [
                {"first": str(self.parts[d.first]), "second": str(self.parts[d.second]), "photos": d.photos}
                for d in self.doubles
            ],
            "warnings": self.remarks,
            "failures": self.failures,
        }


def _remarks(part: Part) -> list[str]:
    return findings.remarks(str(part), part.opened, part.contents, part.plain_ids)


def _losses(part: Part, short_side: int, stride: int) -> list[str]:
    areas = part.contents.areas_of(part.opened.classes)
    return shrinking.remarks(str(part), part.contents.sizes, areas, short_side, stride)


def _problem_lines(part: Part) -> list[str]:
    lines = []
    for problems in findings.problems_by_kind(part):
        lines.append(f"problem: {part}: {len(problems)} of {len(part.opened)} photos:")
        lines += [f"  {problem.line}" for problem in problems[:_SHOWN]]
        lines += _rest(problems)
        hint = findings.look_into(part, problems)
        lines += [f"  perhaps: {hint}"] if hint else []
    return lines


def _rest(items: Sequence) -> list[str]:
    return [f"  and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []


def photos_table(parts: Sequence[Part]) -> Table:
    """A row for each part.

    Args:
      parts: whose photos were read.
    """
    rows = []
    for part in parts:
        found = part.contents
        seen = f"{found.classes_seen.sum()} of {len(part.opened.classes)}"
        counts = [len(part.opened), len(found.problems), found.percent_ignored, found.unlabelled]
        rows.append([part.dataset, part.split, *counts, seen])
    columns = ["dataset", "split", "photos", "unusable", "ignored %", "unlabelled", "classes seen"]
    return Table(columns, rows, "Photos (of all pixels, the ignored ones in %; photos without any labelled pixel)")


def sizes_table(parts: Sequence[Part]) -> Table:
    """Least, median and greatest height and width of the photos of each part.

    Args:
      parts: whose photos were read.
    """
    rows = [
        [part.dataset, part.split, side, *part.contents.sides(axis)]
        for part in parts
        for axis, side in enumerate(("height", "width"))
    ]
    return Table(["dataset", "split", "side", "min", "median", "max"], rows, "Sizes in pixels")


def class_tables(parts: Sequence[Part]) -> list[Table]:
    """A table for each dataset, with a row for each class.

    It has the share of the labelled pixels and the photos, by split; and of the first split a bar of the share, and the
    class that most of the photos have too.

    Args:
      parts: whose photos were read.
    """
    tables = []
    for name, classes in dict.fromkeys((part.dataset, part.opened.classes) for part in parts):
        splits = [part for part in parts if (part.dataset, part.opened.classes) == (name, classes)]
        columns = ["id", "class"]
        columns += [f"{part.split} {what}" for part in splits for what in ("%", "photos")]
        columns += [f"{splits[0].split} share", "most often with"]
        largest = max([splits[0].contents.percent(index) or 0.0 for index in range(len(classes))], default=0.0)
        rows = []
        for index, label in enumerate(classes):
            shares = [(part.contents.percent(index), int(part.contents.photos[index + 1])) for part in splits]
            drawn = balance.bar(shares[0][0] or 0.0, largest)
            rows.append([index, label, *itertools.chain.from_iterable(shares), drawn, _partner(splits[0], index)])
        tables.append(Table(columns, rows, f"Classes of {name} (of its labelled pixels, in %)"))
    return tables


def _odd(part: Part) -> list[oddness.Odd]:
    return oddness.oddest(part.contents.measures, _ODD)


def _partner(part: Part, index: int) -> str:
    """The other class that most photos of a class have too, and in how many of them."""
    counts = part.contents.together[index].copy()
    photos, counts[index] = int(counts[index]), 0
    if not photos or not counts.any():
        return ""
    other = int(np.argmax(counts))
    return f"{part.opened.classes[other]} ({100 * int(counts[other]) / photos:.0f} %)"


def _together_json(part: Part) -> dict[str, dict[str, int]]:
    """Class -> other class -> photos with both, where there are any."""
    labels, counts = part.opened.classes, part.contents.together
    pairs: dict[str, dict[str, int]] = {}
    for one, other in np.argwhere(np.triu(counts, 1)).tolist():
        pairs.setdefault(labels[one], {})[labels[other]] = int(counts[one, other])
    return pairs


def _part_json(part: Part) -> dict:
    row = {"dataset": part.dataset, "split": part.split, "needed": part.needed, "refused": part.refused or None}
    if not part.found:
        return row
    found, labels = part.found, part.opened.classes
    return row | {
        "photos": len(part.opened),
        "unusable": len(found.problems),
        "unlabelled": found.unlabelled,
        "height": found.sides(0)._asdict(),
        "width": found.sides(1)._asdict(),
        "pixels": int(found.pixels.sum()),
        "ignored_pixels": int(found.pixels[0]),
        "classes": [
            {"id": i, "class": label, "pixels": int(found.pixels[i + 1]), "photos": int(found.photos[i + 1])}
            for i, label in enumerate(labels)
        ],
        "together": _together_json(part),
        "odd_masks": [{"photo": part.opened.describe(odd.photo), "why": odd.why} for odd in _odd(part)],
        "never_seen": [labels[i] for i in np.flatnonzero(~found.classes_seen)],
        "problems": [{"photo": part.opened.describe(index), "problem": line} for index, line in found.problems],
        "passed_over": list(part.opened.passed_over),
        "passed_over_because": dict(part.opened.passed_over),
        "damaged": [{"photo": part.opened.describe(index), "damage": line} for index, line in found.damaged],
    }
