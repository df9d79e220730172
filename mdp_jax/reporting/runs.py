"""What a run tells at its beginning, and the report.html in its workdir at its end."""

import pathlib

import numpy as np
import rich.console

from mdp_jax.reporting import contact_sheet, figures
from mdp_jax.reporting.report import Figure, Section, html
from mdp_jax.reporting.tables import Table, for_terminal, scores_table
from mdp_jax.storage.json_files import write_text
from mdp_jax.storage.metrics_file import read_metrics

PREVIEW_PAIRS = 4
PREVIEW_PHOTOS = 6
CLOSE = 0.95  # cosine from which the summary counts two prototypes as close


def datasets_table(datasets, shares: dict) -> Table:
    """Photos and classes of each dataset and its share of the samples (data/mixture.py, `shares`)."""
    rows = [
        [source.name, len(source), len(source.classes), 100 * share]
        for source, share in zip(datasets, shares["datasets"], strict=True)
    ]
    pairs = ", ".join(f"{name} {100 * shares[name]:.1f} %" for name in contact_sheet.KINDS.values())
    return Table(["dataset", "photos", "classes", "samples (%)"], rows, f"Pairs: {pairs}")


def print_datasets(datasets, shares: dict, steps: int, batch: int, warmup_epochs: float) -> None:
    """Prints what a pretraining run is about to do; `warmup_epochs` as in the config, 0 where stages have their own."""
    samples = sum(len(source) for source in datasets)
    console = rich.console.Console(stderr=True)
    console.print(for_terminal(datasets_table(datasets, shares)))
    epochs = steps * batch / samples
    text = f"{steps} steps of {batch} samples: {epochs:.1f} epochs"
    if 0 < epochs <= warmup_epochs:
        text += f"; the learning rate rises to the end, as config.optim.warmup_epochs={warmup_epochs}"
    console.print(text, highlight=False)


def series(rows: list[dict], *names: str) -> dict[str, list[tuple[int, float]]]:
    """{metric: [(step, value), ...]} of the rows of metrics.jsonl that hold them."""
    return {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}


def _dataset_series(rows: list[dict], names: list[str]) -> dict:
    measured = [row for row in rows if "dataset_loss" in row]
    return {
        name: [(row["step"], row["dataset_loss"][i]) for row in measured if row["dataset_loss"][i] is not None]
        for i, name in enumerate(names)
    }


def preview(batch: dict, label_space, datasets) -> bytes:
    """A picture of the first pairs of a pretraining batch."""
    first = contact_sheet.choose_pairs(batch, range(min(PREVIEW_PAIRS, len(batch["mix_kind"]))))
    colours = contact_sheet.class_colours(datasets)[label_space.first_rows()]
    return contact_sheet.pairs(first, label_space, colours)


def effective_dimension(vectors: np.ndarray) -> float:
    """exp(entropy) of the shares of the principal axes through 0 in unit vectors [n, D], n at least 1.

    1 = all in one direction, a collapsed bank; min(n, D) = in all directions alike.
    """
    shares = np.linalg.svd(vectors, compute_uv=False) ** 2
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def bank_summary(bank, label_space) -> Table:
    """How full and how crowded the bank is: cosines between the prototypes of different seen classes."""
    seen = np.asarray(bank.images_seen) > 0
    vectors = np.asarray(bank.vectors, np.float64)[seen]
    between = vectors @ vectors.T
    np.fill_diagonal(between, np.nan)
    several = len(vectors) > 1
    close = np.sum(np.nanmax(between, axis=1) > CLOSE) if several else 0
    rows = [
        ["classes seen", f"{seen.sum()} of {len(seen)}"],
        ["mean cosine between classes", f"{np.nanmean(between):.3f}" if several else "–"],
        ["largest cosine between classes", f"{np.nanmax(between):.3f}" if several else "–"],
        [f"classes with another above {CLOSE}", str(close)],
        ["effective dimension (1 = collapsed)", f"{effective_dimension(vectors):.1f}" if several else "–"],
    ]
    unseen = [name for name, there in zip(label_space.global_names(), seen, strict=True) if not there]
    if unseen:
        rows.append(["never seen", ", ".join(unseen[:20]) + (" ..." if len(unseen) > 20 else "")])
    return Table(["prototype bank", ""], rows)


