"""The scores of a workdir as files."""

import dataclasses
import pathlib
from collections.abc import Mapping

from mdp_jax.evaluation import views
from mdp_jax.storage.json_files import write_json


def write_scores(
    folder: pathlib.Path,
    scores: dict[str, dict],
    split: str = "val",
    shown: views.Views = views.WHOLE,
    changed: Mapping[str, str] | None = None,
) -> None:
    """Writes the scores of each dataset to evaluation.json, or evaluation_SPLIT.json for another split than "val".

    The file is {"datasets": {NAME: {"mIoU", "mAcc", "aAcc", "per_class": {CLASS: IoU}, "images"}}}: percentages, null
    where there was nothing to measure. Where photos were not shown whole, "views" says how they were shown: {"crop":
    [H, W] or null, "stride": [H, W] or null, "scales": [...], "flip": bool}. Where values were changed, "config" has
    them.

    Args:
      folder: the workdir.
      scores: {name of a dataset: what the Evaluator gives}.
      split: of the photos.
      shown: how photos were shown.
      changed: {dotted key: text} of the run's values that were changed for it.

    Raises:
      UserError: the file cannot be written.
    """
    name = "evaluation.json" if split == "val" else f"evaluation_{split}.json"
    how = {} if shown == views.WHOLE else {"views": dataclasses.asdict(shown)}
    how |= {"config": dict(changed)} if changed else {}
    write_json(folder / name, {"datasets": scores} | how)
