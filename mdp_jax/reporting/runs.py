"""What a run tells at its beginning, and the report.html in its workdir at its end."""

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence

import jax
import numpy as np
import rich.console

from mdp_jax import schema
from mdp_jax.configs import FinetuneConfig, FinetuneLossConfig, PretrainConfig, peak_learning_rate
from mdp_jax.method.prototypes import Bank
from mdp_jax.reporting import contact_sheet, figures
from mdp_jax.reporting.figures import Panel, Predicted
from mdp_jax.reporting.health import CLOSE, COLLAPSED, CROWDED
from mdp_jax.reporting.protocols import Classes, Photos
from mdp_jax.reporting.report import Figure, Section, html
from mdp_jax.reporting.tables import MEANS, Table, all_scores_table, for_terminal, means_table, text_of
from mdp_jax.storage.json_files import read_json, write_text
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.storage.paths import as_path
from mdp_jax.words import counted, some

Label = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # (photo, size) -> label map
PREVIEW_PAIRS = 4
_PAIRS = 2  # in one picture
PREVIEW_PHOTOS = 6
TRANSFER = "transfer.json"  # of a workdir: where each leaf of its first state is from
EDITED = "edited.json"  # of a workdir that mdp edit-bank made: what its weights were trained on before


def datasets_table(datasets: Sequence[Photos], shares: dict) -> Table:
    """Photos and classes of each dataset and its share of the samples (data/mixture.py, `shares`)."""
    rows = [
        [source.name, len(source), len(source.classes), 100 * share]
        for source, share in zip(datasets, shares["datasets"], strict=True)
    ]
    pairs = ", ".join(f"{name} {100 * shares[name]:.1f} %" for name in contact_sheet.KINDS.values())
    return Table(["dataset", "photos", "classes", "samples (%)"], rows, f"Pairs: {pairs}")


def print_datasets(datasets: Sequence[Photos], shares: dict, steps: int, batch: int, warmup_epochs: float) -> None:
    """Prints what a pretraining run is about to do; `warmup_epochs` as in the config, 0 where stages have their own."""
    samples = sum(len(source) for source in datasets)
    console = rich.console.Console(stderr=True)
    console.print(for_terminal(datasets_table(datasets, shares)))
    epochs = steps * batch / samples
    text = f"{counted(steps, 'step')} of {counted(batch, 'sample')}: {epochs:.1f} epochs"
    if 0 < epochs <= warmup_epochs:
        text += f"; the learning rate rises to the end, as config.optim.warmup_epochs={warmup_epochs}"
    console.print(text, highlight=False, soft_wrap=True)


