"""Fine-tuning: one dataset, with MMSegmentation's settings, pretrained or from scratch (METHOD.md section 6)."""

import functools
import os
import pathlib
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdp_jax import checks, configs, distributed, runtime
from mdp_jax import config as configs_of
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.evaluation import findings, inference, metrics, workdirs
from mdp_jax.evaluation.chosen_weights import EMA, PLAIN, weights_of
from mdp_jax.evaluation.findings import Measured
from mdp_jax.evaluation.scores import confusions_beside, write_scores
from mdp_jax.evaluation.workdirs import keep_palette
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.models.registry import network_in_words
from mdp_jax.reporting import contact_sheet, figures, health, runs
from mdp_jax.reporting.tables import MEANS, all_scores_table, console, for_terminal
from mdp_jax.storage import checkpoints as stored
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.storage.paths import expanded
from mdp_jax.training import class_weights, loop, optim, profiling, programs, sharding, wandb_writer, workdir
from mdp_jax.training.best import Best
from mdp_jax.training.continuing import Continued, continue_from, require_source
from mdp_jax.training.profiling import Profile
from mdp_jax.training.programs import Program
from mdp_jax.training.signals import Stop
from mdp_jax.training.state import FinetuneState, first_average, initial_variables, scored
from mdp_jax.training.transfer import Transferred, remarks_on_classes, remarks_on_layers, transfer


def _variables(state: FinetuneState, mesh: Mesh) -> dict:
    """The network by which the run is scored, as each process evaluates it by itself."""
    return sharding.own_copy(scored(state)._asdict(), mesh)


