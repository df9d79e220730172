"""`mdp pretrain`: one network, several datasets, one prototype per class of each (METHOD.md sections 2 to 5)."""

import argparse
import contextlib
import functools
import math
import time

import jax
import jax.numpy as jnp

from mdp_jax import checks, runtime
from mdp_jax import config as configs
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import mixture, pipeline, sources
from mdp_jax.reporting import runs
from mdp_jax.training import objectives, optim, sharding, workdir
from mdp_jax.training.checkpoint import Checkpoints
from mdp_jax.training.monitor import Monitor
from mdp_jax.training.state import on_mesh, pretrain_state
from mdp_jax.training.steps import pretrain_step, traced_once

add_arguments = configs.add_run_arguments


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part with parsed arguments and config overrides."""
    train(configs.of_arguments(args, overrides), args.workdir)


def total_steps(config, samples: int) -> int:
    """Length of the run in steps; an epoch is as many samples as all datasets hold together."""
    return config.steps or math.ceil(config.epochs * samples / config.batch)


def build(config, mesh, label_space, samples: int):
    """The network and optimizer of a config, the state of step 0 on the mesh, and the jitted step.

    Args:
      config: of `mdp pretrain`.
      mesh: with the axis `data`.
      label_space: of all datasets.
      samples: that all datasets hold together.

    Returns:
      state, its shardings, step function (state donated), and the learning-rate schedule.
    """
    peak = config.optim.lr * config.batch / 256
    warmup = round(config.optim.warmup_epochs * samples / config.batch)
    schedule = optim.cosine_with_warmup(peak, warmup, total_steps(config, samples))
    optimizer = optim.sgd(schedule, config.optim.momentum, config.optim.weight_decay, decay_all=False)
    objective = objectives.objective(config, label_space, mesh.size)
    state, places = on_mesh(functools.partial(pretrain_state, config, objective, optimizer), mesh)
    step = pretrain_step(config, objective, optimizer)
    return state, places, jax.jit(traced_once(step), donate_argnums=0, out_shardings=(places, None)), schedule


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
    state = state.replace(params=params, batch_stats=batch_stats)
    if state.momentum_params:
        state = state.replace(
            # Copies: the step is given its input's memory, and one buffer cannot be given twice.
            momentum_params=jax.tree.map(jnp.copy, params),
            momentum_batch_stats=jax.tree.map(jnp.copy, batch_stats),
        )
    return jax.device_put(state, places)


def train(config, folder) -> None:
    """Pretrains, from the beginning or from the newest checkpoint of the workdir.

    Args:
      config: locked ConfigDict (configs/base.py, `pretrain`).
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events, report.html.

    Raises:
      UserError: wrong config, bad data, or weights of another architecture.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
    """
    runtime.set_precision(config.model)
    mesh = sharding.make_mesh(config.devices)
    checks.pretraining(config, mesh.size)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets)
    workdir.require_free_or_same(folder, config, label_space)
    for dataset in datasets:
        sources.check_source(dataset, config.data.check_files)
    samples = sum(len(dataset) for dataset in datasets)
    steps = total_steps(config, samples)
    state, places, step_function, schedule = build(config, mesh, label_space, samples)
    if config.init != "scratch" and not workdir.has_checkpoints(folder):
        state = start_from(config.init, state, places)
    folder = workdir.start(folder, config, label_space)
    checkpoints = Checkpoints(folder, config.keep_checkpoints)
    state = workdir.restore(checkpoints, state, places, label_space)
    start = int(state.step)
    shares = mixture.shares(pipeline.pretrain_schedule(config, datasets))
    runs.print_datasets(datasets, shares, steps, config.batch)

    def batches_from(step):
        # The second view is the momentum encoder's.
        key_view = bool(state.momentum_params)
        return pipeline.pretrain_batches(config, datasets, label_space, start_batch=step, key_view=key_view)

    batches = batches_from(start)
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows()}
    try:
        with Monitor(folder, start, steps, config.batch, schedule) as monitor, contextlib.closing(batches):
            for step in range(start + 1, steps + 1):
                asked = time.perf_counter()
                batch = next(batches)
                monitor.waited(time.perf_counter() - asked)
                state, metrics = step_function(state, sharding.to_devices(batch, mesh))
                monitor.record(step, metrics)
                save = step % config.checkpoint_every == 0 or step == steps
                if save or step % config.log_every == 0:
                    monitor.flush()
                if save:  # after the flush: a state that is not finite is never saved
                    checkpoints.save(step, state, meta | {"next_batch": step})
    finally:
        checkpoints.close()
    with contextlib.closing(batches_from(0)) as batches:
        first_batch = next(batches)
    sections = runs.pretrain_sections(folder, label_space, state.bank, datasets, shares, first_batch)
    runs.write_page(folder, f"Pretraining on {', '.join(dataset.name for dataset in datasets)}", sections)
