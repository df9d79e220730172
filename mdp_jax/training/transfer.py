"""Starts a run from another network: a new network gets parts of a workdir or of a file (METHOD.md 1 and 6)."""

import operator
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from mdp_jax import config as configs
from mdp_jax import distributed
from mdp_jax.configs import ModelConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation.chosen_weights import in_words, weights_of
from mdp_jax.reporting.runs import origins_of_parts
from mdp_jax.schema import as_config_dict
from mdp_jax.storage import checkpoints
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import expanded, is_there
from mdp_jax.training.state import Variables
from mdp_jax.weights import files
from mdp_jax.weights.init import load_init
from mdp_jax.weights.layouts import require_sound
from mdp_jax.weights.torch_weights import to_torch, torch_key

# Keys of config.model that both loops need alike.
_OF_THE_NETWORK = (
    "backbone",
    "width",
    "output_stride",
    "decoder.name",
    "decoder.layout",
    "decoder.channels",
    "decoder.rates",
)


def require_leaves(have: Any, want: Any, where: str, of: str = "architecture") -> None:
    """Checks that a tree of arrays has exactly the leaves and shapes of another one.

    Args:
      have: the pytree that is checked.
      want: a pytree with the expected shapes.
      where: what errors begin with.
      of: what is another one where they differ.

    Raises:
      UserError: leaves are missing, unknown or have another shape. The message names the first few.
    """
    have_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(have).items()}
    want_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(want).items()}
    wrong = [
        f"{name} has shape {have_shapes[name]}, expected {shape}"
        for name, shape in want_shapes.items()
        if name in have_shapes and have_shapes[name] != shape
    ]
    wrong += [f"{name} {shape} is missing" for name, shape in want_shapes.items() if name not in have_shapes]
    wrong += [
        f"{name} {shape} is not in this network" for name, shape in have_shapes.items() if name not in want_shapes
    ]
    if wrong:
        more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{where}: another {of}: {'; '.join(wrong[:4])}{more}")


class Transferred(NamedTuple):
    """A new network with parts of another one.

    Attributes:
      params: its parameters.
      batch_stats: its running statistics; {} for a network without batch normalisation.
      origins: for each leaf of both, where it comes from: {"leaf", "shape", "from"}; "from" is the leaf's name in the
        workdir or file, or "" where it stays as initialised.
      source: the workdir or file in words.
      left: {leaf of the workdir or file that is not taken: why}.
    """

    params: dict
    batch_stats: dict
    origins: list[dict]
    source: str
    left: dict[str, str]

    def into(self, params: dict, batch_stats: dict) -> Variables:
        """The variables of a network that was not made yet when the parts were taken, with these parts.

        Args:
          params: of the new network.
          batch_stats: of the new network.
        """

        def chosen(taken: Any, own: Any) -> Any:
            return own if isinstance(taken, jax.ShapeDtypeStruct) else taken

        return Variables(jax.tree.map(chosen, self.params, params), jax.tree.map(chosen, self.batch_stats, batch_stats))

    def report(self) -> dict:
        """What `transfer.json` of a workdir holds."""
        return {"source": self.source, "leaves": self.origins, "not taken": self.left}

    def lines(self) -> list[str]:
        """One line for each part of the network: how many of its leaves come from elsewhere."""
        return [f"{part}: {words}" for part, words in origins_of_parts(self.origins)]


def _origins(names: Mapping[str, str], params: dict, batch_stats: dict) -> list[dict]:
    """A row for each leaf; `names`: leaf -> its name where it comes from."""
    leaves = leaf_names({"params": params, "batch_stats": batch_stats})
    return [{"leaf": name, "shape": list(leaf.shape), "from": names.get(name, "")} for name, leaf in leaves.items()]


def _names_in_file(names: Mapping[str, str], params: dict, batch_stats: dict) -> dict[str, str]:
    """Our leaf -> its name in the file; `names`: PyTorch's name of our leaf -> its name in the file."""
    found = {}
    for collection, tree in (("params", params), ("batch_stats", batch_stats)):
        for path, _ in jax.tree_util.tree_leaves_with_path(tree):
            leaf = jax.tree_util.keystr(path, simple=True, separator="/")
            if (key := torch_key(path)) in names:
                found[f"{collection}/{leaf}"] = names[key]
    return found


def require_source(init: str) -> None:
    """Checks, before photos are read, that there is what `transfer` is to read; nothing of it is read.

    Args:
      init: as for `transfer`.

    Raises:
      UserError: there is no such file or workdir, or no checkpoint in it.
    """
    path = expanded(init)
    try:
        if _is_file(path):
            files.require_readable(path)
        else:
            checkpoints.require_some(init)
    except UserError as error:
        raise type(error)(f"--init {error}") from None


