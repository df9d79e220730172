"""Other classes for a pretrained checkpoint: sets and classes come, go, are renamed or joined, and the rest stays.

The rows of a class follow it by its name, with their optimizer state. All other leaves are those of the checkpoint, bit
for bit. The objective says which leaves have rows (objectives/objective.py, ClassRows).
"""

import dataclasses
import os
import pathlib
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import checks, configs, runtime
from mdp_jax import config as config_files
from mdp_jax.configs import PretrainConfig
from mdp_jax.data import class_names, sources
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data.batches import stages
from mdp_jax.data.class_groups import require_name
from mdp_jax.data.class_names import NO_RELATIONS, NameRelations
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant, loaded
from mdp_jax.evaluation.closed_form import statistics_of
from mdp_jax.objectives.objective import ClassRows, Rows
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import runs
from mdp_jax.storage import checkpoints
from mdp_jax.storage.json_files import write_json, write_text
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import expanded
from mdp_jax.training import ledger, programs, sharding, workdir
from mdp_jax.words import some

_CONFIG = "config.py"
_CONFIG_TEXT = '''"""The config of the run in this folder, for mdp pretrain --config; mdp edit-bank wrote it."""

import pathlib

from mdp_jax import config


def get_config():
    return config.load_json(pathlib.Path(__file__).with_name("config.json"))
'''
_Classes = dict[str, tuple[str, ...]]  # name of a class -> the classes of the checkpoint that it is made of


@dataclasses.dataclass(frozen=True)
class Edits:
    """What is changed, in this order.

    Attributes:
      drop: (set,), or (set, class, ...) for some of its classes.
      rename: (set, class, new name).
      merge: (set, new name, class, class, ...).
      order: (set, class, ...): these classes of the set first.
      order_sets: these sets first.
    """

    drop: Sequence[Sequence[str]] = ()
    rename: Sequence[Sequence[str]] = ()
    merge: Sequence[Sequence[str]] = ()
    order: Sequence[Sequence[str]] = ()
    order_sets: Sequence[str] = ()


class Edited(NamedTuple):
    """What became of the classes, as "set/class".

    Attributes:
      kept: number of classes whose rows are those of the checkpoint.
      merged: classes that were made of several.
      adopted: classes that have rows from photos.
      unseen: classes that begin as at step 0.
      gone: classes of the checkpoint that are in none of these.
      step: steps that the checkpoint has taken.
      steps: of the whole run.
      config: a Python file in the workdir, with the config that the run goes on with.
    """

    kept: int
    merged: list[str]
    adopted: list[str]
    unseen: list[str]
    gone: list[str]
    step: int
    steps: int
    config: pathlib.Path


def edited_classes(label_space: LabelSpace, edits: Edits) -> dict[str, _Classes]:
    """Applies edits to the classes of a label space.

    Args:
      label_space: of the checkpoint.
      edits: what is changed.

    Returns:
      {set: {class: classes of the checkpoint that it is made of}}, in the new order.

    Raises:
      UserError: an edit names a set or class that is not there, or a name that is there already.
    """
    found: dict[str, _Classes] = {name: {label: (label,) for label in labels} for name, labels in label_space.datasets}
    for name, *labels in edits.drop:
        given = f"--drop {' '.join([name, *labels])}"
        own = _set_of(found, name, given)
        for label in labels:
            _require_class(own, label, given)
            del own[label]
        if not labels or not own:
            del found[name]
    for name, old, new in edits.rename:
        _join(found, name, new, [old], f"--rename {name} {old} {new}")
    for merge in edits.merge:
        given = f"--merge {' '.join(merge)}"
        if len(set(merge[2:])) < 2:
            raise UserError(f"{given}: expected a set, the new name, and at least two of its classes")
        name, new, *labels = merge
        _join(found, name, new, labels, given)
    for name, *labels in edits.order:
        given = f"--order {' '.join([name, *labels])}"
        own = _set_of(found, name, given)
        if not labels:
            raise UserError(f"{given}: expected classes of the set too, those that are to come first")
        for label in labels:
            _require_class(own, label, given)
        found[name] = {label: own[label] for label in (*labels, *own)}
    for name in edits.order_sets:
        _set_of(found, name, f"--order_sets {' '.join(edits.order_sets)}")
    return {name: found[name] for name in (*edits.order_sets, *found)}


