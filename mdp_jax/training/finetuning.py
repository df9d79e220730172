"""Fine-tuning: one dataset, with MMSegmentation's settings, pretrained or from scratch (METHOD.md section 6)."""

import functools
import os
import pathlib

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdp_jax import checks, configs, distributed, runtime
from mdp_jax import config as configs_of
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.evaluation import inference, metrics
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.evaluation.workdirs import PALETTE
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.reporting import runs
from mdp_jax.reporting.tables import MEANS, console, for_terminal, scores_table
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.training import loop, profiling, programs, sharding, workdir
from mdp_jax.training.profiling import Profile
from mdp_jax.training.signals import Stop
from mdp_jax.training.state import FinetuneState
from mdp_jax.training.transfer import transfer


def _variables(state: FinetuneState, mesh: Mesh) -> dict:
    """The network as each process evaluates it by itself."""
    return sharding.own_copy({"params": state.params, "batch_stats": state.batch_stats}, mesh)


def finetune(
    config: ConfigDict, folder: str | os.PathLike, *, exits: bool = False, profile: Profile | None = None
) -> dict:
    """Fine-tunes, from the beginning or from the newest checkpoint of the workdir, and evaluates.

    Args:
      config: as configs.finetune() makes it.
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, TensorBoard events,
        evaluation.json, report.html.
      exits: whether a signal may end the process at once, as it does with a command; see training/signals.py.
      profile: steps that are traced, into the folder profile of the workdir; None for none.

    Returns:
      The scores on the validation photos (evaluation/metrics.py).

    Raises:
      UserError: the config is wrong, data are bad, or the weights have another architecture.
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
      PreemptedError: the process was told to stop, and has saved a checkpoint.
    """
    runtime.prepare()
    folder = expanded(folder)
    with Stop(exits) as stop, workdir.Held(folder) as hold:
        return _finetune(config, folder, stop, hold, profile)


def _finetune(
    untyped: ConfigDict, folder: pathlib.Path, stop: Stop, hold: workdir.Held, profile: Profile | None
) -> dict:
    runtime.set_precision(untyped.model.compute_dtype, untyped.model.param_dtype)
    mesh = sharding.make_mesh(untyped.devices, untyped.fsdp)
    checks.finetuning(untyped, mesh.size)
    config = configs.typed_finetune(untyped)
    assert config.dataset is not None  # the checks refuse it
    profiling.check(profile, config.steps)
    dataset, photos = (
        sources.open_source(config.dataset, config.data, config.data_dir, split, config.seed)
        for split in ("train", "val")
    )
    label_space = label_spaces.build([dataset])
    workdir.require_free_or_same(folder, untyped, label_space)
    size = {"short_side": config.data.short_side, "stride": network.feature_stride(config.model)}
    for source, of_source in ((dataset, size), (photos, {})):
        sources.check_source(source, config.data.check_files, distributed.say, **of_source)
    drawn = {dataset.name: sources.photos_of(dataset)}
    workdir.require_agreement(untyped, label_space, drawn | {f"{dataset.name}, val": sources.photos_of(photos)})
    distributed.say(runtime.described(mesh.size))
    program = programs.finetuning(config, mesh, label_space.num_classes)
    state = program.make()
    if config.init != "scratch" and not workdir.has_checkpoints(folder):
        found = transfer(config.init, config.transfer, state.params, state.batch_stats)
        state = state.replace(params=found.params, batch_stats=found.batch_stats)
        state = jax.device_put(state, program.shardings)
    hold.keep()
    workdir.require_free_or_same(folder, untyped, label_space)  # once more: until now another run could have begun
    folder = workdir.start(folder, untyped, label_space)
    if dataset.palette is not None and distributed.is_main():
        write_json(folder / PALETTE, dataset.palette.tolist())
    checkpoints = workdir.checkpoints(folder, config)
    state, _ = workdir.restore(checkpoints, state, program.shardings, label_space, drawn)

    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    places = pipeline.Places(sharding.places(mesh, jax.process_index()), mesh.size)
    normalise = Normalise.of(config.data, config.model.compute_dtype)
    own = inference.mesh_of(sharding.own_devices(mesh))
    threads = config.data.threads
    evaluator = inference.Evaluator(program.network, photos, normalise, threads=threads, mesh=own, **processes)
    scores: dict = {}

    def validate(state: FinetuneState) -> loop.Validation:
        counts, number = evaluator.total(_variables(state, mesh), lambda done: stop.check())
        scores.update(evaluator.scores(counts, number))
        lines = [runs.means_in_words(scores), metrics.one_sided(counts, photos.classes)]
        return loop.Validation({f"val_{name}": scores[name] for name in MEANS}, [line for line in lines if line])

    fixed = {"config": configs_of.to_dict(untyped), "label_space": label_space.rows(), "photos": drawn}
    hooks = loop.Hooks(
        meta=lambda step: fixed | {"next_batch": step}, validate=validate, validate_every=config.evaluate_every
    )
    batches = pipeline.finetune_batches(config, dataset, start_batch=int(state.step), places=places)
    left = config.steps - int(state.step)
    state = loop.train(state, batches, program, mesh, config.steps, config, folder, checkpoints, hooks, stop, profile)
    variables = _variables(state, mesh)
    if not left:
        scores = evaluator(variables)
    if not distributed.is_main():
        return scores
    write_scores(folder, {photos.name: scores})
    console().print(for_terminal(scores_table({"IoU, or mean (%)": scores}, photos.name), [len(photos.classes)]))
    predict = functools.partial(evaluator.predict, variables)
    sections = runs.finetune_sections(folder, config, photos, predict, scores)
    runs.write_page(folder, f"Fine-tuning on {photos.name} from {config.init}", sections)
    return scores