def finetune(
    config: ConfigDict, folder: str | os.PathLike, *, exits: bool = False, profile: Profile | None = None
) -> dict:
    """Fine-tunes, from the beginning or from the newest checkpoint of the workdir, and evaluates.

    Args:
      config: as configs.finetune() makes it.
      folder: workdir; gets config.json, label_space.json, metrics.jsonl, checkpoints/, best/, TensorBoard events,
        transfer.json, evaluation.json, confusion.csv, report.html.
      exits: whether a signal may end the process at once, as it does with a command; see training/signals.py.
      profile: steps that are traced, into the folder profile of the workdir; None for none.

    Returns:
      The scores on the validation photos (evaluation/metrics.py): of the best checkpoint where it is kept.

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
    wandb_writer.require(config.wandb)
    if not workdir.has_checkpoints(folder):
        require_source(config)
    assert config.dataset is not None  # the checks refuse it
    profiling.check(profile, config.steps)
    dataset, photos = (
        sources.open_source(config.dataset, config.data, config.data_dir, split, config.seed)
        for split in ("train", "val")
    )
    sources.require_size(dataset, config.data.short_side)
    label_space = label_spaces.build([dataset])
    class_weights.require_number(config, dataset)
    workdir.require_free_or_same(folder, untyped, label_space)
    taken = _taken(config, folder, mesh, label_space)
    drawn, scored = _checked_photos(untyped, config, dataset, photos, label_space)
    stop.before_steps(folder)  # all photos were read: that may have taken long
    weights = class_weights.of_classes(config, dataset)
    if weights:
        named = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(dataset.classes, weights, strict=True))
        distributed.say(f"class weights: {named}")
    program = programs.finetuning(config, mesh, label_space.num_classes, weights)
    state, origins = _first_state(program, taken)
    del taken  # what it holds is in the state, or a copy of it
    remarks = [*optim.remarks(config.optim.name, config.model), *optim.remarks_of_rates(config.optim)]
    for line in (*remarks, runtime.described(mesh.size)):
        distributed.say(line)
    hold.keep()
    workdir.require_free_or_same(folder, untyped, label_space)  # once more: until now another run could have begun
    folder = workdir.start(folder, untyped, label_space)
    if distributed.is_main():
        keep_palette(folder, dataset.palette)
        if origins is not None:
            write_json(folder / runs.TRANSFER, origins)
    checkpoints = workdir.checkpoints(folder, config)
    state, meta = workdir.restore(checkpoints, state, program.shardings, label_space, drawn, scored)

    # Without validations on the way the best step is the last.
    kept = Best(folder)
    best = kept if config.keep_best and 0 < config.evaluate_every < config.steps else None
    if not meta:  # where a run that was killed before its first checkpoint had validated
        workdir.require_same_photos(kept.meta, drawn, scored, folder / stored.BEST)
    if best is None and kept.there:
        distributed.say(
            f"{folder / stored.BEST}: the best checkpoint so far, of step {kept.step}, stays what mdp evaluate and "
            "others take, and no other one is kept now; remove it, and they take the newest"
        )
    validator = _Validator(config, program, photos, mesh, best, stop)
    fixed = {
        "config": configs_of.to_dict(untyped),
        "label_space": label_space.rows(),
        "photos": drawn,
        "scored": scored,
    }
    hooks = loop.Hooks(
        meta=lambda step: fixed | {"next_batch": step},
        validate=validator,
        validate_every=config.evaluate_every,
        best=best,
        owed=_owes_validation(folder, config, int(state.step)),
        warn=lambda values, step: health.still(values),
    )
    places = pipeline.Places(sharding.places(mesh, jax.process_index()), mesh.size)
    batches = pipeline.finetune_batches(config, dataset, start_batch=int(state.step), places=places)
    state = loop.train(state, batches, program, mesh, config.steps, config, folder, checkpoints, hooks, stop, profile)
    # Where none is kept any more, the one that is there is taken by all commands all the same.
    shown = _of_report(folder, state, mesh, kept)
    if shown.best or validator.last is None:
        measured = findings.measure(validator.evaluator, shown.variables, len(photos))
    else:
        measured = validator.last
    if distributed.is_main():
        _report(folder, config, photos, validator.evaluator, shown, measured, scored)
    return measured.scores


def _checked_photos(
    untyped: ConfigDict,
    config: configs.FinetuneConfig,
    dataset: sources.Source,
    photos: sources.Source,
    label_space: label_spaces.LabelSpace,
) -> tuple[dict, dict]:
    """What the photos of the training and of the validation are (`sources.photos_of`), once they can be read.

    Raises:
      UserError: photos that cannot be used, or others in another process.
    """
    size = {"short_side": config.data.short_side, "stride": network.feature_stride(config.model)}
    for source, of_source in ((dataset, size), (photos, {})):
        sources.check_source(source, config.data.check_files, distributed.say, **of_source)
    drawn, scored = ({source.name: sources.photos_of(source)} for source in (dataset, photos))
    workdir.require_agreement(untyped, label_space, drawn | {f"{name}, val": found for name, found in scored.items()})
    return drawn, scored


class _Validator:
    """Scores a run's network on the validation photos, on the way.

    Attributes:
      evaluator: of the photos, on the devices of this process.
      last: what the last validation found; None before the first.
    """

    def __init__(
        self,
        config: configs.FinetuneConfig,
        program: Program,
        photos: sources.Source,
        mesh: Mesh,
        best: Best | None,
        stop: Stop,
    ):
        self._photos, self._mesh, self._best, self._stop = photos, mesh, best, stop
        self._pictures = config.pictures
        self.evaluator = inference.Evaluator(
            program.network,
            photos,
            Normalise.of(config.data, config.model.compute_dtype),
            threads=config.data.threads,
            mesh=inference.mesh_of(sharding.own_devices(mesh)),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self.last: Measured | None = None

    def __call__(self, state: FinetuneState) -> loop.Validation:
        variables = _variables(state, self._mesh)
        found = findings.measure(self.evaluator, variables, len(self._photos), lambda done: self._stop.check())
        self.last = found
        score = found.scores["mIoU"]
        better = " (the best so far)" if self._best and self._best.beaten_by(score) else ""
        lines = [runs.means_in_words(found.scores) + better, metrics.one_sided(found.counts, self._photos.classes)]
        return loop.Validation(
            {f"val_{name}": found.scores[name] for name in MEANS},
            [line for line in lines if line],
            score,
            _pictures(self._pictures, self._photos, functools.partial(self.evaluator.predict, variables)),
        )


def _taken(
    config: configs.FinetuneConfig, folder: pathlib.Path, mesh: Mesh, label_space: label_spaces.LabelSpace
) -> Transferred | Continued[FinetuneState] | None:
    """What the run begins with; None for nothing. It is read before the photos, since it may not fit."""
    if workdir.has_checkpoints(folder):  # the run will take theirs
        return None
    if config.continue_from:
        state = jax.eval_shape(programs.finetuning(config, mesh, label_space.num_classes).make)
        found = continue_from(config.continue_from, config.continue_step, config.steps, state, label_space)
        distributed.say(f"going on from {found.report['source']}")
        return found
    if config.init == "scratch":
        return None
    segmenter = network.segmenter(config.model, label_space.num_classes)
    shapes = jax.eval_shape(functools.partial(initial_variables, segmenter, config.data.crop, config.seed))
    taken = transfer(config.init, config.transfer, shapes.params, shapes.batch_stats, config.init_weights, config.model)
    for line in taken.lines():
        distributed.say(f"--init {config.init}: {line}")
    for line in (
        *remarks_on_classes(config.init, config.transfer, label_space),
        *remarks_on_layers(config.init, config.transfer, config.model.reads),
    ):
        distributed.say(line)
    return taken


def _first_state(
    program: Program, taken: Transferred | Continued[FinetuneState] | None
) -> tuple[FinetuneState, dict | None]:
    """The state that a run begins with, and what transfer.json says of it; None where nothing is to be said."""
    if isinstance(taken, Continued):
        return jax.device_put(taken.state, program.shardings), taken.report
    state = program.make()
    if taken is None:
        return state, None
    params, batch_stats = taken.into(state.params, state.batch_stats)
    ema = first_average(params, batch_stats) if state.ema else {}
    state = state.replace(params=params, batch_stats=batch_stats, ema=ema)
    return jax.device_put(state, program.shardings), taken.report()


def _owes_validation(folder: pathlib.Path, config: configs.FinetuneConfig, step: int) -> bool:
    """Whether a step that was saved should have been validated and was not, since the run was told to stop."""
    due = step == config.steps or (config.evaluate_every and step % config.evaluate_every == 0)
    there = has = False
    if step and due and distributed.is_main():
        rows = [row for row in read_metrics(folder) if row["step"] == step]
        there, has = bool(rows), any("val_mIoU" in row for row in rows)
    return bool(distributed.from_main(int(there and not has)))


def _pictures(count: int, photos: sources.Source, predict: runs.Label) -> dict[str, bytes]:
    """What TensorBoard shows of a validation; drawn by one process alone."""
    if not count or not distributed.is_main():
        return {}
    rows = runs.prediction_rows(photos, {"prediction": predict}, count)
    return {"validation photos": figures.prediction_grid(rows, photos.classes, contact_sheet.class_colours([photos]))}


class _Shown(NamedTuple):
    """The network that a run's scores and report are of.

    Attributes:
      variables: {"params", "batch_stats"} on devices of this process.
      step: of it.
      best: whether it is the best checkpoint, and not the state after the last step.
    """

    variables: dict
    step: int
    best: bool


def _of_report(folder: pathlib.Path, state: FinetuneState, mesh: Mesh, best: Best) -> _Shown:
    """The one that `mdp evaluate` and the others take by default, as it is on disk."""
    if not best.there or best.step == int(state.step):
        return _Shown(_variables(state, mesh), int(state.step), False)
    saved = stored.choose(folder, stored.BEST).saved
    weights = weights_of(saved.state, saved.meta, "", str(folder))
    variables = network.without_auxiliary({"params": weights.params, "batch_stats": weights.batch_stats})
    own = inference.mesh_of(sharding.own_devices(mesh))
    return _Shown(jax.device_put(variables, sharding.replicated(own)), best.step, True)


def _report(
    folder: pathlib.Path,
    config: configs.FinetuneConfig,
    photos: sources.Source,
    evaluator: inference.Evaluator,
    shown: _Shown,
    measured: Measured,
    scored: dict,
) -> None:
    """Writes and prints the scores, and writes the confusion matrix and the page."""
    averaged = config.optim.ema_decay > 0
    chosen = workdirs.Choice(shown.step, shown.best, default=True, weights=EMA if averaged else PLAIN)
    file = write_scores(folder, {photos.name: measured.scores}, chosen=chosen, photos=scored)
    findings.confusions_csv(confusions_beside(file), measured.counts, photos.classes)
    caption = f"{photos.name}, {'best' if shown.best else 'last'} checkpoint: step {shown.step}"
    caption += ", moving average" if averaged else ""
    console().print(for_terminal(all_scores_table(measured.scores, caption), [len(photos.classes)]))
    for line in findings.in_words(measured.counts, photos.classes):
        print(line)
    if shown.best:
        print(
            f"mdp evaluate, predict, convert, adopt, export and serve take the best checkpoint, of step {shown.step}; "
            f"--step last takes that of step {config.steps}"
        )
    if averaged:
        print("the scores are of the moving average of the weights; --weights plain takes those of the step itself")
    predict = functools.partial(evaluator.predict, shown.variables)
    found = findings.sections(measured, photos, predict)
    sections = runs.finetune_sections(
        folder, config, network_in_words(config.model), photos, predict, measured.scores, shown.step, found
    )
    runs.write_page(folder, f"Fine-tuning on {photos.name} from {runs.start_of(config)}", sections)