def related_classes(bank, label_space, shown: int = 5) -> Table:
    """Of each seen class the seen classes whose prototypes are nearest, and the nearest ones of other datasets.

    Sparse coding (METHOD.md section 4) takes pixels nearer to the nearest classes of either kind.
    """
    vectors, names = np.asarray(bank.vectors, np.float64), label_space.global_names()
    seen, cosines = np.flatnonzero(np.asarray(bank.images_seen) > 0), vectors @ vectors.T

    def nearest(own: int, among: np.ndarray) -> str:
        found = among[np.argsort(-cosines[own, among], kind="stable")[:shown]]
        return ", ".join(f"{names[i]} {cosines[own, i]:.2f}" for i in found) or "–"

    rows = [
        [dataset, label, nearest(own, np.setdiff1d(seen, own)), nearest(own, np.setdiff1d(seen, ids))]
        for (dataset, classes), ids in zip(label_space.datasets, label_space.global_ids, strict=True)
        for label, own in zip(classes, ids, strict=True)
        if own in seen
    ]
    return Table(["dataset", "class", "nearest classes (cosine)", "nearest classes of other datasets"], rows)


def heatmap(bank, label_space) -> Figure:
    """The similarities of all prototypes, as a figure of a report."""
    picture = figures.similarity_heatmap(np.asarray(bank.vectors), np.asarray(bank.images_seen), label_space.blocks())
    return Figure(
        picture, "Cosine similarity of the prototypes. Off the diagonal blocks: classes of different datasets."
    )


def pretrain_sections(folder, label_space, bank, datasets, tables: list[Table], batch: dict) -> list[Section]:
    """The sections of a pretraining run: data with their tables, curves, and the bank where the objective has one."""
    rows = read_metrics(folder)
    names = [name for name, _ in label_space.datasets]
    losses = figures.curves(series(rows, "loss", "prototype_loss", "sparse_loss"), "loss")
    each = figures.curves(_dataset_series(rows, names), "loss of pixels with one label")
    accuracy = figures.curves(series(rows, "accuracy"), "pixels classified right (share)")
    sections = [
        Section(
            "Data",
            "What the network sees: two views of each sample, the first one mixed inside pairs.",
            tables,
            [
                Figure(
                    preview(batch, label_space, datasets),
                    "The first samples of the first batch; stripes are ignored pixels.",
                )
            ],
        ),
        Section(
            "Training",
            figures=[
                Figure(losses, "Loss and its terms."),
                Figure(each, "The loss of each dataset."),
                Figure(accuracy, "Share of the pixels whose class has the nearest prototype, or the largest logit."),
            ],
        ),
    ]
    if bank:
        crowding = figures.curves(series(rows, "bank_cosine"), "mean cosine")
        pictures = [heatmap(bank, label_space), Figure(crowding, "Mean cosine between the prototypes; 1 = collapsed.")]
        found = [bank_summary(bank, label_space), related_classes(bank, label_space)]
        sections.append(Section("Prototypes", tables=found, figures=pictures))
    return sections


def write_page(folder, title: str, sections: list[Section]) -> pathlib.Path:
    """Writes report.html into a folder and says where it is."""
    file = pathlib.Path(folder) / "report.html"
    write_text(file, html(title, sections))
    print(f"report: {file}")
    return file


def prediction_rows(photos, networks: dict, count: int = PREVIEW_PHOTOS) -> list[tuple]:
    """Rows for `figures.prediction_grid` from photos spread evenly over a source.

    Args:
        photos: an evaluation source.
        networks: name -> function (image, size) -> label map.
        count: how many photos, at most.
    """
    rows = []
    for index in np.unique(np.linspace(0, len(photos) - 1, count).round().astype(int)):
        sample = photos[int(index)]
        size = sample["label"].shape
        rows.append(
            (sample["image"], sample["label"], {name: label(sample["image"], size) for name, label in networks.items()})
        )
    return rows


def finetune_sections(folder, photos, predict, scores: dict) -> list[Section]:
    """The sections of a fine-tuning run: scores, pictures, curves.

    Args:
        folder: its workdir.
        photos: evaluation source.
        predict: (image, size) -> label map.
        scores: of evaluation/metrics.py.
    """
    rows = read_metrics(folder)
    shown = prediction_rows(photos, {"prediction": predict})
    grid = figures.prediction_grid(shown, photos.classes, photos.palette)
    return [
        Section("Scores", tables=[scores_table({"IoU (%)": scores}, f"{photos.name}, {scores['images']} photos")]),
        Section("Predictions", figures=[Figure(grid, "Validation photos, spread evenly over the set.")]),
        Section(
            "Training",
            figures=[
                Figure(figures.curves(series(rows, "loss"), "cross entropy"), "Training loss."),
                Figure(figures.curves(series(rows, "val_mIoU"), "mIoU (%)"), "Validation mIoU."),
            ],
        ),
    ]