def _set_of(found: dict[str, _Classes], name: str, given: str) -> _Classes:
    if name not in found:
        if not found:
            raise UserError(f"{given}: all sets are dropped already; expected one set to stay")
        raise UserError(f"{given}: no set {name!r}; expected one of {', '.join(found)}")
    return found[name]


def _require_class(own: _Classes, label: str, given: str) -> None:
    if label not in own:
        raise UserError(f"{given}: no class {label!r}; expected one of {some(own)}")


def _join(found: dict[str, _Classes], name: str, new: str, labels: Sequence[str], given: str) -> None:
    """Puts one class in the place of the first of some."""
    own = _set_of(found, name, given)
    require_name(new, given)
    for label in labels:
        _require_class(own, label, given)
    if new in own and new not in labels:
        raise UserError(f"{given}: there is a class {new!r} already; expected another name, or --merge")
    members = tuple(member for label in labels for member in own[label])
    first = min(list(own).index(label) for label in labels)
    found[name] = {
        new if place == first else label: members if place == first else of
        for place, (label, of) in enumerate(own.items())
        if place == first or label not in labels
    }


def edit(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    edits: Edits = Edits(),
    config: ConfigDict | None = None,
    adopt: Sequence[str] = (),
    overrides: Sequence[tuple[str, str]] = (),
) -> Edited:
    """Writes a workdir like that of `mdp pretrain`, with other classes; the run goes on in it.

    Args:
      checkpoint: workdir of `mdp pretrain`; its newest good checkpoint is read.
      folder: new workdir; gets config.json, label_space.json, edited.json, checkpoints/.
      edits: what is changed.
      config: of the run that goes on, whose sources say which sets and classes there are, after the edits; None = that
        of the checkpoint with the edits.
      adopt: sets of `config` whose new classes get rows from their training photos.
      overrides: pairs of a dotted key and a text, for the config.

    Raises:
      UserError: no such workdir, a folder that is in use, edits that cannot be, or a config of another network.
    """
    runtime.prepare()
    folder = expanded(folder)
    with workdir.Held(folder) as hold:
        return _edit(expanded(checkpoint), folder, edits, config, adopt, overrides, hold)


def _edit(
    checkpoint: pathlib.Path,
    folder: pathlib.Path,
    edits: Edits,
    new_config: ConfigDict | None,
    adopt: Sequence[str],
    overrides: Sequence[tuple[str, str]],
    hold: workdir.Held,
) -> Edited:
    if (folder / "config.json").exists():
        raise UserError(f"--workdir {folder}: holds a run; expected a new folder")
    file = checkpoint / "config.json"
    old_config = configs.complete(config_files.load_json(file), str(file))
    old = configs.typed_pretrain(old_config, f"{file}: ")
    labelled = LabelSpace.load(checkpoint / "label_space.json")
    old_space = dataclasses.replace(labelled, kind=old.label_space).of_sources([s.name for s in old.sources])
    old_space.require_same(labelled, str(checkpoint / "label_space.json"))
    classes = edited_classes(old_space, edits)
    if new_config is None:
        if adopt:
            raise UserError(f"--adopt {adopt[0]}: expected --config too, whose sources have this set")
        if not any(classes.values()):
            raise UserError(f"--drop: leaves no class of {checkpoint}; expected some to stay")
    config, label_space, opened = _new_run(old_config, old_space, classes, new_config, overrides)
    now = configs.typed_pretrain(config)
    checks.pretraining(config, config.devices or 1)
    rows_of = OBJECTIVES[now.objective].class_rows
    _require_same_network(old, now, checkpoint)
    _require_adoptable(adopt, label_space, rows_of, now.objective)
    runtime.start_devices()
    runtime.set_precision(now.model.compute_dtype, now.model.param_dtype)
    saved = checkpoints.load(checkpoint)
    old_space.require_same(LabelSpace.from_rows(saved.meta["label_space"]), f"{checkpoint}/checkpoints")
    moves = _moves(old_space, label_space, classes)
    relations = NO_RELATIONS
    if now.method.start_from_names and not all(moves):  # new classes start from their names
        relations = class_names.of_run(now.method, label_space, now.model.projection.dim, now.seed).relations
    fitting = _fitting(saved.state, now, label_space, rows_of, str(checkpoint), relations)  # before photos are read
    photos_rows = _adopted(checkpoint, now, label_space, adopt, moves, rows_of)
    state = _state_of(fitting, moves, photos_rows, rows_of)
    trained_on = _trained_on(checkpoint, old, old_space, saved.meta)
    photos = {source.name: sources.photos_of(source) for source in opened} or saved.meta["photos"]
    meta = saved.meta | {
        "config": config_files.to_dict(config),
        "label_space": label_space.rows(),
        "photos": {source.name: photos[source.name] for source in now.sources},
    }
    for name, join in (("ledger", sum), ("last_seen", max)):
        if name in saved.meta:
            meta[name] = _ledger(saved.meta[name], join, old, old_space, label_space, classes)
    workdir.require_free_or_same(folder, config, label_space)
    hold.keep()
    kept = workdir.checkpoints(folder, now)
    step = int(saved.state["step"])
    try:
        kept.save(step, state, meta)
    finally:
        kept.close()
    write_text(folder / _CONFIG, _CONFIG_TEXT)
    write_json(folder / runs.EDITED, {"source": f"step {step} of the workdir {checkpoint}", "trained on": trained_on})
    workdir.start(folder, config, label_space)  # at last: without a checkpoint a run would begin anew in it
    names, old_names = label_space.global_names(), old_space.global_names()
    adopted = sorted({i for rows in photos_rows for i in rows.ids})
    used = {i for move in moves for i in move}
    return Edited(
        sum(len(move) == 1 for move in moves),
        [names[i] for i, move in enumerate(moves) if len(move) > 1],
        [names[i] for i in adopted],
        [names[i] for i, move in enumerate(moves) if not move and i not in adopted],
        [name for i, name in enumerate(old_names) if i not in used],
        step,
        stages.total_steps(now, sum(photos[source.name]["count"] for source in now.sources)),
        folder / _CONFIG,
    )


