"""The model card: what an exported network is, in Markdown."""

import dataclasses
import importlib.metadata
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mdp_jax import config as config_files
from mdp_jax import configs, schema
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import scores, workdirs
from mdp_jax.exporting.program import Form
from mdp_jax.models.registry import decoder_in_words
from mdp_jax.reporting import runs
from mdp_jax.storage.paths import expanded
from mdp_jax.words import counted

NOT_STATED = "not stated"
STABLEHLO, ONNX = "stablehlo", "onnx"
SCRATCH = "scratch"
_SIDE = "data.short_side"
_BEFORE = "what it began from"

# What every snippet begins with; {prepare} makes the input of a photo.
_READ = """photo = cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)
{prepare}"""
_ANY = "image = photo[None]"
# As data/images.py resizes. OpenCV samples other places where it is given factors in place of a size.
_RESIZED = """how = cv2.INTER_AREA if height <= photo.shape[0] and width <= photo.shape[1] else cv2.INTER_LINEAR
image = cv2.resize(photo, (width, height), interpolation=how)[None]"""
_SHORT_SIDE = f"""scale = {{short_side}} / min(photo.shape[:2])
height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
{_RESIZED}"""
_FIXED = f"height, width = {{height}}, {{width}}\n{_RESIZED}"
_REPEATED = "image = image.repeat({batch}, axis=0)  # as many photos at one time"

_JAX = """import pathlib

import cv2
from jax import export

{read}
network = export.deserialize(bytearray(pathlib.Path("{file}").read_bytes()))
{output} = network.call(image)[0]
"""
_ONNX = """import cv2
import onnxruntime

{read}
network = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
{output} = network.run(["{output}"], {{"image": image}})[0][0]
"""
_TORCH = """import cv2
import onnxruntime
import torch

{read}
network = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
{output} = torch.from_numpy(network.run(["{output}"], {{"image": image}})[0][0])
"""


@dataclasses.dataclass(frozen=True)
class Written:
    """What stands beside the card.

    Attributes:
      name: of the network.
      form: input and output.
      files: format -> name of its file.
      platforms: of the StableHLO file.
      checked: format -> how it agreed with the network, or why that was not looked at.
      license: of the network; "" where it is not stated.
    """

    name: str
    form: Form
    files: Mapping[str, str]
    platforms: tuple[str, ...]
    checked: Mapping[str, str]
    license: str = ""


def text_of(run: workdirs.Workdir, written: Written) -> str:
    """Writes the card.

    Args:
      run: the workdir of a fine-tuned or adopted network.
      written: what stands beside it.

    Raises:
      UserError: its scores, or config.json or label_space.json of the run that it began from, cannot be read.
    """
    parts = [
        f"# {written.name}",
        f"A network for semantic segmentation: it gives each pixel one of {len(run.classes)} classes.",
        _table(("", ""), _facts(run, written)),
        "## Input and output",
        _input(run, written),
        "## Data",
        _data(run),
        "## Scores",
        _scores(run),
        "## Use",
        _use(run, written),
        "## Classes",
        f"The ids of the labels. `classes.json` holds the same names.\n\n{_classes(run.classes)}",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _facts(run: workdirs.Workdir, written: Written) -> list[tuple[str, object]]:
    model = configs.typed_finetune(run.config).model
    reads = "" if model.reads == ("decoder",) else f", classifier on {' and '.join(model.reads)}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mdp_jax", "jax"))
    rows: list[tuple[str, object]] = [
        ("network", f"{model.backbone} of width {model.width:g}, output stride {model.output_stride}"),
        ("decoder", f"{decoder_in_words(model.decoder)}{reads}"),
        ("steps of training", f"{run.step}{run.chosen.in_words()}"),
        ("license", written.license or NOT_STATED),
        ("written by", versions),
    ]
    rows += [(f"`{file}`", written.checked[kind]) for kind, file in written.files.items()]
    return rows


def _input(run: workdirs.Workdir, written: Written) -> str:
    form, data = written.form, run.config.data
    batch = "any number of photos" if form.batch is None else counted(form.batch, "photo")
    size = "of any height and width" if form.size is None else "of {} x {} pixels (height x width)".format(*form.size)
    out = {
        "labels": "`labels`: int32 [B, H, W], the id of the most likely class in each pixel.",
        "logits": f"`logits`: float [B, H, W, {len(run.classes)}]. The largest one is the class; softmax over the last "
        "axis gives probabilities.",
    }[form.output]
    lines = [
        f"- Input `image`: uint8 [B, H, W, 3], RGB from 0 to 255; {batch} {size}.",
        "- The network normalises the photo itself. Do not do it before.",
        f"- Output {out}",
    ]
    if data.short_side:
        lines.append(
            f"- The network is for photos whose short side has {data.short_side} pixels. Resize photos to it first. "
            "The output has the size of the resized photo."
        )
    if changed := run.changed.get(_SIDE):
        lines.append(f"- It was trained on photos {_of_size(changed.before)}.")
    return "\n".join(lines)


def _of_size(short_side: int) -> str:
    return f"whose short side has {short_side} pixels" if short_side else "of their own size"


