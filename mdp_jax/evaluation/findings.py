"""What one asks first of a network that was scored: its confusions, its worst and its best photos."""

import csv
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mdp_jax import distributed
from mdp_jax.data.kinds.kind import Source
from mdp_jax.evaluation import inference, metrics
from mdp_jax.evaluation.metrics import PhotoScore
from mdp_jax.reporting import contact_sheet, figures
from mdp_jax.reporting.figures import Predicted
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.reporting.tables import Table
from mdp_jax.storage.json_files import write_text
from mdp_jax.words import counted

_PHOTOS = 4  # of the worst, and of the best
_SAID = 5  # confusions that are said in words
_LISTED = 20  # confusions in a table
_AT_ONCE = 60  # classes up to which the whole matrix is drawn
_CHOSEN = 24  # classes of a larger one that are drawn
_UNITS = 10**9  # of a percentage that processes exchange as a whole number


class Measured(NamedTuple):
    """What a pass over all photos found.

    Attributes:
      counts: int64 [C+1,C+1], as metrics.confusion counts.
      scores: as Evaluator.scores gives them.
      photos: of each photo with labelled pixels.
    """

    counts: np.ndarray
    scores: dict
    photos: list[PhotoScore]


def measure(
    evaluator: inference.Evaluator, variables: dict, photos: int, report: inference.Report = lambda done: None
) -> Measured:
    """Scores all photos, and each by itself. With several processes each must call it.

    Args:
      evaluator: of the network and its photos.
      variables: as for inference.label_maps.
      photos: their number.
      report: called after every batch with the number of photos done so far.

    Raises:
      UserError: for the same reasons as Evaluator.counts.
    """
    own: list[PhotoScore] = []

    def each(index: int, counts: np.ndarray) -> None:
        found = metrics.photo_score(index, counts)
        if found is not None:
            own.append(found)

    counts, number = evaluator.total(variables, report, each)
    return Measured(counts, evaluator.scores(counts, number), _of_all(own, photos))


def _of_all(own: list[PhotoScore], photos: int) -> list[PhotoScore]:
    """The scores of the photos of all processes, in the order of the source."""
    if jax.process_count() == 1:
        return sorted(own)
    table = np.zeros((photos, 2), np.int64)
    for found in own:  # 0 is left for photos of other processes and for those without labels
        table[found.photo] = np.rint((np.array(found[1:]) + 1) * _UNITS)
    table = distributed.total(table)
    return [
        PhotoScore(int(index), *(float(value) / _UNITS - 1 for value in table[index]))
        for index in np.flatnonzero(table[:, 0])
    ]