def about(settings: Sequence[tuple[str, str]]) -> Section:
    """How a report came about: its settings, the command line, the day, the machine and the versions.

    Args:
        settings: (what, value) in words.
    """
    devices = jax.devices()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mdp_jax", "jax"))
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    rows = [
        *settings,
        ("command", command.replace("__main__.py", "python -m mdp_jax", 1)),
        ("written", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
        ("devices", f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"),
        ("versions", versions),
    ]
    return Section("How this was made", tables=[Table(["", ""], [list(row) for row in rows])])


def _photos(config: PretrainConfig | FinetuneConfig) -> str:
    crop = f"crops of {config.data.crop[0]} x {config.data.crop[1]} pixels"
    return f"{crop}, of photos " + (
        f"resized to a short side of {config.data.short_side}" if config.data.short_side else "of their own size"
    )


def start_of(config: PretrainConfig | FinetuneConfig, edited: Mapping | None = None) -> str:
    """What a run starts from, in words; `edited` is what `read_edited` gives, of a workdir that mdp edit-bank made."""
    if edited:
        return f"{edited['source']}, changed by mdp edit-bank"
    return f"the whole state of {config.continue_from}" if config.continue_from else config.init


def pretrain_settings(config: PretrainConfig, steps: int, network: str, start: str) -> list[tuple[str, str]]:
    """The settings of a pretraining in words, as `about` takes them.

    Args:
        config: of the run.
        steps: its length.
        network: in words (models.registry.network_in_words).
        start: what it starts from, in words.
    """
    return [
        ("sets", ", ".join(f"{source.name} ({source.kind})" for source in config.sources)),
        ("objective", config.objective),
        ("network", network),
        ("starts from", start),
        ("photos", _photos(config)),
        ("steps", f"{steps} of {config.batch} samples"),
        ("learning rate", f"{config.optim.lr:g} at a batch of 256: {peak_learning_rate(config.optim, config.batch):g}"),
        ("optimizer", config.optim.name),
        ("seed", str(config.seed)),
    ]


def _loss(loss: FinetuneLossConfig) -> str:
    """The name of a loss, and the values of it that are not the default ones."""
    plain = FinetuneLossConfig(name=loss.name)
    names = [field.name for field in dataclasses.fields(loss)]
    changed = [name for name in names if getattr(loss, name) != getattr(plain, name)]
    return ", ".join([loss.name, *(f"{name} {schema.shown(getattr(loss, name))}" for name in changed)])


def finetune_settings(config: FinetuneConfig, network: str) -> list[tuple[str, str]]:
    """The settings of a fine-tuning in words, as `about` takes them; `network` is that of `pretrain_settings`."""
    dataset = config.dataset
    assert dataset is not None  # a run has one
    limit = f", {dataset.limit} of its photos" if dataset.limit else ""
    return [
        ("set", f"{dataset.name} ({dataset.kind}){limit}"),
        ("network", network),
        ("starts from", start_of(config)),
        ("photos", _photos(config)),
        ("steps", f"{config.steps} of {config.batch} samples"),
        ("learning rate", f"{config.optim.lr:g}"),
        ("optimizer", config.optim.name),
        ("loss", _loss(config.loss)),
        ("seed", str(config.seed)),
    ]


def series(rows: list[dict], *names: str) -> dict[str, list[tuple[int, float]]]:
    """{metric: [(step, value), ...]} of the rows of metrics.jsonl that hold them."""
    return {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}


def _dataset_series(rows: list[dict], names: list[str]) -> dict:
    measured = [row for row in rows if "dataset_loss" in row]
    return {
        name: [(row["step"], row["dataset_loss"][i]) for row in measured if row["dataset_loss"][i] is not None]
        for i, name in enumerate(names)
    }


def previews(batch: dict, label_space: Classes, datasets: Sequence[Photos]) -> list[Figure]:
    """Pictures of the first pairs of a pretraining batch."""
    colours = contact_sheet.class_colours(datasets)[label_space.first_rows()]
    count, found = min(PREVIEW_PAIRS, len(batch["mix_kind"])), []
    for start in range(0, count, _PAIRS):
        numbers = range(start, min(start + _PAIRS, count))
        png = contact_sheet.pairs(contact_sheet.choose_pairs(batch, numbers), label_space, colours)
        which = f"Pairs {numbers[0] + 1} to {numbers[-1] + 1}" if len(numbers) > 1 else f"Pair {numbers[0] + 1}"
        text = f"{which} of the first batch; stripes are ignored pixels. {contact_sheet.KEEPS}"
        found.append(Figure(png, text))
    return found


def effective_dimension(vectors: np.ndarray) -> float:
    """exp(entropy) of the shares of the principal axes through 0 in unit vectors [n, D], n at least 1.

    1 = all in one direction, a collapsed bank; min(n, D) = in all directions alike.
    """
    shares = np.linalg.svd(vectors, compute_uv=False) ** 2
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def dimension_in_words(found: float, most: int) -> str:
    """An effective dimension, of at most `most`, and whether it is good.

    Below 1.5 the prototypes lie almost on a line, below 3 almost in a plane; from a quarter of `most` on they are well
    spread. The limits are rules of thumb.
    """
    if most < 4:
        verdict = "too few classes to judge"
    elif found < 1.5:
        verdict = "collapsed: the prototypes lie almost on a line"
    elif found < 3:
        verdict = "poor: the prototypes lie almost in a plane"
    elif found < most / 4:
        verdict = f"fair: well spread from {most / 4:.0f} on"
    else:
        verdict = f"good: well spread, as from {most / 4:.0f} on"
    return f"{found:.1f} of {most}; more is better; {verdict}"


def cosine_in_words(found: float) -> str:
    """A mean cosine between prototypes, and whether it is good; the limits 0.5 and 0.9 are rules of thumb."""
    if found > COLLAPSED:
        verdict = f"collapsed, as above {COLLAPSED}: the classes are hardly told apart"
    elif found > CROWDED:
        verdict = f"crowded; well apart up to {CROWDED}"
    else:
        verdict = "good: well apart, as up to 0.5"
    return f"{found:.3f}; less is better; {verdict}"


def bank_summary(bank: Bank, label_space: Classes) -> Table:
    """How full and how crowded the bank is: cosines between the prototypes of different seen classes."""
    seen = np.asarray(bank.images_seen) > 0
    vectors = np.asarray(bank.vectors, np.float64)[seen]
    between = vectors @ vectors.T
    np.fill_diagonal(between, np.nan)
    several = len(vectors) > 1
    close = np.sum(np.nanmax(between, axis=1) > CLOSE) if several else 0
    mean = float(np.nanmean(between)) if several else 0.0
    rows = [
        ["classes seen", f"{seen.sum()} of {len(seen)}"],
        ["mean cosine between classes", cosine_in_words(mean) if several else "–"],
        ["largest cosine between classes", f"{np.nanmax(between):.3f}" if several else "–"],
        [f"classes with another above {CLOSE}", f"{close} (0 is best: such classes are hardly told apart)"],
        [
            "effective dimension",
            dimension_in_words(effective_dimension(vectors), min(vectors.shape)) if several else "–",
        ],
    ]
    unseen = [name for name, there in zip(label_space.global_names(), seen, strict=True) if not there]
    if unseen:
        rows.append(["never seen", some(unseen, 20)])
    return Table(["prototype bank", ""], rows)


def related_classes(bank: Bank, label_space: Classes, shown: int = 5) -> Table:
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


def heatmap(bank: Bank, label_space: Classes) -> Figure:
    """The similarities of all prototypes, as a figure of a report."""
    blocks = label_space.blocks()
    picture = figures.similarity_heatmap(np.asarray(bank.vectors), np.asarray(bank.images_seen), blocks)
    return Figure(
        picture,
        "Cosine similarity of the prototypes; 1 is the same direction. Sets are apart, and within a set similar "
        "classes stand together. Off the diagonal blocks: classes of different sets.",
    )


_TERMS = {"loss": "sum", "prototype_loss": "prototype term", "sparse_loss": "sparse coding term"}


def loss_panel(rows: list[dict]) -> Panel:
    """The loss of a pretraining and its terms, of the rows of metrics.jsonl."""
    found = series(rows, *_TERMS)
    return Panel({_TERMS[name]: points for name, points in found.items() if points}, "loss")


def pretrain_sections(
    folder: str | os.PathLike,
    config: PretrainConfig,
    steps: int,
    network: str,
    label_space: Classes,
    bank: Bank | None,
    datasets: Sequence[Photos],
    tables: list[Table],
    batch: dict,
) -> list[Section]:
    """The sections of a pretraining run: data with their tables, curves, and the bank where the objective has one.

    `network` is the network in words.
    """
    rows = read_metrics(folder)
    names = [name for name, _ in label_space.datasets]
    accuracy = {"": [(step, 100 * value) for step, value in series(rows, "accuracy")["accuracy"]]}
    curves = figures.curves(
        loss_panel(rows),
        Panel(_dataset_series(rows, names), "loss by set", figures.set_colours(len(names))),
        Panel(accuracy, "right pixels (%)"),
        last=steps,
    )
    sections = [
        Section(
            "Data",
            "What the network sees: two views of each sample, the first one mixed inside pairs.",
            tables,
            previews(batch, label_space, datasets),
        ),
        Section(
            "Training",
            figures=[
                Figure(
                    curves,
                    "Above: the loss and its terms. Middle: the loss of the pixels of each set that have one label. "
                    "Below: pixels whose own class has the nearest prototype, or the largest logit.",
                )
            ],
        ),
    ]
    if bank:
        crowding = figures.curves(Panel(series(rows, "bank_cosine"), "mean cosine"), last=steps)
        text = "Mean cosine between the prototypes: up to 0.5 they are well apart, above 0.9 collapsed."
        pictures = [heatmap(bank, label_space), Figure(crowding, text)]
        found = [bank_summary(bank, label_space), related_classes(bank, label_space)]
        sections.append(Section("Prototypes", tables=found, figures=pictures))
    start = start_of(config, read_edited(folder))
    return [*sections, *origins_section(folder), about(pretrain_settings(config, steps, network, start))]


_ORIGINS = {"source": str, "leaves": [{"leaf": str, "shape": [int], "from": str}], "not taken": {str: str}}
_EDITED = {"source": str, "trained on": [{"name": str, "classes": int, "license": str}]}


def origins_of_parts(origins: Sequence[Mapping]) -> list[tuple[str, str]]:
    """The parts of a network, each with where its leaves come from, in words.

    Args:
        origins: a mapping for each leaf: "leaf", its name, such as params/backbone/conv1/kernel; "from", its name where
            it comes from, "" where it stays as initialised.
    """
    parts: dict[str, list[Mapping]] = {}
    for row in origins:
        parts.setdefault(row["leaf"].split("/")[1], []).append(row)
    found = []
    for part, rows in parts.items():
        taken = sum(bool(row["from"]) for row in rows)
        words = [f"{taken} leaves taken"] * bool(taken)
        words += [f"{len(rows) - taken} leaves as initialised"] * (taken < len(rows))
        found.append((part, ", ".join(words)))
    return found


def read_origins(file: str | os.PathLike) -> dict:
    """What transfer.json of a workdir holds: {"source": in words, "leaves": [{"leaf", "shape", "from"}], "not taken"}.

    Args:
        file: the file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    return read_json(file, "where the weights of a run come from", _ORIGINS)


def read_edited(folder: str | os.PathLike) -> dict | None:
    """What mdp edit-bank noted of the weights of a workdir that it made.

    Args:
        folder: the workdir.

    Returns:
        {"source": the checkpoint that was edited, in words; "trained on": [{"name", "classes", "license"}], the sets of
        all runs before the edit, also of those before earlier edits; "license" is "" where it is not stated}. None
        where the folder has no such file.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    file = as_path(folder) / EDITED
    return read_json(file, "what mdp edit-bank changed", _EDITED) if file.exists() else None


def gone_sets(edited: Mapping | None, names: Collection[str]) -> list[dict]:
    """The sets that the weights of an edited run were trained on, and that the run itself does not have.

    Args:
        edited: what `read_edited` gives.
        names: of the sets of the run.
    """
    return [row for row in edited["trained on"] if row["name"] not in names] if edited else []


def origins_section(folder: str | os.PathLike) -> list[Section]:
    """Where the weights of a run's first state come from; empty where they were all drawn.

    Args:
        folder: the workdir.

    Raises:
        UserError: its transfer.json or edited.json holds something else.
    """
    if edited := read_edited(folder):
        text = (
            f"From {edited['source']}. mdp edit-bank changed its sets and classes. Before that the weights were "
            "trained on the sets of this table. This run may lack some of them."
        )
        before = [[row["name"], row["classes"], row["license"] or "not stated"] for row in edited["trained on"]]
        table = Table(["set", "classes", "license"], before)
        return [Section("Where the weights come from", text, [table])]
    file = as_path(folder) / TRANSFER
    if not file.exists():
        return []
    found = read_origins(file)
    rows = [list(row) for row in origins_of_parts(found["leaves"])]
    reasons = sorted(set(found["not taken"].values()))
    rows += [
        ["not taken", f"{sum(why == reason for why in found['not taken'].values())} leaves: {reason}"]
        for reason in reasons
    ]
    text = f"From {found['source']}. {TRANSFER} names every leaf."
    return [Section("Where the weights come from", text, [Table(["part", "leaves"], rows)])]


def means_in_words(scores: Mapping) -> str:
    """The means of some scores in one line: "mIoU 45.12 %, mAcc 60.00 %, aAcc 80.50 %"."""
    return ", ".join(f"{name} {text_of(scores[name])} %" for name in MEANS)


def write_page(folder: str | os.PathLike, title: str, sections: list[Section]) -> pathlib.Path:
    """Writes report.html into a folder and says where it is."""
    file = as_path(folder) / "report.html"
    write_text(file, html(title, sections))
    print(f"report: {file}")
    return file


def prediction_rows(photos: Photos, networks: Mapping[str, Label], count: int = PREVIEW_PHOTOS) -> list[Predicted]:
    """Rows for `figures.prediction_grid` from photos spread evenly over a source.

    Args:
        photos: an evaluation source.
        networks: name -> function (image, size) -> label map.
        count: how many photos, at most.
    """
    rows = []
    for index in np.unique(np.linspace(0, len(photos) - 1, count).round().astype(int)).tolist():
        sample = photos[index]
        found = {name: label(sample["image"], sample["label"].shape) for name, label in networks.items()}
        rows.append(Predicted(photos.describe(index), sample["image"], sample["label"], found))
    return rows


GRID = (
    "Validation photos, spread evenly over the set, each with the mIoU over its own classes and the share of right "
    "pixels. Errors: pale is right, dark is wrong, stripes are ignored. Shares in the legend are those of the truth."
)


def finetune_sections(
    folder: str | os.PathLike,
    config: FinetuneConfig,
    network: str,
    photos: Photos,
    predict: Label,
    scores: dict,
    step: int,
    findings: Sequence[Section] = (),
) -> list[Section]:
    """The sections of a fine-tuning run: scores, pictures, what was found, curves, where the weights come from.

    Args:
        folder: its workdir.
        config: of the run.
        network: in words.
        photos: evaluation source.
        predict: (image, size) -> label map.
        scores: of the photos, as evaluation.json has them.
        step: of the checkpoint that has these scores; an earlier one than the last is the best.
        findings: sections about them.
    """
    rows = read_metrics(folder)
    shown = prediction_rows(photos, {"prediction": predict})
    colours = contact_sheet.class_colours([photos])
    grid = figures.prediction_grid(shown, photos.classes, colours, {"prediction": scores["mIoU"]})
    means = series(rows, "val_mIoU", "val_mAcc", "val_aAcc")
    curves = figures.curves(
        Panel(series(rows, "loss"), "training loss"),
        Panel({name.removeprefix("val_"): points for name, points in means.items()}, "validation (%)"),
        last=config.steps,
    )
    text = (
        "IoU: intersection over union. Accuracy: right pixels of those that are of the class. Precision: right pixels "
        "of those that are called the class. Dice: twice the right pixels of both together. mIoU, mAcc, mPrecision "
        "and mDice: means of the classes. aAcc: right pixels."
    )
    networks = {f"step {step}": scores}
    if step < config.steps:
        text += (
            f"\n\nThe tables and pictures are of the best checkpoint, that of step {step}. It was chosen by its mIoU "
            "on these photos, so its score is a little too good; compare it with others on photos of the test split."
        )
        at_end = [row for row in rows if row["step"] == config.steps and "val_mIoU" in row]
        networks = {f"best: step {step}": scores}
        networks |= (
            {f"last: step {config.steps}": {name: at_end[-1][f"val_{name}"] for name in MEANS}} if at_end else {}
        )
    caption = f"{photos.name}, {counted(scores['images'], 'photo')}"
    sections = [
        Section("Scores", text, [means_table(networks, caption), all_scores_table(scores)]),
        Section("Predictions", figures=[Figure(grid, GRID)]),
        *findings,
        Section(
            "Training", figures=[Figure(curves, "Above: cross entropy in training. Below: scores of the validation.")]
        ),
    ]
    return [*sections, *origins_section(folder), about(finetune_settings(config, network))]
