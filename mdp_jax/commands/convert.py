"""`mdp convert`: weights from and to files of torchvision, MMSegmentation and timm, leaf by leaf (docs/weights.md)."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.commands.arguments import add_step, add_weights, named
from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.models.registry import NO_DECODER, decoder_in_words
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.paths import as_path
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.layouts import ALONE, COUNTER, OF_BACKBONES, Leaf
from mdp_jax.weights.names import names_of
from mdp_jax.weights.torch_weights import to_torch

WORKDIR = "mdp"
PARTS = ("backbone", "decoder", "classifier", AUXILIARY)  # that the layouts have names for
_DECODER = ("decoder",)  # what a classifier of the layouts stands on


@dataclass(frozen=True)
class Weights:
    """The weights to write.

    Attributes:
      model: their network.
      state: our key (weights/torch_weights.py) -> array in PyTorch's layout.
      names: our key -> name in the source.
      skipped: leaves that are not written.
      notes: lines for the user.
      classes: names of the classes, empty where they are unknown.
    """

    model: ModelConfig
    state: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    skipped: Sequence[Leaf]
    notes: Sequence[str]
    classes: Sequence[str] = ()

    @property
    def alone(self) -> bool:
        """Whether there is a backbone and no decoder."""
        return not any(key.startswith("decoder.") for key in self.state)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp convert` to a parser."""
    parser.add_argument(
        "--from",
        dest="source",
        choices=(WORKDIR, *OF_BACKBONES),
        required=True,
        help=f"what IN is: {WORKDIR}: the workdir of a run; {' or '.join(OF_BACKBONES)}: a file in that layout",
    )
    parser.add_argument("--to", dest="target", choices=tuple(OF_BACKBONES), required=True, help="layout of OUT")
    parser.add_argument(
        "--backbone", action="store_true", help="write the backbone alone, under the names of its library"
    )
    parser.add_argument(
        "input", type=named, metavar="IN", help="workdir, or file that ends in .pth, .pt or .safetensors"
    )
    parser.add_argument("output", type=named, metavar="OUT", help="new file that ends in .pth, .pt or .safetensors")
    add_step(parser, "a workdir")
    add_weights(parser, "a workdir")
    parser.epilog = (
        "Files of these libraries need no conversion to be trained from: mdp pretrain and mdp finetune take them as "
        "--init FILE. .pth and .pt need PyTorch: make venv EXTRA=torch."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Converts, prints a table of all leaves and notes about the network, and writes OUT.

    Args:
      args: what `add_arguments` declares.
      overrides: none are accepted.

    Raises:
      UserError: IN cannot be read or has another architecture, OUT exists or cannot be written, or the layout of OUT
        has no names for the decoder of IN.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: mdp convert has no config")
    files.require_writable(args.output)
    if args.step and args.source != WORKDIR:
        raise UserError(f"--step {args.step}: of the workdir of a run; expected it with --from {WORKDIR} alone")
    if args.weights and args.source != WORKDIR:
        raise UserError(f"--weights {args.weights}: of the workdir of a run; expected it with --from {WORKDIR} alone")
    if args.source == WORKDIR:
        weights = from_workdir(args.input, args.step or "", args.weights)
    else:
        weights = from_file(args.input, args.source)
    if args.backbone:
        weights = backbone_of(weights)
    elif not weights.alone and weights.model.decoder.layout != args.target:
        raise UserError(
            f"{args.input}: the decoder has {weights.model.decoder.layout}'s layout, which has no place in "
            f"{args.target}'s; --backbone writes the backbone alone"
        )
    state, leaves = to_layout(weights, args.target)
    files.write(args.output, state, OF_BACKBONES[args.target].meta(weights.classes))
    console().print(for_terminal(leaf_table(leaves, args.input, args.output)))
    for note in weights.notes:
        print(note)
    if weights.classes and any(leaf.status == "loaded" and leaf.key.startswith("classifier.") for leaf in leaves):
        print(f"classes in order: {', '.join(weights.classes)}")
    counters = sum(key.endswith(COUNTER) for key in state)
    print(f"wrote {args.output}: {len(state) - counters} leaves, and {counters} counters {COUNTER} of 0")


def from_workdir(folder: str, step: str = "", which: str = "") -> Weights:
    """Reads backbone and decoder of a pretrained encoder, or the whole of a fine-tuned network.

    Args:
      folder: the workdir.
      step: which checkpoint; see workdirs.load.
      which: of its weights; see workdirs.load.

    Raises:
      UserError: it is not a workdir of this version with a checkpoint, or the weights are not finite.
    """
    path = as_path(folder)
    if not path.is_dir():
        raise UserError(f"{folder}: no such folder; expected the workdir of a run, as --from {WORKDIR} says")
    run = workdirs.load(path, step=step, weights=which, auxiliary=True)
    config, label_space, variables = run.config, run.label_space, run.variables
    trained = to_torch(variables["params"]) | to_torch(variables["batch_stats"])
    reads = tuple(config.model.get("reads", _DECODER))
    left_out = {"projection": "projection to the prototypes; no layout has one"}
    if reads != _DECODER:  # the names fit, and sometimes the shapes do too; the answers would be others
        left_out["classifier"] = f"it stands on {' and '.join(reads)}, and not on the decoder alone"
    state = {key: array for key, array in trained.items() if layouts.part_of(key) not in left_out}
    for key, array in state.items():
        layouts.require_sound(folder, key, array)
    skipped = [
        Leaf(key, array.shape, "skipped", left_out[layouts.part_of(key)])
        for key, array in trained.items()
        if key not in state
    ]
    best = ", the best" if run.chosen.best else ""
    notes = [f"weights of step {run.step}{best}{run.chosen.in_words()}", _network_note(config)]
    classes: tuple[str, ...] = ()
    if any(layouts.part_of(key) == "classifier" for key in state):
        classes = label_space.datasets[0][1] if "dataset" in config else tuple(label_space.global_names())
    return Weights(config.model, state, {key: key for key in state}, skipped, notes, classes)


def _network_note(config: ConfigDict) -> str:
    model, data = config.model, config.data
    decoder = "" if model.decoder.name == NO_DECODER else "the decoder "
    window = f" with attention in windows of {model.window} x {model.window} patches" if model.window else ""
    return (
        f"the file holds weights alone; they belong to {model.backbone} of width {model.width:g}{window} at output "
        f"stride {model.output_stride}, {decoder}{decoder_in_words(model.decoder)}, and RGB images normalised with "
        f"mean {tuple(data.mean)} and std {tuple(data.std)}"
    )


def from_file(path: str, layout: str) -> Weights:
    """Reads the weights of a file; a backbone alone may have the names of either layout.

    Args:
      path: the file.
      layout: a key of OF_BACKBONES.

    Raises:
      UserError: the file cannot be read, has the other layout, or an architecture that is not supported.
    """
    state, notes = files.read(path)
    found = layouts.find(state, path)
    if found.layout not in (ALONE, layout):
        raise UserError(f"{path}: has the names of {found.layout}; expected --from {found.layout}")
    model = architecture.model_of(found)
    parts = found.parts()
    layouts.require_sound_parts(found, parts)
    layouts.require_same(found, parts, architecture.expected_shapes(found, model, parts), model.backbone)
    return Weights(model, found.of_parts(PARTS), found.keys, found.skipped, [*notes, *found.notes])


def backbone_of(weights: Weights) -> Weights:
    """Leaves out all but the backbone; the other leaves become skipped ones.

    Args:
      weights: of a network.
    """
    kept = {key: array for key, array in weights.state.items() if key.startswith("backbone.")}
    left_out = [
        Leaf(weights.names[key], array.shape, "skipped", "--backbone leaves it out")
        for key, array in weights.state.items()
        if key not in kept
    ]
    return replace(weights, state=kept, skipped=[*left_out, *weights.skipped])


def to_layout(weights: Weights, layout: str) -> tuple[dict[str, np.ndarray], list[Leaf]]:
    """Makes the state dict of a layout, with the counters of PyTorch's batch normalisation.

    Args:
      weights: their decoder has this layout, or there is none.
      layout: a key of OF_BACKBONES.

    Returns:
      {their key: array}, and what became of every leaf.

    Raises:
      UserError: backbone or decoder have no names in this layout.
    """
    modules = layouts.modules_for(weights.model, layout, weights.alone)
    if not weights.alone:
        modules |= layouts.LAYOUTS[layout].AUXILIARY
    state: dict[str, np.ndarray] = {}
    leaves, skipped = [], list(weights.skipped)
    for ours in sorted(weights.state, key=_natural):
        theirs, array = layouts.rename(ours, modules), weights.state[ours]
        if theirs is None:
            skipped.append(Leaf(weights.names[ours], array.shape, "skipped", f"{layout} has no place for it"))
            continue
        state[theirs] = array
        leaves.append(Leaf(weights.names[ours], array.shape, "loaded", theirs))
        if theirs.endswith(".running_var"):
            state[f"{theirs.removesuffix('running_var')}{COUNTER}"] = np.zeros((), np.int64)
    missing = [Leaf(key, None, "missing", why) for key, why in _missing(weights, modules, state, layout)]
    finished = getattr(names_of(weights.model.backbone), "finished", None)
    return finished(state, layout) if finished else state, [*leaves, *skipped, *missing]


def _missing(weights: Weights, modules: dict, state: dict, layout: str) -> list[tuple[str, str]]:
    """What the other library's model has beside the state dict."""
    if weights.alone:
        names = names_of(weights.model.backbone)
        only_theirs = names.ONLY_THEIRS.get(layout, ()) if names else ()
        return [(key, "classifier of whole images") for key in only_theirs]
    keys = [f"{modules['classifier.conv']}.{leaf}" for leaf in ("weight", "bias")]
    return [(key, "classifier of pixels; IN has none that fits") for key in keys if key not in state]


def _natural(key: str) -> list:
    """Sorts layer3.9 before layer3.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]


def leaf_table(leaves: list[Leaf], source: str, target: str) -> Table:
    """Makes a table with a row for each leaf, and a caption that counts them.

    Args:
      leaves: what became of every leaf.
      source: name of IN.
      target: name of OUT.
    """
    rows = [
        [leaf.key, None if leaf.shape is None else "x".join(map(str, leaf.shape)) or "1", leaf.status, leaf.note]
        for leaf in leaves
    ]
    counts = ", ".join(f"{sum(leaf.status == s for leaf in leaves)} {s}" for s in ("loaded", "skipped", "missing"))
    return Table(["leaf", "shape", "status", "written as, or why not"], rows, f"{source} -> {target}: {counts}")
