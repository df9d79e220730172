"""Exports the network of a workdir: files, class names and a card in a new folder (docs/export.md)."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from mdp_jax import configs, runtime
from mdp_jax.errors import UserError, of_system
from mdp_jax.evaluation import workdirs
from mdp_jax.exporting import agreement, card, program, stablehlo
from mdp_jax.exporting.card import ONNX, STABLEHLO
from mdp_jax.exporting.program import Form
from mdp_jax.storage import buckets
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.json_files import PARTIAL, write_bytes, write_json, write_text
from mdp_jax.storage.paths import expanded, is_there, make_folder, require_possible

FORMATS = (STABLEHLO, ONNX)
FILES = {STABLEHLO: "model.stablehlo", ONNX: "model.onnx"}
CARD, CLASSES = "README.md", "classes.json"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
      folder: with the files.
      files: format -> file.
      checked: format -> how it agreed with the network, or why that was not looked at.
    """

    folder: pathlib.Path
    files: dict[str, pathlib.Path]
    checked: dict[str, str]


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    form: Form | None = None,
    formats: Sequence[str] = (STABLEHLO,),
    platforms: Sequence[str] = stablehlo.PLATFORMS,
    license: str = "",
    check: bool = True,
    overrides: workdirs.Overrides = (),
    step: str | int = "",
    weights: str = "",
) -> Exported:
    """Exports a checkpoint of a workdir, and compares each file with the network before that.

    Args:
      workdir: of `mdp finetune` or `mdp adopt`.
      out: a new folder.
      form: input and output; None: labels, for any number of photos of any size.
      formats: some of FORMATS.
      platforms: of the StableHLO file, some of stablehlo.PLATFORMS.
      license: of the network, for its card.
      check: whether each file is run and compared with the network, on drawn noise.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.
      step: "best", "last" or a step; "" = the best checkpoint where there is one, else the newest.
      weights: "plain"; "ema": their moving average; "" = that where it is kept, else plain.

    Returns:
      What was written.

    Raises:
      UserError: the folder exists, a format or platform is unknown, ONNX is not installed, there is no such workdir or
        it is of a pretraining, or the network cannot be exported in this form.
    """
    runtime.prepare()
    folder, form = expanded(out), form or Form()
    _require_known(formats, FORMATS, "--format")
    _require_known(platforms, stablehlo.PLATFORMS, "--platforms")
    if is_there(folder) or os.path.lexists(folder):
        raise UserError(f"--out {folder}: exists already; expected a new folder")
    require_possible(folder, "--out")
    if ONNX in formats and not importlib.util.find_spec("onnx"):
        raise UserError("--format onnx: the package onnx is not installed; pip install 'mdp_jax[export]'")
    with _new_folder(folder) as partial:
        network, chosen = _opened(workdir, overrides, step, weights), tuple(dict.fromkeys(platforms))
        program.require_possible(network.program(form.output), form)
        files = {kind: FILES[kind] for kind in dict.fromkeys(formats)}
        written = card.Written(folder.name, form, files, chosen, dict.fromkeys(files, ""), license)
        card.text_of(network.run, written)  # what it reads is looked at before anything is computed
        checked: dict[str, str] = {}
        for kind, file in files.items():
            content, checked[kind] = _FORMATS[kind](network, form, chosen, check)
            write_bytes(partial / file, content)
        write_json(partial / CLASSES, list(network.run.classes))
        write_text(partial / CARD, card.text_of(network.run, dataclasses.replace(written, checked=checked)))
    return Exported(folder, {kind: folder / file for kind, file in files.items()}, checked)


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network with its weights on the host."""

    run: workdirs.Workdir
    model: configs.ModelConfig
    variables: dict

    def program(self, output: str, bands: bool = False) -> program.Program:
        """The function from photos to labels or logits."""
        return program.make(self.model, self.run.config.data, self.variables, len(self.run.classes), output, bands)

    def in_float32(self) -> "_Network":
        """The same in float32."""
        model, variables = program.in_float32(self.model, self.variables)
        return _Network(self.run, model, variables)

    def compared(self, form: Form, answer: Callable[[np.ndarray], np.ndarray], what: str) -> str:
        """How the answer of an exported network to drawn photos agrees with the network's own, in words."""
        photos = agreement.photos(form)
        logits = jax.jit(self.program("logits"))(photos)
        found = agreement.compare(answer(photos), logits, form.output, what)
        here, there = self.model.compute_dtype, self.run.config.model.compute_dtype
        of = "`mdp predict`" if here == there else f"the network in {here} (`mdp predict` computes in {there})"
        return f"compared with {of} on drawn noise: {found.described()}"


