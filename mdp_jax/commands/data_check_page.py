"""The page of `mdp data check --html`: balance, sizes, examples of each class, and the oddest masks."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mdp_jax.data.doctor import oddness
from mdp_jax.data.doctor.findings import Part
from mdp_jax.reporting import balance, contact_sheet, figures
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.reporting.tables import Table

_CLASSES = 8  # in one picture of examples
_MOST_CLASSES = 40  # of which examples are shown; a page with those of all would be huge
_IN_A_ROW = 3  # odd masks
_ODD = 6  # masks of each part
_STRIPES = "Stripes are ignored pixels."


def sections(parts: Sequence[Part], tables: Sequence[Table], said: Sequence[str]) -> list[Section]:
    """The sections of the page.

    Args:
      parts: whose photos were read.
      tables: of all parts.
      said: warnings and problems.
    """
    found = [Section("What was found", "\n\n".join(said) or "Nothing to warn of.", list(tables))]
    for name, classes in dict.fromkeys((part.dataset, part.opened.classes) for part in parts):
        own = [part for part in parts if (part.dataset, part.opened.classes) == (name, classes) and part.contents.sizes]
        if own:
            found += _of_dataset(name, classes, own)
    return found


def _of_dataset(name: str, classes: tuple[str, ...], parts: Sequence[Part]) -> list[Section]:
    sizes = {part.split: part.contents.sizes for part in parts}
    shape = Figure(balance.sizes(sizes), "A point for each size of the photos; a larger one stands for more photos.")
    if not classes:
        return [Section(f"{name}: sizes", figures=[shape])]
    amounts = {
        part.split: balance.Amounts(
            np.array([part.contents.percent(index) or 0.0 for index in range(len(classes))]), part.contents.photos[1:]
        )
        for part in parts
    }
    drawn = [Figure(balance.bars(classes, amounts), "Shares and photos of each class.")]
    counts = np.sum([part.contents.together for part in parts], axis=0)
    if np.count_nonzero(np.diagonal(counts)) > 1:
        text = "Which classes come together, over all splits. In brackets: photos with the class of the row."
        drawn.append(Figure(balance.together(classes, counts), text))
    return [
        Section(f"{name}: balance", figures=[*drawn, shape]),
        _examples(name, classes, parts[0]),
        *[section for part in parts if (section := _odd(part))],
    ]


def _examples(name: str, classes: tuple[str, ...], part: Part) -> Section:
    source, colours = part.opened, contact_sheet.class_colours([part.opened])
    best = {classes[index]: [photo for _, photo in shares] for index, shares in sorted(part.contents.best.items())}
    pictures = []
    # Of many classes the rarest, since these are the ones to be looked at.
    rare = sorted(best, key=lambda label: int(part.contents.photos[classes.index(label) + 1]))[:_MOST_CLASSES]
    labels = [label for label in best if label in rare]
    for start in range(0, len(labels), _CLASSES):
        shown = {
            label: [(source[photo]["image"], source[photo]["label"]) for photo in best[label]]
            for label in labels[start : start + _CLASSES]
        }
        names = "; ".join(f"{label}: {', '.join(map(source.describe, best[label]))}" for label in shown)
        png = _lighter(contact_sheet.examples(shown, classes, colours))
        pictures.append(Figure(png, f"{_STRIPES} {names}."))
    of = "each class" if len(labels) == len(best) else f"the {len(labels)} rarest of {len(best)} classes"
    text = f"For {of} the photos of {part} that it fills most of. mdp data browse shows more."
    return Section(f"{name}: examples of each class", text, figures=pictures)


def _lighter(png: bytes) -> bytes:
    """A picture with 256 colours, which has about a third of the bytes; smooth skies show steps."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(buffer, "PNG")
    return buffer.getvalue()


def _odd(part: Part) -> Section | None:
    odd = oddness.oddest(part.contents.measures, _ODD)
    if not odd:
        return None
    source, colours = part.opened, contact_sheet.class_colours([part.opened])
    samples = [source[one.photo] for one in odd]
    pictures = []
    for start in range(0, len(odd), _IN_A_ROW):
        some = slice(start, start + _IN_A_ROW)
        rows = {
            "photo": [sample["image"] for sample in samples[some]],
            "mask": [sample["label"] for sample in samples[some]],
        }
        titles = [str(start + number + 1) for number in range(len(odd[some]))]
        png = _lighter(figures.batch_preview(rows, titles, source.classes, colours, rows["mask"]))
        lines = (
            f"{title}: {one.why}, {source.describe(one.photo)}" for title, one in zip(titles, odd[some], strict=True)
        )
        pictures.append(Figure(png, f"{_STRIPES} {'; '.join(lines)}."))
    text = "Masks that are unlike the others of their split. An odd mask need not be a wrong one: look at it."
    return Section(f"{part}: the oddest masks", text, figures=pictures)
