"""`mdp pretrain`: one network, several datasets, one prototype per class of each (METHOD.md sections 2 to 5)."""

import argparse
import functools
import math
import time

import jax

from mdp_jax import checks, runtime
from mdp_jax import config as configs
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import mixture, pipeline, sources
from mdp_jax.models import network
from mdp_jax.reporting import runs
from mdp_jax.training import optim, sharding, workdir
from mdp_jax.training.checkpoint import Checkpoints
from mdp_jax.training.monitor import Monitor
from mdp_jax.training.state import on_mesh, pretrain_state
from mdp_jax.training.steps import pretrain_step, traced_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp pretrain`."""
    parser.add_argument(
        "--config", required=True, help="a Python file with get_config(), e.g. configs/mini/pretrain.py"
    )
    parser.add_argument("--workdir", required=True, help="folder of the run; started again on it, the run goes on")
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.optim.lr=0.05."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part with parsed arguments and config overrides."""
    train(configs.apply_overrides(configs.load(args.config), overrides), args.workdir)


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
    encoder = network.pixel_encoder(config.model)
    make = functools.partial(pretrain_state, config, encoder, optimizer, label_space.num_classes)
    state, places = on_mesh(make, mesh)
    step = pretrain_step(config, encoder, optimizer, label_space.dataset_of(), mesh.size)
    return state, places, jax.jit(traced_once(step), donate_argnums=0, out_shardings=(places, None)), schedule


def train(config, folder) -> None:
    """Pretrains, from the beginning or from the newest checkpoint of the workdir.

    Args:
      config: locked ConfigDict (configs/base.py, `pretrain`).
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events, report.html.

    Raises:
      UserError: wrong config or bad data.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
    """
    runtime.set_precision(config.model)
    mesh = sharding.make_mesh(config.devices)
    checks.pretraining(config, mesh.size)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets)
    for dataset in datasets:
        sources.check_source(dataset, config.data.check_files)
    folder = workdir.open_workdir(folder, config, label_space)

    samples = sum(len(dataset) for dataset in datasets)
    steps = total_steps(config, samples)
    state, places, step_function, schedule = build(config, mesh, label_space, samples)
    checkpoints = Checkpoints(folder, config.keep_checkpoints)
    state = workdir.restore(checkpoints, state, places, label_space)
    start = int(state.step)
    shares = mixture.shares(pipeline.pretrain_schedule(config, datasets))
    runs.print_datasets(datasets, shares, steps, config.batch)

    batches = pipeline.pretrain_batches(config, datasets, label_space, start_batch=start)
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows()}
    try:
        with Monitor(folder, start, steps, config.batch) as monitor:
            for step in range(start + 1, steps + 1):
                asked = time.perf_counter()
                batch = next(batches)
                monitor.waited(time.perf_counter() - asked)
                state, metrics = step_function(state, sharding.to_devices(batch, mesh))
                monitor.record(step, metrics | {"lr": schedule(step - 1)})
                save = step % config.checkpoint_every == 0 or step == steps
                if save or step % config.log_every == 0:
                    monitor.flush()
                if save:  # after the flush: a state that is not finite is never saved
                    checkpoints.save(step, state, meta | {"next_batch": step})
    finally:
        checkpoints.close()
    first_batch = next(pipeline.pretrain_batches(config, datasets, label_space, start_batch=0))
    sections = runs.pretrain_sections(folder, label_space, state.bank, datasets, shares, first_batch)
    runs.write_page(folder, f"Pretraining on {', '.join(dataset.name for dataset in datasets)}", sections)
