"""The scores of a workdir as files."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from mdp_jax import config as config_files
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views
from mdp_jax.evaluation.chosen_weights import PLAIN
from mdp_jax.evaluation.workdirs import Choice, Workdir
from mdp_jax.storage.json_files import read_json, write_json

_PERCENT = (None, float)
_PHOTOS = {"photos": {str: {"count": int, "names": str, "content": str}}}
_FORM = {"datasets": {str: {"mIoU": _PERCENT}}}
_EXPECTED = "scores; remove the file, and the run writes it again"
_FILE = "evaluation.json"
_CHANGED = "changed"


def write_scores(
    folder: pathlib.Path,
    scores: dict[str, dict],
    split: str = "val",
    shown: views.Views = views.WHOLE,
    changed: Mapping[str, str] | None = None,
    chosen: Choice | None = None,
    photos: Mapping[str, dict] | None = None,
    others: bool = False,
    named: Mapping[str, dict] | None = None,
) -> pathlib.Path:
    """Writes the scores of each dataset to evaluation.json, which no other views or values replace.

    The name of another file says what is different: evaluation_SPLIT.json for another split, and after that, in this
    order, slide with the size of the windows, scales and flip (the views), as in
    evaluation_test_slide512x512_flip.json; changed, where values of the config were changed for the validation photos,
    or where these are not the run's own any more; stepN, where another checkpoint was asked for than the usual one; and
    plain, ema or momentum, where other weights were. Of another split the last scores stay.

    The file is {"datasets": {NAME: {"mIoU", "mAcc", "aAcc", "mPrecision", "mDice", "per_class": {CLASS: IoU},
    "per_class_accuracy", "per_class_precision", "per_class_dice", "images"}}}: percentages, null where there was
    nothing to measure. "step" is that of the checkpoint. Where it is not the newest one, or one was asked for,
    "checkpoint" says which: {"step", "best"}. Of a moving average or a momentum encoder, and where weights were asked
    for, "weights" says which. Where photos were not shown whole, "views" says how they were shown: {"crop": [H, W] or
    null, "stride": [H, W] or null, "scales": [...], "flip": bool}. Where values were changed, "config" has them. Of a
    fine-tuning "photos" has the number and digests of the photos.

    Args:
      folder: the workdir.
      scores: {name of a dataset: what the Evaluator gives}.
      split: of the photos.
      shown: how photos were shown.
      changed: {dotted key: text} of the run's values that were changed for it.
      chosen: the checkpoint; None = the newest, as it was usual; its step is not written.
      photos: {name of a dataset: as sources.photos_of gives them}; None = not written.
      others: whether they are other photos than those of `photos_of_run`.
      named: of a set of which only the names were given, {its name: what answered for each class}; its name stands in
        that of the file, as in evaluation_named_camvid11.json, and the file has it under "names".

    Returns:
      The file.

    Raises:
      UserError: the file cannot be written.
    """
    sets = [part for name in named or () for part in ("named", plain(name))]
    words = ["evaluation", *sets, *([] if split == "val" else [split]), *_words(shown)]
    name = "_".join(words + [_CHANGED] * (split == "val" and (bool(changed) or others)))
    name += _ending(chosen)
    how: dict[str, object] = {} if shown == views.WHOLE else {"views": dataclasses.asdict(shown)}
    how |= {"config": dict(changed)} if changed else {}
    how |= {"photos": dict(photos)} if photos else {}
    how |= {"names": dict(named)} if named else {}
    how |= {"step": chosen.step} if chosen else {}  # a run that goes on leaves the scores of an earlier step behind
    if chosen and (chosen.best or not chosen.default):
        how |= {"checkpoint": {"step": chosen.step, "best": chosen.best}}
    if chosen and (chosen.weights != PLAIN or not chosen.usual):
        how |= {"weights": chosen.weights}
    file = folder / f"{name}.json"
    write_json(file, {"datasets": scores} | how)
    return file


def _ending(chosen: Choice | None) -> str:
    if chosen is None:
        return ""
    return ("" if chosen.default else f"_step{chosen.step}") + ("" if chosen.usual else f"_{chosen.weights}")


def of_checkpoint(folder: pathlib.Path, chosen: Choice) -> pathlib.Path:
    """The file of a checkpoint's scores on the validation photos as a whole; it need not be there.

    Args:
      folder: the workdir.
      chosen: the checkpoint.
    """
    return folder / f"evaluation{_ending(chosen)}.json"


def of_changed_values(run: Workdir) -> dict | None:
    """What `mdp evaluate` found of a checkpoint with the values of the config that overrides changed in `run`.

    Args:
      run: with `changed`.

    Returns:
      What `read_scores` gives; None where no file has the scores of these values, this step and the run's photos.

    Raises:
      UserError: the file of such scores cannot be read.
    """
    file = run.folder / f"evaluation_{_CHANGED}{_ending(run.chosen)}.json"
    found = read_scores(file) if file.exists() else {}
    values = found.get("config")
    if not isinstance(values, dict) or not run.changed.keys() <= values.keys() or step_of(found) != run.step:
        return None
    same = run.config.copy_and_resolve_references()
    try:
        config_files.apply_overrides(same, [(key, str(text)) for key, text in values.items()])
    except UserError:  # a value of another version
        return None
    of_run = config_files.results_from(same) == config_files.results_from(run.config)
    return found if of_run and found.get("photos", {}) == photos_of_run(run.folder) else None


def plain(dataset: str) -> str:
    """The name of a dataset in that of a file; it may have what no file name has.

    Args:
      dataset: its name.
    """
    return re.sub(r"[^\w.-]", "_", dataset)


def confusions_beside(file: pathlib.Path, dataset: str = "") -> pathlib.Path:
    """The CSV file of the confusion matrix that belongs to a file of scores.

    Args:
      file: what `write_scores` returned.
      dataset: whose, where the file has those of several.
    """
    name = file.stem.replace("evaluation", "confusion", 1)
    ending = plain(dataset)
    return file.with_name(f"{name}_{ending}.csv" if ending else f"{name}.csv")


def photos_of_run(folder: pathlib.Path) -> dict[str, dict]:
    """The validation photos that a fine-tuning was scored on, and that its report shows.

    Args:
      folder: the workdir.

    Returns:
      {name of the dataset: as sources.photos_of gives them}; {} where they are not known.

    Raises:
      UserError: evaluation.json cannot be read.
    """
    file = folder / _FILE
    if not file.exists() or "photos" not in read_scores(file):  # as in files of earlier versions
        return {}
    return read_json(file, _EXPECTED, _PHOTOS)["photos"]


def step_of(found: Mapping) -> int | None:
    """The step of the checkpoint that scores are of.

    Args:
      found: what `read_scores` gives.

    Returns:
      None where the file does not say it, as those of earlier versions do not of the newest checkpoint.
    """
    chosen = found.get("checkpoint")
    step = found.get("step", chosen.get("step") if isinstance(chosen, Mapping) else None)
    return step if isinstance(step, int) else None


def _words(shown: views.Views) -> list[str]:
    """What is said of views in the name of a file."""
    slide = "slide" + "x".join(map(str, shown.crop)) if shown.crop else ""
    scales = "scales" if shown.scales != views.WHOLE.scales else ""
    return [word for word in (slide, scales, "flip" if shown.flip else "") if word]


def read_scores(file: pathlib.Path) -> dict:
    """What a file of `write_scores` holds.

    Raises:
      UserError: the file cannot be read, or is no such file.
    """
    return read_json(file, _EXPECTED, _FORM)