def remarks_on_classes(init: str, parts: Sequence[str], label_space: LabelSpace) -> list[str]:
    """What is to be said where a classifier is taken from a workdir whose classes are others, or in another order.

    Args:
      init: as for `transfer`.
      parts: as for `transfer`.
      label_space: of the new run.

    Returns:
      Lines of text: one, that names the first class that differs.
    """
    file = expanded(init) / "label_space.json"
    if "classifier" not in parts or not is_there(file):  # as where init is a file of weights
        return []
    theirs, ours = (
        [label for _, labels in space.blocks() for label in labels] for space in (LabelSpace.load(file), label_space)
    )
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        if their != our:
            return [
                f"--init {init}: class {number} is {their!r} there and {our!r} here; the classifier is taken all the "
                "same, class by class in the order of their ids"
            ]
    return []


def remarks_on_layers(init: str, parts: Sequence[str], reads: Sequence[str]) -> list[str]:
    """What is to be said where a classifier is taken that stands on other layers.

    Their channels may be as many, so that the shapes fit.

    Args:
      init: as for `transfer`.
      parts: as for `transfer`.
      reads: the layers under the classifier of the new network.

    Returns:
      Lines of text: one, that names the layers.
    """
    if "classifier" not in parts:
        return []
    file, there = expanded(init) / "config.json", ("decoder",)  # that of a file of weights too
    if is_there(file):
        there = configs.complete(configs.load_json(file), str(file)).model.get("reads", there)
    theirs, ours = (" and ".join(layers) for layers in (there, reads))
    if theirs == ours:
        return []
    return [f"--init {init}: the classifier stands on {theirs} there and on {ours} here; it is taken all the same"]


def _is_file(path: pathlib.Path) -> bool:
    return path.is_file() or (path.suffix in files.SUFFIXES and not path.is_dir())


def _other_values(workdir: pathlib.Path, model: ModelConfig | None) -> str:
    """What to set for the network of a workdir, as the end of a message; "" where that is not known."""
    file = workdir / "config.json"
    if model is None or not is_there(file):
        return ""
    theirs = configs.complete(configs.load_json(file), str(file)).model
    there, here = (
        {key: operator.attrgetter(key)(values) for key in _OF_THE_NETWORK} for values in (theirs, as_config_dict(model))
    )
    options = [f"--config.model.{key}={value}" for key, value in there.items() if value != here[key]]
    return f"; set {shlex.join(options)}, as in {file}" if options else ""


def transfer(
    init: str,
    parts: Sequence[str],
    params: dict,
    batch_stats: dict,
    weights: str = "",
    model: ModelConfig | None = None,
) -> Transferred:
    """Replaces parts of a new network by those of a workdir or of a file.

    Args:
      init: workdir of either loop, or file of weights in torchvision's or MMSegmentation's layout.
      parts: names of top-level parts, such as ("backbone", "decoder"); they may have no running statistics.
      params: of the new network; shapes (jax.ShapeDtypeStruct) will do, so that this is known before it is made.
      batch_stats: of the new network, likewise.
      weights: which of a workdir's, as for chosen_weights.weights_of.
      model: of the new network; an error then says which of its keys a workdir has with other values.

    Returns:
      The variables with new parts, in the dtypes of the new network, and where each leaf comes from. What is not taken
      is as it was given.

    Raises:
      UserError: there is no checkpoint or no such weights in it, or a part has another architecture; the message names
        its leaves.
    """
    path = expanded(init)
    if _is_file(path):
        if weights:
            raise UserError(f"--weights {weights}: --init {init} is a file, which has one set of them; expected none")
        found = load_init(path, params, batch_stats, tuple(parts))
        for line in found.report.lines():
            if distributed.is_main():
                print(f"--init {init}: {line}")
        left = {leaf.key: leaf.note for leaf in found.report.leaves if leaf.status == "skipped"}
        origins = _origins(_names_in_file(found.report.names, params, batch_stats), params, batch_stats)
        return Transferred(found.params, found.batch_stats, origins, f"the file {init}", left)
    chosen = checkpoints.choose(init, checkpoints.LAST)
    saved = weights_of(chosen.saved.state, chosen.saved.meta, weights, os.fspath(init))
    unknown = [part for part in parts if part not in saved.params or part not in params]
    if unknown:
        raise UserError(
            f"--init {init}: no part {unknown[0]!r} in it; expected config.transfer of some of "
            f"{', '.join(saved.params)}"
        )
    loaded = []
    for have, ours in ((saved.params, params), (saved.batch_stats, batch_stats)):
        # On the host: they go wherever the new network's arrays lie, on devices of other processes too.
        taken = {part: jax.device_get(have[part]) for part in parts if part in have}
        wanted = {part: ours[part] for part in parts if part in ours}
        try:
            require_leaves(taken, wanted, f"--init {init}")
        except UserError as error:
            raise UserError(f"{error}{_other_values(path, model)}") from None
        for key, array in to_torch(taken).items():
            require_sound(f"--init {init}", key, array)
        loaded.append(ours | jax.tree.map(lambda new, old: new.astype(old.dtype), taken, wanted))
    there = leaf_names({"params": saved.params, "batch_stats": saved.batch_stats})
    names = {name: name for name in there if name.split("/")[1] in parts}
    left = {name: "not among config.transfer" for name in there if name not in names}
    source = f"step {chosen.step}{in_words(saved.name)} of the workdir {os.fspath(init)}"
    return Transferred(loaded[0], loaded[1], _origins(names, params, batch_stats), source, left)