def _new_run(
    old_config: ConfigDict,
    old_space: LabelSpace,
    classes: dict[str, _Classes],
    new_config: ConfigDict | None,
    overrides: Sequence[tuple[str, str]],
) -> tuple[ConfigDict, LabelSpace, list[sources.Source]]:
    """Config and label space of the run that goes on, and its training photos where a new config names them."""
    if new_config is None:
        config = config_files.apply_overrides(_edited_config(old_config, old_space, classes), list(overrides))
        named = [types.SimpleNamespace(name=name, classes=tuple(labels)) for name, labels in classes.items()]
        return config, label_spaces.build(named, config.label_space), []
    config = config_files.apply_overrides(new_config.copy_and_resolve_references(), list(overrides))
    now = configs.typed_pretrain(config)
    opened = [sources.open_source(source, now.data, now.data_dir, "train", now.seed) for source in now.sources]
    return config, label_spaces.build(opened, now.label_space), opened


def _edited_config(config: ConfigDict, old_space: LabelSpace, classes: dict[str, _Classes]) -> ConfigDict:
    """The config of a run with edited sources; stages and mixture follow their sets."""
    made = config.copy_and_resolve_references()
    before = [source.name for source in made.sources]
    places = [before.index(name) for name in classes]
    with made.unlocked():
        made.sources = tuple(made.sources[place] for place in places)
        for source, (name, labels) in zip(made.sources, classes.items(), strict=True):
            _regroup(source, dict(old_space.datasets)[name], labels)
        in_stages = (tuple(name for name in stage if name in classes) for stage in made.stages)
        made.stages = tuple(stage for stage in in_stages if stage)
        if made.mixture_weights:
            made.mixture_weights = tuple(made.mixture_weights[place] for place in places)
        made.mixture_schedule = tuple((row[0], *(row[1 + i] for i in places)) for row in made.mixture_schedule)
    return made.lock()


def _regroup(source: ConfigDict, before: Sequence[str], classes: _Classes) -> None:
    """Gives a source's config other classes, in place: `drop_classes` and `class_groups`."""
    groups = {row[0]: tuple(row[1:]) for row in source.class_groups}
    own = {label: groups.get(label, (label,)) for label in before}  # names of the set's own
    used = {label for of in classes.values() for label in of}
    dropped = [name for label in before if label not in used for name in own[label]]
    source.drop_classes = (*source.drop_classes, *dropped)
    if list(classes.items()) == [(label, (label,)) for label in before if label in used]:
        source.class_groups = tuple(row for row in source.class_groups if row[0] in used)
    else:
        source.class_groups = tuple(
            (label, *(name for old in of for name in own[old])) for label, of in classes.items()
        )


