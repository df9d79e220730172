"""`mdp pretrain`: one network, several datasets, one prototype per class of each (METHOD.md sections 2 to 5)."""

import argparse
import contextlib
import functools
import itertools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mdp_jax import config as configs
from mdp_jax import distributed, runtime
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import mixture, pipeline, stages
from mdp_jax.errors import PreemptedError
from mdp_jax.objectives import registry as objectives
from mdp_jax.reporting import runs
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import checks, optim, sharding, workdir
from mdp_jax.training.ledger import Ledger
from mdp_jax.training.monitor import Monitor, read_metrics
from mdp_jax.training.preemption import Preemption
from mdp_jax.training.state import on_mesh, pretrain_state
from mdp_jax.training.steps import jitted, pretrain_step

add_arguments = configs.add_run_arguments


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part with parsed arguments and config overrides."""
    train(configs.of_arguments(args, overrides), args.workdir)


def learning_rate(config, samples: int, starts: Sequence[int]) -> optax.Schedule:
    """Learning rate by step: in each stage a warm-up and half a cosine to 0 (METHOD.md sections 5 and 7).

    Args:
      config: of `mdp pretrain`.
      samples: that all datasets hold together.
      starts: steps at which the stages begin; of several each warms up for a tenth of its steps at most.
    """
    peak = config.optim.lr * config.batch / 256
    warmup = round(config.optim.warmup_epochs * samples / config.batch)
    lengths = [end - start for start, end in itertools.pairwise([*starts, stages.total_steps(config, samples)])]
    warmups = [warmup] if len(lengths) == 1 else [min(warmup, length // 10) for length in lengths]
    of_stages = [optim.cosine_with_warmup(peak, *stage) for stage in zip(warmups, lengths, strict=True)]
    return optax.join_schedules(of_stages, starts[1:])


def program(config, mesh, label_space, samples: int, starts: Sequence[int] = (0,)):
    """What a run computes, compiled for nothing yet: `mdp plan` lowers it for machines that are not here.

    Args:
      config: of `mdp pretrain`.
      mesh: see sharding.mesh_of.
      label_space: of all datasets.
      samples: that all datasets hold together.
      starts: steps at which the stages begin (data/stages.py); one for joint pretraining.

    Returns:
      jitted function () -> state of step 0 on the mesh, its shardings, jitted step function (state donated), and the
      learning-rate schedule.
    """
    schedule = learning_rate(config, samples, starts)
    optimizer = optim.sgd(schedule, config.optim.momentum, config.optim.weight_decay, decay_all=False)
    objective = objectives.objective(config, label_space, mesh.size)
    make, places = on_mesh(functools.partial(pretrain_state, config, objective, optimizer), mesh)
    return make, places, jitted(pretrain_step(config, objective, optimizer, mesh.size), places, mesh), schedule


def build(config, mesh, label_space, samples: int, starts: Sequence[int] = (0,)):
    """`program` with the state of step 0 in place of the function that makes it."""
    make, *rest = program(config, mesh, label_space, samples, starts)
    return make(), *rest


def start_from(init: str, state, places):
    """The state of step 0 with backbone and decoder of a workdir or a file, in both encoders (METHOD.md section 1).

    Args:
      init: what `workdir.transfer` takes.
      state: from scratch.
      places: its shardings.

    Raises:
      UserError: nothing there to start from, or another architecture.
    """
    params, batch_stats = workdir.transfer(init, ("backbone", "decoder"), state.params, state.batch_stats)
    params = jax.device_put(params, places.params)
    batch_stats = jax.device_put(batch_stats, places.batch_stats)
    state = state.replace(params=params, batch_stats=batch_stats)
    if not state.momentum_params:
        return state
    # Copies: the step is given its input's memory, and one buffer cannot be given twice.
    copy = jax.jit(lambda *trees: jax.tree.map(jnp.copy, trees), out_shardings=(places.params, places.batch_stats))
    momentum_params, momentum_batch_stats = copy(params, batch_stats)
    return state.replace(momentum_params=momentum_params, momentum_batch_stats=momentum_batch_stats)


def train(config, folder) -> None:
    """Pretrains, from the beginning or from the newest checkpoint of the workdir.

    Args:
      config: locked ConfigDict (mdp_jax/configs.py, `pretrain`).
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events, report.html.

    Raises:
      UserError: wrong config, bad data, or weights of another architecture.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
      PreemptedError: the process was told to stop, and has saved a checkpoint.
    """
    runtime.set_precision(config.model)
    mesh = sharding.make_mesh(config.devices, config.fsdp)
    checks.pretraining(config, mesh.size)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets, config.label_space)
    workdir.require_free_or_same(folder, config, label_space)
    samples = sum(len(dataset) for dataset in datasets)
    steps, starts = stages.total_steps(config, samples), stages.starts(config, datasets)
    for dataset in datasets:
        sources.check_source(dataset, config.data.check_files)
    photos = {dataset.name: sources.photos_of(dataset) for dataset in datasets}
    workdir.require_agreement(config, label_space, photos)
    state, places, step_function, schedule = build(config, mesh, label_space, samples, starts)
    if config.init != "scratch" and not workdir.has_checkpoints(folder):
        state = start_from(config.init, state, places)
    folder = workdir.start(folder, config, label_space)
    checkpoints = Checkpoints(folder, config.keep_checkpoints, config.keep_every)
    state, before = workdir.restore(checkpoints, state, places, label_space, photos)
    start = int(state.step)
    # One process goes on counting from what all of them counted.
    ledger = Ledger(label_space, datasets, before["ledger"] if before and distributed.is_main() else None)
    shares = mixture.shares(pipeline.pretrain_schedule(config, datasets), steps * config.batch // 2)
    if distributed.is_main():
        warmup_epochs = 0.0 if config.stages else config.optim.warmup_epochs
        runs.print_datasets(datasets, shares, steps, config.batch, warmup_epochs)
    batches_from = functools.partial(
        pipeline.pretrain_batches,
        config,
        datasets,
        label_space,
        key_view=config.objective in objectives.TWO_VIEWS,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    batches = batches_from(start_batch=start)
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows(), "photos": photos}
    try:
        with (
            Monitor(folder, start, steps, config.batch, schedule) as monitor,
            contextlib.closing(batches),
            Preemption() as preemption,
        ):
            for step in range(start + 1, steps + 1):
                asked = time.perf_counter()
                batch = next(batches)
                monitor.waited(time.perf_counter() - asked)
                ledger.add(batch)
                state, metrics = step_function(state, sharding.to_devices(batch, mesh))
                monitor.record(step, metrics)
                preempted = preemption.reached(step)
                save = preempted or step % config.checkpoint_every == 0 or step == steps
                if save or step % config.log_every == 0:
                    totals = distributed.total(ledger.totals())
                    monitor.flush(ledger.metrics(totals))
                if save:  # after the flush: a state that is not finite is never saved
                    checkpoints.save(step, state, meta | {"next_batch": step, "ledger": totals.tolist()})
                if preempted and step < steps:
                    raise PreemptedError(f"told to stop; {folder} goes on after step {step} with the same command")
    finally:
        checkpoints.close()
    totals = distributed.total(ledger.totals())
    if not distributed.is_main():
        return
    with contextlib.closing(batches_from(start_batch=0)) as batches:
        first_batch = next(batches)
    tables = [runs.datasets_table(datasets, shares), ledger.table(totals, read_metrics(folder))]
    sections = runs.pretrain_sections(folder, label_space, state.bank, datasets, tables, first_batch)
    runs.write_page(folder, f"Pretraining on {', '.join(dataset.name for dataset in datasets)}", sections)
