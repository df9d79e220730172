"""`mdp finetune`: one dataset, with MMSegmentation's settings, pretrained or from scratch (METHOD.md section 6)."""

import argparse
import contextlib
import functools
import time

import jax

from mdp_jax import config as configs
from mdp_jax import distributed, runtime
from mdp_jax.commands.evaluate import write_scores
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.errors import PreemptedError
from mdp_jax.evaluation import inference
from mdp_jax.models import network
from mdp_jax.reporting import runs
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import checks, optim, sharding, workdir
from mdp_jax.training.monitor import Monitor
from mdp_jax.training.preemption import Preemption
from mdp_jax.training.state import finetune_state, on_mesh
from mdp_jax.training.steps import finetune_step, jitted

add_arguments = configs.add_run_arguments


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part with parsed arguments and config overrides."""
    train(configs.of_arguments(args, overrides), args.workdir)


def program(config, mesh, num_classes: int):
    """What a run computes, compiled for nothing yet: `mdp plan` lowers it for machines that are not here.

    Args:
      config: of `mdp finetune`.
      mesh: see sharding.mesh_of.
      num_classes: of the dataset.

    Returns:
      segmenter, jitted function () -> state of step 0 on the mesh, its shardings, jitted step function (state donated),
      and the learning-rate schedule.
    """
    schedule = optim.polynomial(config.optim.lr, config.optim.lr_min, config.optim.power, config.steps)
    optimizer = optim.sgd(schedule, config.optim.momentum, config.optim.weight_decay, decay_all=True)
    segmenter = network.segmenter(config.model, num_classes, frozen_body=config.trainable == "head")
    make, places = on_mesh(functools.partial(finetune_state, config, segmenter, optimizer), mesh)
    step = jitted(finetune_step(config, segmenter, optimizer, mesh.size), places, mesh)
    return segmenter, make, places, step, schedule


def build(config, mesh, num_classes: int):
    """`program` with the state of step 0 in place of the function that makes it."""
    segmenter, make, *rest = program(config, mesh, num_classes)
    return segmenter, make(), *rest


def _variables(state, mesh) -> dict:
    """The network as each process evaluates it by itself."""
    return sharding.own_copy({"params": state.params, "batch_stats": state.batch_stats}, mesh)


def train(config, folder) -> dict:
    """Fine-tunes, from the beginning or from the newest checkpoint of the workdir, and evaluates.

    Args:
      config: locked ConfigDict (mdp_jax/configs.py, `finetune`).
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events,
        evaluation.json, report.html.

    Returns:
      The scores on the validation photos (evaluation/metrics.py).

    Raises:
      UserError: wrong config, bad data, or weights of another architecture.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
      PreemptedError: the process was told to stop, and has saved a checkpoint.
    """
    runtime.set_precision(config.model)
    mesh = sharding.make_mesh(config.devices, config.fsdp)
    checks.finetuning(config, mesh.size)
    dataset, photos = (
        sources.open_source(config.dataset, config.data, config.data_dir, split, config.seed)
        for split in ("train", "val")
    )
    label_space = label_spaces.build([dataset])
    workdir.require_free_or_same(folder, config, label_space)
    for source in (dataset, photos):
        sources.check_source(source, config.data.check_files)
    drawn = {dataset.name: sources.photos_of(dataset)}
    workdir.require_agreement(config, label_space, drawn | {f"{dataset.name}, val": sources.photos_of(photos)})
    segmenter, state, places, step_function, schedule = build(config, mesh, label_space.num_classes)
    if config.init != "scratch" and not workdir.has_checkpoints(folder):
        params, batch_stats = workdir.transfer(config.init, config.transfer, state.params, state.batch_stats)
        state = jax.device_put(state.replace(params=params, batch_stats=batch_stats), places)
    folder = workdir.start(folder, config, label_space)
    checkpoints = Checkpoints(folder, config.keep_checkpoints, config.keep_every)
    state, _ = workdir.restore(checkpoints, state, places, label_space, drawn)
    start = int(state.step)

    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    evaluator = inference.Evaluator(segmenter, photos, config, **processes)
    batches = pipeline.finetune_batches(config, dataset, start_batch=start, **processes)
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows(), "photos": drawn}
    scores = None
    try:
        with (
            Monitor(folder, start, config.steps, config.batch, schedule) as monitor,
            contextlib.closing(batches),
            Preemption() as preemption,
        ):
            for step in range(start + 1, config.steps + 1):
                asked = time.perf_counter()
                batch = next(batches)
                monitor.waited(time.perf_counter() - asked)
                state, metrics = step_function(state, sharding.to_devices(batch, mesh))
                monitor.record(step, metrics)
                preempted = preemption.reached(step)
                save = preempted or step % config.checkpoint_every == 0 or step == config.steps
                look = step == config.steps or (config.evaluate_every and step % config.evaluate_every == 0)
                look = look and not (preempted and step < config.steps)  # the time that is left is for the checkpoint
                if save or look or step % config.log_every == 0:
                    monitor.flush()
                if look:
                    scores = evaluator(_variables(state, mesh))
                    monitor.write(step, {f"val_{name}": scores[name] for name in ("mIoU", "mAcc", "aAcc")})
                    monitor.pause()
                if save:  # after the flush: a state that is not finite is never saved
                    checkpoints.save(step, state, meta | {"next_batch": step})
                if preempted and step < config.steps:
                    raise PreemptedError(f"told to stop; {folder} goes on after step {step} with the same command")
    finally:
        checkpoints.close()
    variables = _variables(state, mesh)
    scores = scores or evaluator(variables)
    if not distributed.is_main():
        return scores
    write_scores(folder, {photos.name: scores})
    predict = functools.partial(evaluator.predict, variables)
    sections = runs.finetune_sections(folder, photos, predict, scores)
    runs.write_page(folder, f"Fine-tuning on {photos.name} from {config.init}", sections)
    return scores