def _require_same_network(old: PretrainConfig, now: PretrainConfig, where: pathlib.Path) -> None:
    models = [dataclasses.replace(config.model, remat="none") for config in (old, now)]
    if old.objective != now.objective or models[0] != models[1]:
        differs = "config.model" if old.objective == now.objective else f"config.objective={old.objective!r}"
        raise UserError(f"--config: {where} was trained with another {differs}; expected the same, as its weights stay")
    if (counts := old.method.class_frequencies) != now.method.class_frequencies:
        raise UserError(
            f"config.method.class_frequencies={not counts}: {where} was trained with {counts}; expected the same, as "
            f"its bank {'counts the' if counts else 'has not counted'} pixels of its classes"
        )


def _require_adoptable(adopt: Sequence[str], space: LabelSpace, rows: ClassRows | None, objective: str) -> None:
    labelled = [name for name, labels in space.datasets if labels]
    for name in adopt:
        if name not in labelled:
            raise UserError(
                f"--adopt {name}: no such set with labels in --config; expected one of {', '.join(labelled)}"
            )
        if rows is None or rows.adopt is None:
            raise UserError(
                f"--adopt {name}: config.objective={objective!r} has no rows that photos give; leave --adopt away, and "
                "the new classes are learnt when the run goes on"
            )


def _moves(old: LabelSpace, new: LabelSpace, classes: dict[str, _Classes]) -> list[list[int]]:
    """Of each new global id the old ones that it is made of."""
    old_id = {(row["dataset"], row["class"]): row["global_id"] for row in old.rows()}
    moves: list[list[int]] = [[] for _ in range(new.num_classes)]
    for row in new.rows():
        of = moves[row["global_id"]]
        for label in classes.get(row["dataset"], {}).get(row["class"], ()):
            if (i := old_id[row["dataset"], label]) not in of:
                of.append(i)
    return moves


class _FromPhotos(NamedTuple):
    """Rows of classes that were adopted."""

    ids: list[int]
    rows: Rows


def _adopted(
    checkpoint: pathlib.Path,
    config: PretrainConfig,
    space: LabelSpace,
    adopt: Sequence[str],
    moves: list[list[int]],
    rows: ClassRows | None,
) -> list[_FromPhotos]:
    found = []
    for name in adopt:
        assert rows is not None and rows.adopt is not None
        net = loaded.load(checkpoint)
        net.data = config.data
        source_config = next(source for source in config.sources if source.name == name)
        source = sources.open_source(source_config, config.data, config.data_dir, "train", config.seed, scored=True)
        statistics = statistics_of(net, source, (rows.layer,))
        ids = np.array(space.global_ids[[known for known, _ in space.datasets].index(name)])
        new = np.array([not moves[i] for i in ids]) & (statistics.photos > 0)
        if not new.any():
            raise UserError(f"--adopt {name}: no class of it is new and in its photos; expected a new set with masks")
        units = discriminant.prototypes(statistics)
        made = rows.adopt(units[new], statistics.photos[new], statistics.weight[new])
        found.append(_FromPhotos(ids[new].tolist(), made))
    return found


class _Fitting(NamedTuple):
    """A saved state that fits to the new classes in all but the leaves with rows.

    Attributes:
      have: its leaves.
      want: those of the new state, as shapes.
      axes: {leaf: its axis of classes}.
      shapes: the new state.
      make: () -> the new state as it is at step 0.
    """

    have: dict[str, Any]
    want: dict[str, Any]
    axes: dict[str, int]
    shapes: Any
    make: Callable[[], Any]


