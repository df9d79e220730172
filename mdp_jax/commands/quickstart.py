"""`mdp quickstart`: pretrain on three drawn datasets, fine-tune on a fourth, compare with training from scratch."""

import argparse
import functools
import pathlib
import time

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands.arguments import add_platform, workdir_here
from mdp_jax.configs import typed_finetune
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.evaluation.inference import Predictor
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.models.registry import network_in_words
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import contact_sheet, figures, runs
from mdp_jax.reporting.figures import Panel
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.reporting.tables import Table, console, for_terminal, scores_table
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training.finetuning import finetune
from mdp_jax.training.pretraining import pretrain

STARTS = ("pretrained", "scratch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp quickstart` to a parser."""
    parser.add_argument(
        "--workdir",
        type=workdir_here,
        default="runs/quickstart",
        help="folder of all its runs (default runs/quickstart)",
    )
    add_platform(parser)
    parser.epilog = (
        "Values set by --config.key=value hold for the pretraining and every fine-tuning; both must have them."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the pretraining and a fine-tuning from each of `STARTS`, and writes report.html and summary.json.

    Both fine-tunings have the same steps and the same learning rate.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text, of both loops.

    Raises:
      UserError: only one of the loops has a config value, a value is impossible, or the workdir has something else.
    """
    began = time.perf_counter()
    folder = pathlib.Path(args.workdir)
    runtime.start_devices(args.platform)
    pretraining = configs.apply_overrides(configs.load("configs/quickstart/pretrain.py"), overrides)
    finetunings = {}
    for start, init in zip(STARTS, (str(folder / "pretrain"), "scratch"), strict=True):
        values = [*overrides, ("init", init)]
        finetunings[start] = configs.apply_overrides(configs.load("configs/quickstart/finetune.py"), values)
    others = [path for path in folder.iterdir() if path.name != "pretrain"] if folder.is_dir() else []
    if others and not (folder / "pretrain" / "config.json").exists():  # the folder alone: its run was killed at once
        raise UserError(f"--workdir {folder}: not empty and not of a quickstart; expected a new folder or that of one")
    pretrain(pretraining, folder / "pretrain", exits=True)
    scores = {start: finetune(config, folder / start, exits=True) for start, config in finetunings.items()}
    summary = {start: round(scores[start]["mIoU"], 2) for start in STARTS}
    summary["seconds"] = round(time.perf_counter() - began, 1)
    write_json(folder / "summary.json", summary)
    rows = [[start, scores[start]["mIoU"]] for start in STARTS]
    console().print(for_terminal(Table(["", "mIoU (%)"], rows, "Fine-tuned on valley, validation scenes")))
    runs.write_page(folder, "Quickstart: does multi-dataset pretraining pay?", _sections(folder, scores, summary))
    print(", ".join(f"{name} {value}" for name, value in summary.items()))


def _sections(folder: pathlib.Path, scores: dict[str, dict], summary: dict) -> list[Section]:
    history = {start: read_metrics(folder / start) for start in STARTS}
    mean_iou = {start: runs.series(rows, "val_mIoU")["val_mIoU"] for start, rows in history.items()}
    losses = {start: runs.series(rows, "loss")["loss"] for start, rows in history.items()}
    predictors: dict[str, runs.Label] = {}
    for start, shown in (("scratch", "from scratch"), ("pretrained", "pretrained")):
        run = workdirs.load(folder / start)
        config, normalise = run.config, Normalise.of(run.config.data, run.config.model.compute_dtype)
        predictor = Predictor(network.segmenter(config.model, len(run.classes)), normalise)
        predictors[shown] = functools.partial(predictor, run.variables)
        photos = sources.open_source(config.dataset, config.data, config.data_dir, "val", config.seed)
    colours = contact_sheet.class_colours([photos])
    of_set = {shown: scores[shown.removeprefix("from ")]["mIoU"] for shown in predictors}
    grid = figures.prediction_grid(runs.prediction_rows(photos, predictors), photos.classes, colours, of_set)
    pretrained = workdirs.load(folder / "pretrain")
    label_space = pretrained.label_space
    bank_of = OBJECTIVES[pretrained.config.objective].bank
    assert bank_of is not None  # the quickstart's objective has prototypes
    bank = bank_of(pretrained.variables["memory"])
    pretraining = figures.curves(runs.loss_panel(read_metrics(folder / "pretrain")))
    finetuning = figures.curves(Panel(losses, "training loss"), Panel(mean_iou, "validation mIoU (%)"))
    of_pretraining = ("pretraining", ", ".join(name for name, _ in label_space.datasets))
    finetuning_config = typed_finetune(config)
    settings = runs.finetune_settings(finetuning_config, network_in_words(finetuning_config.model))
    of_both = [item for item in settings if item[0] != "starts from"]
    return [
        Section(
            "Result",
            f"Pretraining on harbor, meadow and town, whose classes do not agree, then 25 scenes of valley: "
            f"{summary['pretrained']} mIoU, against {summary['scratch']} from scratch with the same steps and learning "
            f"rate. The last command took {summary['seconds']} seconds.",
            [scores_table(scores, "IoU by class and means, in %")],
        ),
        Section("Pictures", figures=[Figure(grid, f"Valley, never seen in training. {runs.GRID}")]),
        Section(
            "Curves",
            figures=[
                Figure(finetuning, "Fine-tuning. Above: cross entropy in training. Below: mIoU of the validation."),
                Figure(pretraining, "Pretraining loss and its terms."),
            ],
        ),
        Section(
            "Prototypes",
            "Nobody told the network which classes of different datasets mean the same. Similar prototypes off the "
            "diagonal blocks are what it found.",
            [runs.bank_summary(bank, label_space)],
            [runs.heatmap(bank, label_space)],
        ),
        runs.about([of_pretraining, *of_both]),
    ]
