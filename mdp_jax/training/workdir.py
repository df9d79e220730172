"""The folder of a run: what it says about itself, checked whenever a run goes on in it or starts from it."""

import pathlib

import jax
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import distributed, runtime
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.json_files import PARTIAL, write_json
from mdp_jax.training import checks
from mdp_jax.training.sharding import leaf_names
from mdp_jax.weights import files
from mdp_jax.weights.init import load_init

_FIRST = "label_space.json"  # of the files of a run: all that there is where it was killed before config.json
_OF_READING = ("data_dir", "data", "dataset", "sources")  # values that a finished run may be given anew


def require_free_or_same(workdir, config: ConfigDict, label_space: LabelSpace) -> None:
    """Checks that a run may use a folder: there is none, it is empty, or the run in it has this config and label space.

    Raises:
      UserError: the folder belongs to another run, or holds other things than a run.
    """
    folder = pathlib.Path(workdir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--workdir {folder}: a file; expected a folder")
    if (folder / "config.json").exists():
        configs.require_same(configs.load_json(folder / "config.json"), config, folder)
        LabelSpace.load(folder / _FIRST).require_same(label_space, str(folder))
    elif folder.is_dir() and any(path.name != _FIRST and path.suffix != PARTIAL for path in folder.iterdir()):
        raise UserError(
            f"--workdir {folder}: not empty and without config.json; expected a new folder or that of a run"
        )


def require_agreement(config: ConfigDict, label_space: LabelSpace, photos: dict[str, dict]) -> None:
    """Checks that all processes of a run have the same config (FREE_ON_RESUME aside), label space and photos.

    Args:
      config: of the run.
      label_space: of its datasets.
      photos: of each of its datasets, as data.sources.photos_of has them.

    Raises:
      UserError: in every process, naming those that differ from process 0, and the value.
    """
    rows = {f"label space {i}": f"{row['dataset']}/{row['class']}" for i, row in enumerate(label_space.rows())}
    found = {f"dataset {name!r}": f"{row['count']} photos, {row['names'][:12]}" for name, row in photos.items()}
    values = {f"config.{key}": value for key, value in configs.identity(config).items()}
    distributed.require_agreement(values | rows | found)


def start(workdir, config: ConfigDict, label_space: LabelSpace) -> pathlib.Path:
    """Makes the folder of a run, with its config and label space; to be called when nothing else can be refused.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    folder = pathlib.Path(workdir)
    if distributed.is_main():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--workdir {folder}: {error.strerror}; expected a folder that can be made") from None
        label_space.save(folder / _FIRST)
        write_json(folder / "config.json", configs.to_dict(config))
    distributed.barrier("workdir")
    return folder


def has_checkpoints(workdir) -> bool:
    """Whether a run in this workdir would go on instead of beginning."""
    # A step that was being written when its run was killed is a folder of another name.
    return any(path.name.isdecimal() for path in (pathlib.Path(workdir) / "checkpoints").glob("*"))


def restore(checkpoints: checkpoint.Checkpoints, state, places, label_space: LabelSpace, photos: dict[str, dict]):
    """State and meta of the newest good checkpoint, or `state` and {} where there is none.

    Args:
      checkpoints: of the workdir.
      state: as at the beginning of a run.
      places: its shardings.
      label_space: what this run was given.
      photos: of each of its datasets, as data.sources.photos_of has them.

    Raises:
      UserError: the checkpoint was made with another label space, other photos or another network.
    """
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, places)
    found = checkpoints.restore(target)
    if found is None:
        return state, {}
    restored, meta = found
    LabelSpace.from_rows(meta["label_space"]).require_same(label_space, str(checkpoints.folder))
    _require_same_photos(meta["photos"], photos, checkpoints.folder)
    if distributed.is_main():
        print(f"going on after step {int(restored.step)} ({checkpoints.folder})")
    return restored, meta


def _require_same_photos(before: dict[str, dict], now: dict[str, dict], where: pathlib.Path) -> None:
    """A run that goes on with other photos would have another order, other shares and another length."""
    for name, found in now.items():
        if found["count"] != before[name]["count"]:
            counts = f"{found['count']} photos, and had {before[name]['count']} when the run began"
            raise UserError(f"{where}: dataset {name!r} has {counts}; expected those, or a new --workdir")
        for key, what in (("names", "of other names"), ("content", "whose files hold something else")):
            # Checkpoints of earlier versions have no content.
            if found.get(key) != before[name].get(key, found.get(key)):
                other = f"photos {what} than when the run began"
                raise UserError(f"{where}: dataset {name!r} has {other}; expected those, or a new --workdir")


def require_leaves(have: dict, want: dict, where: str) -> None:
    """Checks that a tree of arrays has exactly the leaves and shapes that are wanted.

    Raises:
      UserError: naming the leaves that are missing, of another shape, or too many (the first few of each).
    """
    have_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(have).items()}
    want_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(want).items()}
    wrong = [
        f"{name} has shape {have_shapes[name]}, expected {shape}"
        for name, shape in want_shapes.items()
        if name in have_shapes and have_shapes[name] != shape
    ]
    wrong += [f"{name} {shape} is missing" for name, shape in want_shapes.items() if name not in have_shapes]
    wrong += [
        f"{name} {shape} is not in this network" for name, shape in have_shapes.items() if name not in want_shapes
    ]
    if wrong:
        more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{where}: another architecture: {'; '.join(wrong[:4])}{more}")


def transfer(init: str, parts: tuple[str, ...], params: dict, batch_stats: dict) -> tuple[dict, dict]:
    """Replaces parts of a new network by those of a pretrained query encoder, or by those that a file has.

    Args:
      init: workdir of `mdp pretrain`, or file of weights in torchvision's or MMSegmentation's layout.
      parts: names of top-level parts, as ("backbone", "decoder").
      params: of the new network.
      batch_stats: of the new network.

    Returns:
      params and batch_stats with those parts replaced, in the dtypes of the new network.

    Raises:
      UserError: no checkpoint there, or a part of another architecture (naming the leaves).
    """
    path = pathlib.Path(init)
    if path.is_file() or (path.suffix in files.SUFFIXES and not path.is_dir()):
        params, batch_stats, report = load_init(path, params, batch_stats, parts)
        for line in report.lines():
            print(f"--init {init}: {line}")
        return params, batch_stats
    state, _ = checkpoint.load(init)
    loaded = []
    for name, ours in (("params", params), ("batch_stats", batch_stats)):
        unknown = [part for part in parts if part not in state[name] or part not in ours]
        if unknown:
            raise UserError(f"--init {init}: no part {unknown[0]!r} in it; it has {', '.join(state[name])}")
        # On the host: they go wherever the new network's arrays lie, on devices of other processes too.
        taken = {part: jax.device_get(state[name][part]) for part in parts}
        wanted = {part: ours[part] for part in parts}
        require_leaves(taken, wanted, f"--init {init}")
        loaded.append(ours | jax.tree.map(lambda new, old: new.astype(old.dtype), taken, wanted))
    return loaded[0], loaded[1]


def is_pretraining(workdir) -> bool:
    """Whether a workdir is of `mdp pretrain`; UserError where there is no config.json in it."""
    return "sources" in configs.load_json(pathlib.Path(workdir) / "config.json")


def load_pretrained(workdir, overrides: list[tuple[str, str]] = ()) -> tuple[ConfigDict, LabelSpace, dict]:
    """What evaluation needs of a pretrained network.

    Args:
      workdir: of `mdp pretrain`.
      overrides: of its config, as (dotted key, text).

    Returns:
      config; label space, without unlabelled datasets; {"params", "batch_stats", "bank"} on the first device.

    Raises:
      UserError: not such a workdir, no checkpoint, or classes that disagree.
    """
    return _load(pathlib.Path(workdir), configs.base().pretrain(), overrides, ("params", "batch_stats", "bank"))


def load_finetuned(workdir, overrides: list[tuple[str, str]] = ()) -> tuple[ConfigDict, tuple[str, ...], dict]:
    """What evaluation and prediction need of a fine-tuned network.

    Args:
      workdir: of `mdp finetune`.
      overrides: of its config, as (dotted key, text).

    Returns:
      config; class names by id; variables {"params", "batch_stats"} on the first device.

    Raises:
      UserError: not such a workdir, no checkpoint, or classes that disagree.
    """
    folder = pathlib.Path(workdir)
    if is_pretraining(folder):
        raise UserError(f"{folder}: the workdir of mdp pretrain; expected one of mdp finetune")
    config, label_space, variables = _load(folder, configs.base().finetune(), overrides, ("params", "batch_stats"))
    return config, label_space.datasets[0][1], variables


def load_weights(workdir) -> tuple[ConfigDict, LabelSpace, dict]:
    """The network of a workdir of either loop.

    Returns:
      config; label space; {"params", "batch_stats"} on the first device.

    Raises:
      UserError: not such a workdir, no checkpoint, or classes that disagree.
    """
    folder = pathlib.Path(workdir)
    default = configs.base().pretrain() if is_pretraining(folder) else configs.base().finetune()
    return _load(folder, default, [], ("params", "batch_stats"))


def _load(folder: pathlib.Path, default: ConfigDict, overrides, names: tuple[str, ...]):
    """Config with the keys of `default`, label space, and the parts `names` of the newest good state of a workdir."""
    config = configs.load_json(folder / "config.json")
    configs.require_keys(config, default, folder / "config.json")
    for key, _ in overrides:
        if key.split(".")[0] not in _OF_READING:
            raise UserError(
                f"--config.{key}: fixed when {folder} was trained; expected a key of {', '.join(_OF_READING)}"
            )
    config = configs.apply_overrides(config, list(overrides))
    checks.reading(config)
    label_space = LabelSpace.load(folder / _FIRST)
    runtime.set_precision(config.model)  # float64 weights would be read as float32, and fail their checksums
    state, meta = checkpoint.load(folder)
    label_space.require_same(LabelSpace.from_rows(meta["label_space"]), str(folder / "checkpoints"))
    return config, label_space, {name: state[name] for name in names}