def _fitting(
    saved: Any,
    config: PretrainConfig,
    label_space: LabelSpace,
    rows: ClassRows | None,
    where: str,
    names: NameRelations,
) -> _Fitting:
    mesh = sharding.mesh_of(jax.local_devices()[:1], 1)
    program = programs.pretraining(config, mesh, label_space, config.batch, names=names)
    shapes = jax.eval_shape(program.make)
    have, want = leaf_names(saved), leaf_names(shapes)
    if have.keys() != want.keys():
        name = min(have.keys() ^ want.keys())
        raise UserError(
            f"{where}: of another network, objective or optimizer: {name} is {'new' if name in want else 'unknown'}; "
            "expected the settings of that run, as its weights and momenta stay"
        )
    axes = {}
    for name, leaf in want.items():
        found = [axis for pattern, axis in (rows.leaves if rows else ()) if re.fullmatch(pattern, name)]
        if found:
            axes[name] = found[0] % leaf.ndim
        elif have[name].shape != leaf.shape:
            raise UserError(
                f"{where}: {name} has shape {have[name].shape}, and {leaf.shape} with the new classes, and "
                f"config.objective={config.objective!r} does not say how its classes change; expected the same classes"
            )
    return _Fitting(have, want, axes, shapes, program.make)


def _state_of(fitting: _Fitting, moves: list[list[int]], photos_rows: list[_FromPhotos], rows: ClassRows | None) -> Any:
    """The state with other rows, on the host, in the form of a training state."""
    have, want, axes = fitting.have, fitting.want, fitting.axes

    def of_classes() -> dict:
        made = leaf_names(fitting.make())
        return {name: made[name] for name in axes}  # XLA makes nothing else

    fresh = {name: np.array(leaf) for name, leaf in jax.jit(of_classes)().items()}
    fresh = {name: np.moveaxis(leaf, axes[name], 0) for name, leaf in fresh.items()}  # views: written in place below
    old = {name: np.moveaxis(np.asarray(have[name]), axis, 0) for name, axis in axes.items()}
    for number, move in enumerate(moves):
        if rows is None or not move:
            continue
        several = {name: leaf[move] for name, leaf in old.items()}
        one = rows.merge(several) if len(move) > 1 else {name: row[0] for name, row in several.items()}
        for name, row in one.items():
            fresh[name][number] = row
    for adopted in photos_rows:
        for name in adopted.rows.keys() & fresh.keys():
            fresh[name][adopted.ids] = adopted.rows[name]
    new = {name: np.ascontiguousarray(np.moveaxis(leaf, 0, axes[name])) for name, leaf in fresh.items()}
    leaves = [new.get(name, have[name]) for name in want]
    return jax.tree.unflatten(jax.tree.structure(fitting.shapes), leaves)


def _trained_on(checkpoint: pathlib.Path, config: PretrainConfig, space: LabelSpace, meta: dict) -> list[dict]:
    """The sets that the weights of a checkpoint were trained on (reporting/runs.py, `read_edited`)."""
    before = runs.read_edited(checkpoint)
    found = {row["name"]: row for row in before["trained on"]} if before else {}
    used = ledger.grown(meta["ledger"], space)[:, 0] if "ledger" in meta else [1] * len(config.sources)
    classes = {name: len(labels) for name, labels in space.datasets}
    for source, images in zip(config.sources, used, strict=True):
        if images and source.name not in found:
            found[source.name] = {"name": source.name, "classes": classes[source.name], "license": source.license}
    return list(found.values())


def _ledger(
    before: list[list[int]],
    join: Callable[[list[int]], int],
    old: PretrainConfig,
    old_space: LabelSpace,
    space: LabelSpace,
    classes: dict[str, _Classes],
) -> list[list[int]]:
    """What the run has used of each set (training/ledger.py), for the sets that stay; `join` is for merged classes."""
    # Workdirs of mdp adopt --append had no row for the set that they added.
    totals = ledger.grown(before, old_space).tolist()
    rows = {source.name: row for source, row in zip(old.sources, totals, strict=True)}
    number = {name: {label: i for i, label in enumerate(labels)} for name, labels in old_space.datasets}
    length = 1 + max(len(labels) for _, labels in space.datasets)
    found = []
    for name, labels in space.datasets:
        row = rows.get(name, [0])
        of = classes.get(name, {})
        known = ([row[1 + number[name][old_label]] for old_label in of.get(label, ())] for label in labels)
        pixels = [join(own) if own else 0 for own in known]
        found.append([row[0], *pixels] + [0] * (length - 1 - len(labels)))
    return found
