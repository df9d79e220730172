"""Checks all configs, all datasets and their photos before the first run of a suite is started."""

import json
import pathlib
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.paths import expanded, joined
from mdp_jax.studies.runs import Run

# Description of a split -> number and digests of its photos, as data.sources.photos_of gives them.
Photos = Mapping[str, Mapping[str, int | str]]

_FILE = "photos.json"
# Keys that do not change which photos there are.
_CHOICE = {"name", "kind", "root", "drop_classes", "class_groups", "limit", "holdout", "license"}


def require_ready(runs: Iterable[Run]) -> Photos:
    """Checks configs and datasets of all runs, without reading a photo.

    Args:
      runs: of the suite.

    Returns:
      The photos of all splits.

    Raises:
      UserError: a value or folder is wrong. The message names the first.
    """
    checked, opened = set(), set()
    by_name: dict[str, tuple[Run, ConfigDict]] = {}
    photos: dict[str, Mapping[str, int | str]] = {}
    for run in runs:
        config = run.resolved()
        by_name[run.name] = (run, config)
        pretraining = run.part == "pretrain"
        datasets = config.sources if pretraining else (config.dataset,)
        if not pretraining:
            _require_unseen(run, config, by_name)
        alike = (run.part, _text(configs.to_dict(config) | {"seed": 0, "init": ""}))
        if alike in checked:
            continue
        checked.add(alike)
        try:
            devices = max(1, config.devices)  # 0 = all that the run will find
            (checks.pretraining if pretraining else checks.finetuning)(config, devices)
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from None
        for split in ("train",) if pretraining else ("train", "val"):
            for dataset in datasets:
                place = (split, config.data_dir, _text(dataset.to_dict()), _text(config.data.to_dict()))
                if place not in opened:
                    opened.add(place)
                    _open(dataset, config, split, photos)
    return photos


def _text(values: dict) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _open(dataset: ConfigDict, config: ConfigDict, split: str, photos: dict) -> None:
    """Opens a split as a run will, and notes all its photos, whatever is chosen of them or set aside."""
    _require_folder(dataset, config.data_dir)
    sources.open_source(dataset, config.data, config.data_dir, split, config.seed)
    if "root" not in dataset:  # what is drawn changes with the config alone
        return
    others = [f"{key}={value}" for key, value in _values(dataset).items() if (key, value) != ("labels", "masks")]
    key = ", ".join([f"{dataset.kind} {dataset.root}", split, *others])
    if key not in photos:
        whole = ConfigDict(dataset.to_dict() | {"limit": 0, "holdout": 0})
        photos[key] = sources.photos_of(sources.open_source(whole, config.data, config.data_dir, split, config.seed))


def require_same_photos(photos: Photos, folder: pathlib.Path) -> None:
    """Checks that the photos are those that the runs in the folder of a suite began with, and stores new ones there.

    Args:
      photos: what `require_ready` gives.
      folder: of the suite.

    Raises:
      UserError: the photos of a dataset are different now. The message names it.
    """
    file = folder / _FILE
    expected = "the photos of a study, as mdp reproduce notes them; remove it"
    before = read_json(file, expected, {str: {"count": int, str: (int, str)}}) if file.exists() else {}
    for key, now in photos.items():
        if not sources.is_same(before.get(key, {}), now):
            raise UserError(
                f"{key}: {now['count']} photos, and the runs in {folder} began with other ones, "
                f"{before[key]['count']}; expected the same photos, or another --workdir"
            )
    write_json(file, {**before, **photos})


def _place(dataset: ConfigDict, data_dir: str) -> tuple[str, pathlib.Path] | None:
    """Kind and folder of a dataset; None where it is drawn."""
    if "root" not in dataset:
        return None
    return dataset.kind, joined(data_dir, dataset.root).resolve()


def _require_unseen(run: Run, config: ConfigDict, by_name: Mapping[str, tuple[Run, ConfigDict]]) -> None:
    """Checks that photos set aside in a fine-tuning are so in all pretrainings before it."""
    dataset, needs = config.dataset, run.needs
    place = _place(dataset, config.data_dir)
    while dataset.holdout and place and needs in by_name:
        before, trained = by_name[needs]
        for source in trained.sources:
            if _place(source, trained.data_dir) != place:
                continue
            if source.holdout != dataset.holdout:
                raise UserError(
                    f"{run.name}: dataset.holdout is {dataset.holdout}, and {before.name} has "
                    f"sources.{source.name}.holdout={source.holdout} for the same photos; expected the same, or it is "
                    "trained on those set aside"
                )
            # Which photos are set aside depends on what they are chosen from.
            differing = [key for key in _values(source) | _values(dataset) if source.get(key) != dataset.get(key)]
            both = sorted(_photos(dataset, config, "val") & _photos(source, trained, "train")) if differing else []
            if both:
                raise UserError(
                    f"{run.name}: {len(both)} of the {dataset.holdout} photos that dataset.holdout sets aside are "
                    f"training photos of {before.name}, such as {both[0]}; expected the same {' and '.join(differing)} "
                    f"in dataset and sources.{source.name}, so that the same photos are set aside"
                )
        needs = before.needs


def _values(dataset: ConfigDict) -> dict:
    """The values of a dataset that decide which photos there are: without masks there may be more."""
    return {key: value for key, value in sorted(dataset.items()) if key not in _CHOICE}


def _photos(dataset: ConfigDict, config: ConfigDict, split: str) -> set[str]:
    """The files of the photos of a split; none where photos have no files of their own."""
    source = sources.open_source(dataset, config.data, config.data_dir, split, config.seed)
    return {str(path) for index in range(len(source)) for path in source.files(index)[:1]}


def _require_folder(source: ConfigDict, data_dir: str) -> None:
    if "root" not in source:  # drawn
        return
    root = expanded(source.root)
    folder = joined(data_dir, source.root)
    if not folder.is_absolute():  # the runs are started in another folder
        raise UserError(f"--data_dir: missing; expected the folder that holds {source.root}")
    if not folder.is_dir():
        where = f"{source.root}: no such folder" if root.is_absolute() else None
        where = where or f"--data_dir {data_dir}: no folder {source.root} in it"
        raise UserError(f"{where}; expected that dataset")