def _data(run: workdirs.Workdir) -> str:
    rows = [_dataset(run.config.dataset, "this network", len(run.classes))]
    config, whose, said = run.config, "Training", []
    places: list[str] = []  # that were looked at
    while (place := str(config.continue_from or config.init)) != SCRATCH:
        name, goes_on = pathlib.Path(place).name, bool(config.continue_from)
        said.append(f"{whose} {'went on from' if goes_on else 'began with'} the weights of `{name}`.")
        try:
            found = None if place in places else _run_in(place)
        except UserError:
            if not places:
                raise
            found = None
        if found is None:
            said.append("What these were trained on is not known here.")
            break
        places.append(place)
        if found.gone:
            names = ", ".join(row[0] for row in found.gone)
            said.append(f"`mdp edit-bank` took {names} out of `{name}`, whose weights were trained on it before.")
        known = {row[0] for row in rows} if goes_on else ()
        config, whose = found.config, f"The run `{name}`"
        rows += [row for row in (*found.datasets, *found.gone) if row not in rows and row[0] not in known]
    note = " ".join(said) or "Training began with random weights."
    return f"{_table(('dataset', 'trained', 'classes', 'license'), rows)}\n\n{note}"


def _dataset(config: ConfigDict, of_what: str, classes: int) -> tuple:
    return config.name, of_what, classes, config.license or NOT_STATED


class _Run(NamedTuple):
    """A run that a network began from.

    Attributes:
      config: of the run.
      datasets: rows of the table.
      gone: likewise, of sets that `mdp edit-bank` took out of it, and that its weights were trained on before.
    """

    config: ConfigDict
    datasets: list[tuple]
    gone: list[tuple]


def _run_in(place: str) -> _Run | None:
    """A run that a network began from; None for a file, or a folder that is not read here."""
    folder = expanded(place)
    try:
        if not (folder / "config.json").is_file() or not (folder / "label_space.json").is_file():
            return None
    except UserError:  # a bucket that this machine has no right to read
        return None
    config = configs.complete(config_files.load_json(folder / "config.json"), str(folder / "config.json"))
    classes = {name: len(of_set) for name, of_set in LabelSpace.load(folder / "label_space.json").datasets}
    sources = config.sources if "sources" in config else [config.dataset]
    datasets = [_dataset(source, _BEFORE, classes.get(source.name, 0)) for source in sources]
    edited = runs.gone_sets(runs.read_edited(folder), [source.name for source in sources])
    gone = [(row["name"], _BEFORE, row["classes"], row["license"] or NOT_STATED) for row in edited]
    return _Run(config, datasets, gone)


def _scores(run: workdirs.Workdir) -> str:
    scored = scores.of_changed_values(run) if run.changed else None
    others = bool(run.changed) and not scored
    if scored is None:
        file = scores.of_checkpoint(run.folder, run.chosen)
        scored = scores.read_scores(file) if file.exists() else {}
    # A run that went on after it was scored has the scores of an earlier step.
    if not scored or scores.step_of(scored) not in (None, run.step):
        return "None: this checkpoint was not scored (`mdp evaluate`)."
    rows = []
    for name, found in scored["datasets"].items():
        percents = [found.get(key) for key in ("mIoU", "mAcc", "aAcc")]
        shown = ["none" if value is None else f"{value:.1f}" for value in percents]
        rows.append((name, *shown, found.get("images", NOT_STATED)))
    table = _table(("dataset", "mIoU (%)", "mAcc (%)", "aAcc (%)", "validation photos"), rows)
    how = f"{table}\n\nOf the whole photo at once, by `mdp evaluate`."
    if run.changed and not others:
        how += f" With {_values(run, 'now')}, as here."
    return f"{_of_other_values(run)}\n\n{how}" if others else how


def _of_other_values(run: workdirs.Workdir) -> str:
    """What stands above scores of a run's own values, where the network is exported with other values."""
    chosen = run.chosen
    words = ["--checkpoint", "WORKDIR"]
    words += [] if chosen.default else ["--step", str(run.step)]
    words += [] if chosen.usual else ["--weights", chosen.weights]
    words += [f"--config.{key}={value.now}" for key, value in run.changed.items()]
    return (
        "**These scores are not of the network as it is exported here.** They were taken with "
        f"{_values(run, 'before')}. The network is exported with {_values(run, 'now')}. "
        f"`mdp evaluate {shlex.join(words)}` takes the scores for these values. Export the network again after it: the "
        "card then shows them."
    )


def _values(run: workdirs.Workdir, which: str) -> str:
    return ", ".join(f"`{key}={schema.shown(getattr(value, which))}`" for key, value in run.changed.items())


def _use(run: workdirs.Workdir, written: Written) -> str:
    form, short_side = written.form, run.config.data.short_side
    if form.size:
        prepare = _FIXED.format(height=form.size[0], width=form.size[1])
    else:
        prepare = _SHORT_SIDE.format(short_side=short_side) if short_side else _ANY
    if form.batch and form.batch > 1:
        prepare += "\n" + _REPEATED.format(batch=form.batch)
    read = _READ.format(prepare=prepare)

    def snippet(template: str, kind: str) -> str:
        text = template.format(read=read, file=written.files[kind], output=form.output)
        return f"```python\n{text}```"

    parts = []
    if STABLEHLO in written.files:
        parts += [
            "### JAX",
            f"The file needs JAX alone, and runs on {', '.join(written.platforms)}. JAX reads such files for at least "
            "six months after it wrote them.",
            snippet(_JAX, STABLEHLO),
        ]
    if ONNX in written.files:
        parts += ["### ONNX", snippet(_ONNX, ONNX)]
        parts += [
            "### PyTorch",
            "ONNX Runtime computes here, and gives a tensor. To train in PyTorch, take the weights: `mdp convert` "
            "writes them under the names of torchvision or MMSegmentation, if these have such a network.",
            snippet(_TORCH, ONNX),
        ]
    return "\n\n".join(parts)


def _classes(classes: Sequence[str]) -> str:
    return _table(("id", "class"), list(enumerate(classes)))