def confusions_csv(file: pathlib.Path, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Writes a confusion matrix: a line for each true class, a column for each predicted one, pixels in the cells.

    Args:
      file: to write.
      counts: integer [C + 1, C + 1], as metrics.confusion returns it.
      classes: the C class names, in id order.

    Raises:
      UserError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ prediction", *classes])
    for name, row in zip(classes, np.asarray(counts)[:-1, :-1].tolist(), strict=True):
        writer.writerow([name, *row])
    write_text(file, text.getvalue())


def in_words(counts: np.ndarray, classes: Sequence[str], most: int = _SAID) -> list[str]:
    """The largest confusions, a sentence each.

    Args:
      counts: integer [C + 1, C + 1], as metrics.confusion returns it.
      classes: the C class names, in id order.
      most: sentences, at most.
    """
    return [f"{found.in_words(classes)}." for found in metrics.largest_confusions(counts, most)]


def confusions_section(counts: np.ndarray, classes: Sequence[str]) -> Section:
    """The confusion matrix as a section of a page: figure, sentences, table.

    Args:
      counts: integer [C + 1, C + 1], as metrics.confusion returns it.
      classes: the C class names, in id order.
    """
    inside = np.asarray(counts)[:-1, :-1]
    largest = metrics.largest_confusions(counts, _LISTED)
    rows: list[list[str | int | float | None]] = [
        [classes[one.truth], classes[one.predicted], 100 * one.of_truth, 100 * one.of_errors, one.pixels]
        for one in largest
    ]
    columns = ["pixels of", "are called", "of the class (%)", "of all errors (%)", "pixels"]
    shown, caption = np.arange(len(classes)), "Rows are the truth, and add up to 100 %. Columns are the prediction."
    if len(classes) > _AT_ONCE:
        wrong = inside * (1 - np.eye(len(inside), dtype=np.int64))
        taking_part = wrong.sum(axis=0) + wrong.sum(axis=1)
        shown = np.sort(np.argsort(-taking_part, kind="stable")[:_CHOSEN])
        caption = (
            f"The {_CHOSEN} of {len(classes)} classes with the most wrong pixels; the CSV file has all. Rows are the "
            "truth. Columns are the prediction. A row adds up to 100 % with the classes that are not shown."
        )
    png = figures.confusion_matrix(
        _with_rest(inside, shown), [*(classes[i] for i in shown.tolist()), *_rest(shown, classes)]
    )
    sentences = "\n".join(in_words(counts, classes)) or "No labelled pixel is wrong."
    return Section(
        "Confusions", sentences, [Table(columns, rows, "The largest")] if rows else [], [Figure(png, caption)]
    )


def _rest(shown: np.ndarray, classes: Sequence[str]) -> list[str]:
    return [] if len(shown) == len(classes) else ["(other classes)"]


def _with_rest(inside: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The rows and columns of some classes, and one of all others together where there are others."""
    if len(shown) == len(inside):
        return inside
    others = np.setdiff1d(np.arange(len(inside)), shown)
    rows = np.concatenate([inside[shown], inside[others].sum(axis=0, keepdims=True)])
    return np.concatenate([rows[:, shown], rows[:, others].sum(axis=1, keepdims=True)], axis=1)


def photos_section(
    photos: Sequence[PhotoScore],
    source: Source,
    predict: Callable[[np.ndarray, tuple[int, int]], np.ndarray],
    colours: np.ndarray | None = None,
) -> Section:
    """The worst and the best photos as a section of a page: photo, truth, prediction, errors.

    Args:
      photos: scores of the photos of the source.
      source: of the photos.
      predict: (photo, size) -> label map.
      colours: uint8 RGB [C, 3], of the classes; None = those of this source alone.
    """
    colours = contact_sheet.class_colours([source]) if colours is None else colours
    order = sorted(photos, key=lambda photo: (photo.miou, photo.right, photo.photo))
    count = min(_PHOTOS, max(len(order) // 2, 1))
    found = []
    for title, some in (("Worst", order[:count]), ("Best", order[: -count - 1 : -1])):
        if some:
            grid = _grid(some, source, predict, colours)
            found.append(Figure(grid, f"{title} photos, by the mIoU over the classes of the photo."))
    text = (
        f"{counted(len(photos), 'photo')} with labelled pixels. A photo in which a small class is missed has a low "
        "mIoU, even where most of its pixels are right. Look for wrong labels among the worst."
    )
    return Section("Worst and best photos", text, figures=found)


def _grid(
    photos: Sequence[PhotoScore],
    source: Source,
    predict: Callable[[np.ndarray, tuple[int, int]], np.ndarray],
    colours: np.ndarray,
) -> bytes:
    rows = []
    for photo in photos:
        sample = source[photo.photo]
        label = predict(sample["image"], sample["label"].shape)
        rows.append(Predicted(source.describe(photo.photo), sample["image"], sample["label"], {"prediction": label}))
    return figures.prediction_grid(rows, source.classes, colours)


def sections(
    measured: Measured,
    source: Source,
    predict: Callable[[np.ndarray, tuple[int, int]], np.ndarray],
    colours: np.ndarray | None = None,
) -> list[Section]:
    """Confusions, worst and best photos, as sections of a page.

    Args:
      measured: of the source.
      source: of the photos.
      predict: (photo, size) -> label map.
      colours: as for `photos_section`.
    """
    if not measured.photos:
        return []
    return [
        confusions_section(measured.counts, source.classes),
        photos_section(measured.photos, source, predict, colours),
    ]
