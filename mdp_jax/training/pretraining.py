"""Pretraining: one network, several datasets, one prototype per class of each (METHOD.md sections 2 to 5)."""

import contextlib
import dataclasses
import functools
import os
import pathlib
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdp_jax import checks, configs, distributed, runtime
from mdp_jax import config as configs_of
from mdp_jax.data import class_names, sources
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data.batches import mixture, pipeline, stages
from mdp_jax.models import network
from mdp_jax.models.registry import network_in_words
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import health, runs
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.storage.paths import expanded
from mdp_jax.training import loop, optim, profiling, programs, sharding, wandb_writer, workdir
from mdp_jax.training.continuing import Continued, continue_from, require_source
from mdp_jax.training.ledger import Ledger, of_other_run
from mdp_jax.training.profiling import Profile
from mdp_jax.training.programs import Program
from mdp_jax.training.signals import Stop
from mdp_jax.training.state import PretrainState
from mdp_jax.training.transfer import Transferred, transfer


class Started(NamedTuple):
    """A new state with parts of another network.

    Attributes:
      state: the state.
      report: what `transfer.json` of the workdir holds.
    """

    state: PretrainState
    report: dict


def start_from(taken: Transferred, state: PretrainState, program: Program) -> Started:
    """Gives both encoders of a new state the backbone and decoder of a workdir or a file (METHOD.md section 1).

    Args:
      taken: backbone, decoder or both.
      state: from scratch.
      program: of the run.

    Returns:
      The new state, and where its leaves come from.
    """
    assert program.init_memory is not None  # it is a pretraining
    found = taken.into(state.params, state.batch_stats)
    params = jax.device_put(found.params, program.shardings.params)
    batch_stats = jax.device_put(found.batch_stats, program.shardings.batch_stats)
    memory = jax.jit(program.init_memory, out_shardings=program.shardings.memory)(params, batch_stats)
    new = dataclasses.replace(state, params=params, batch_stats=batch_stats, memory=memory)
    return Started(new, taken.report())


def pretrain(
    config: ConfigDict, folder: str | os.PathLike, *, exits: bool = False, profile: Profile | None = None
) -> None:
    """Pretrains, from the beginning or from the newest checkpoint of the workdir.

    Args:
      config: as configs.pretrain() makes it.
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events, report.html.
      exits: whether a signal may end the process at once, as it does with a command; see training/signals.py.
      profile: steps that are traced, into the folder profile of the workdir; None for none.

    Raises:
      UserError: the config is wrong, data are bad, or the weights have another architecture.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
      PreemptedError: the process was told to stop, and has saved a checkpoint.
    """
    runtime.prepare()
    folder = expanded(folder)
    with Stop(exits) as stop, workdir.Held(folder) as hold:
        _pretrain(config, folder, stop, hold, profile)