def _opened(workdir: str | os.PathLike, overrides: workdirs.Overrides, step: str | int, weights: str) -> _Network:
    folder = expanded(workdir)
    if (folder / "config.json").is_file() and workdirs.is_pretraining(folder):
        raise UserError(
            f"{folder}: the workdir of a pretraining, whose network has no classifier of one set; expected one of mdp "
            "finetune or mdp adopt, which make one from it"
        )
    run = workdirs.load(folder, overrides, pretraining=False, step=step, weights=weights)
    variables = jax.tree.map(np.asarray, {name: run.variables[name] for name in ("params", "batch_stats")})
    return _Network(run, configs.typed_finetune(run.config).model, variables)


def _stablehlo(network: _Network, form: Form, platforms: tuple[str, ...], check: bool) -> tuple[bytes, str]:
    content = stablehlo.serialised(network.program(form.output, bands=True), form, platforms)
    here = stablehlo.platform_here()
    if not check or here not in platforms:
        return (
            content,
            _NOT_COMPARED if not check else f"{_NOT_COMPARED}: it was written on a machine with {here} alone",
        )
    return content, network.compared(form, lambda photos: stablehlo.run(content, photos), "the StableHLO program")


def _onnx(network: _Network, form: Form, platforms: tuple[str, ...], check: bool) -> tuple[bytes, str]:
    from mdp_jax.exporting import onnx_file

    del platforms  # ONNX's programs choose theirs
    same = network.in_float32()
    described = f"semantic segmentation, {len(network.run.classes)} classes; image: uint8 RGB [B, H, W, 3]"
    content = onnx_file.model_of(same.program(form.output), form, network.run.classes, described)
    if not check:
        return content, _NOT_COMPARED
    if not importlib.util.find_spec("onnxruntime"):
        return content, f"{_NOT_COMPARED}: onnxruntime was not installed"
    return content, same.compared(form, lambda photos: onnx_file.run(content, photos), "the ONNX model")


_FORMATS: dict[str, Callable[[_Network, Form, tuple[str, ...], bool], tuple[bytes, str]]] = {
    STABLEHLO: _stablehlo,
    ONNX: _onnx,
}
_NOT_COMPARED = "not compared with `mdp predict`"


def _require_known(given: Sequence[str], known: Sequence[str], option: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise UserError(f"{option} {' '.join(unknown)}: expected some of {', '.join(known)}")


@contextlib.contextmanager
def _new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that gets its name when all is in it, and is removed where that fails."""
    if isinstance(folder, BucketPath):
        with _new_objects(folder) as partial:
            yield partial
        return
    expected = "expected a folder that can be made"
    beside = folder.absolute().parent
    made = [place for place in (beside, *beside.parents) if not place.exists()]
    make_folder(beside, "--out")
    try:
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=beside))
    except OSError as error:
        raise of_system(error, f"--out {folder}: {error.strerror}; {expected}") from None
    try:
        yield partial
        try:
            partial.chmod(0o777 & ~_umask())  # mkdtemp makes folders for their owner alone
            partial.rename(folder)
        except OSError as error:
            raise of_system(error, f"--out {folder}: {error.strerror}; {expected}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for place in made:
            with contextlib.suppress(OSError):  # not empty: the folder is there
                place.rmdir()


@contextlib.contextmanager
def _new_objects(folder: BucketPath) -> Iterator[pathlib.Path]:
    """A folder of this machine that is uploaded when all is in it, the card last; where that fails nothing is left."""
    with tempfile.TemporaryDirectory(prefix="mdp-export-") as place:
        yield pathlib.Path(place)
        try:
            buckets.upload_folder(pathlib.Path(place), str(folder), last=CARD)
        except BaseException:
            with contextlib.suppress(UserError):  # what ended the command is what is said
                buckets.delete_folder(str(folder))
            raise


def _umask() -> int:
    """The process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