def _pretrain(
    untyped: ConfigDict, folder: pathlib.Path, stop: Stop, hold: workdir.Held, profile: Profile | None
) -> None:
    runtime.set_precision(untyped.model.compute_dtype, untyped.model.param_dtype)
    mesh = sharding.make_mesh(untyped.devices, untyped.fsdp)
    checks.pretraining(untyped, mesh.size)
    config = configs.typed_pretrain(untyped)
    wandb_writer.require(config.wandb)
    if not workdir.has_checkpoints(folder):
        require_source(config)
    objective = OBJECTIVES[config.objective]
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    for dataset in datasets:
        sources.require_size(dataset, config.data.short_side)
    label_space = label_spaces.build(datasets, config.label_space)
    workdir.require_free_or_same(folder, untyped, label_space)
    samples = sum(len(dataset) for dataset in datasets)
    steps, starts = stages.total_steps(config, samples), stages.starts(config, datasets)
    profiling.check(profile, steps)
    names = class_names.of_run(config.method, label_space, config.model.projection.dim, config.seed)
    names.require_same(folder)
    program = programs.pretraining(config, mesh, label_space, samples, starts, names.relations)
    taken = _taken(config, folder, program, label_space, steps)
    for dataset in datasets:
        size = {"short_side": config.data.short_side, "stride": network.feature_stride(config.model)}
        sources.check_source(dataset, config.data.check_files, distributed.say, **size)
    photos = {dataset.name: sources.photos_of(dataset) for dataset in datasets}
    workdir.require_agreement(untyped, label_space, photos, names.identity)
    stop.before_steps(folder)  # all photos were read: that may have taken long
    state, origins, earlier = _first_state(program, taken)
    del taken  # what it holds is in the state, or a copy of it
    for line in names.lines(config.method.related_as):
        distributed.say(line)
    for line in (*optim.remarks(config.optim.name, config.model), runtime.described(mesh.size)):
        distributed.say(line)
    hold.keep()
    workdir.require_free_or_same(folder, untyped, label_space)  # once more: until now another run could have begun
    folder = workdir.start(folder, untyped, label_space)
    if distributed.is_main():
        names.save(folder)
    if origins is not None and distributed.is_main():
        write_json(folder / runs.TRANSFER, origins)
    checkpoints = workdir.checkpoints(folder, config)
    state, meta = workdir.restore(checkpoints, state, program.shardings, label_space, photos)
    meta = meta or earlier
    # One process goes on counting from what all of them counted.
    used = meta if distributed.is_main() else {}
    ledger = Ledger(label_space, datasets, used.get("ledger"), used.get("last_seen"), int(state.step))
    shares = mixture.shares(pipeline.pretrain_schedule(config, datasets), steps * config.batch // 2)
    if distributed.is_main():
        warmup_epochs = 0.0 if config.stages else config.optim.warmup_epochs
        runs.print_datasets(datasets, shares, steps, config.batch, warmup_epochs)
    batches_from = functools.partial(
        pipeline.pretrain_batches,
        config,
        datasets,
        label_space,
        key_view=objective.two_views,
        places=pipeline.Places(sharding.places(mesh, jax.process_index()), mesh.size),
    )
    fixed = {"config": configs_of.to_dict(untyped), "label_space": label_space.rows(), "photos": photos}
    hooks = loop.Hooks(
        meta=lambda step: (
            fixed | {"next_batch": step, "ledger": ledger.of_run().tolist(), "last_seen": ledger.last_seen().tolist()}
        ),
        taken=ledger.add,
        warn=lambda values, step: health.of_training(values, step, steps, ledger.unseen_by_name()),
        row=lambda: ledger.metrics(ledger.add_up()),
    )
    batches = batches_from(start_batch=int(state.step))
    state = loop.train(state, batches, program, mesh, steps, config, folder, checkpoints, hooks, stop, profile)
    totals = ledger.add_up()
    if not distributed.is_main():
        return
    with contextlib.closing(batches_from(start_batch=0)) as batches:
        first_batch = next(batches)
    tables = [runs.datasets_table(datasets, shares), ledger.table(totals, read_metrics(folder))]
    bank = objective.bank(state.memory) if objective.bank else None
    sections = runs.pretrain_sections(
        folder, config, steps, network_in_words(config.model), label_space, bank, datasets, tables, first_batch
    )
    runs.write_page(folder, f"Pretraining on {', '.join(dataset.name for dataset in datasets)}", sections)


def _taken(
    config: configs.PretrainConfig,
    folder: pathlib.Path,
    program: Program,
    label_space: label_spaces.LabelSpace,
    steps: int,
) -> Transferred | Continued[PretrainState] | None:
    """What the run begins with; None for nothing. It is read before the photos, since it may not fit."""
    if workdir.has_checkpoints(folder):  # the run will take theirs
        return None
    if config.continue_from:
        new = jax.eval_shape(program.make)
        found = continue_from(config.continue_from, config.continue_step, steps, new, label_space)
        distributed.say(f"going on from {found.report['source']}")
        return found._replace(meta=of_other_run(found.meta, label_space))
    if config.init == "scratch":
        return None
    new = jax.eval_shape(program.make)
    parts = ("backbone", "decoder")
    taken = transfer(config.init, parts, new.params, new.batch_stats, config.init_weights, config.model)
    for line in taken.lines():
        distributed.say(f"--init {config.init}: {line}")
    return taken


def _first_state(
    program: Program, taken: Transferred | Continued[PretrainState] | None
) -> tuple[PretrainState, dict | None, dict]:
    """The state that a run begins with; what transfer.json says of it, or None; what the checkpoint has beside it."""
    if isinstance(taken, Continued):
        return jax.device_put(taken.state, program.shardings), taken.report, taken.meta
    state = program.make()
    return (state, None, {}) if taken is None else (*start_from(taken, state, program), {})
