"""Files of suites: Python files with get_suite(), the user's and those of configs/studies/ alike."""

import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mdp_jax import config as configs
from mdp_jax import python_files
from mdp_jax.errors import UserError
from mdp_jax.models.network import require_layers
from mdp_jax.storage.paths import expanded, joined
from mdp_jax.studies.experiments import EQUIVALENT, GREATER, MEASURED, Cell, Contrast, Curve, Pretraining, Suite, Target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of folders
_SET = {  # config keys that the suite itself sets, and what says them instead
    "init": "Pretraining.init",
    "seed": "Pretraining.seeds",
    "data_dir": "--data_dir",
    "keep_checkpoints": "nothing: one is kept",
    "keep_best": "nothing: the last step is scored",
}
_NAMES_FILE = "method.names_file"
_TAKEN = ("pretrain", "logs", "lock")  # by the folders of the runs


def shipped() -> dict[str, pathlib.Path]:
    """The suites in configs/studies/: {name: file}. The name is that of the file, with "-" for "_"."""
    files = sorted((python_files.configs_parent() / "configs" / "studies").glob("*.py"))
    return {file.stem.replace("_", "-"): file for file in files if "def get_suite(" in file.read_text(encoding="utf-8")}


def load(suite: str) -> Suite:
    """The suite that `get_suite()` of a Python file returns, checked.

    Args:
      suite: the value of `--suite`: a Python file, as given or relative to the folder that holds the shipped
        `configs/`; or the name of a shipped one. Configs and files of weights that the suite names are found from the
        folder in which the process was started; configs may be shipped ones too. An override of `method.names_file`
        is found beside the suite's file, or else as a config is.

    Raises:
      UserError: neither a Python file nor the name of a shipped one; or a suite whose parts do not fit together.
    """
    known, where = shipped(), f"--suite {suite}"
    file = known.get(suite) or expanded(suite)
    if not file.is_file():
        file = python_files.configs_parent() / file
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"{where}: expected one of {', '.join(known)}, or a Python file with get_suite()")
    found = python_files.call(file, "get_suite", where)
    if not isinstance(found, Suite):
        raise UserError(f"{where}: get_suite() returned {found!r:.50}; expected a Suite, as compare_settings makes")
    require_suite(found, where)
    if found.name in known and not known[found.name].samefile(file):
        raise UserError(f"{where}: the suite is called {found.name}, as a shipped one is; expected another name")
    return _with_files(found, file.parent, where) if found.runs_here else found


def require_suite(suite: Suite, where: str) -> None:
    """Checks that the parts of a suite fit together.

    Args:
      suite: the one.
      where: what errors begin with.

    Raises:
      UserError: naming the first thing that is wrong.
    """
    _require_names([suite.name], "the suite", where)
    kinds = {"pretrainings": Pretraining, "targets": Target, "claims": Contrast, "ablations": Contrast, "curves": Curve}
    for key, kind in kinds.items():
        rows = getattr(suite, key)
        if not isinstance(rows, tuple) or not all(isinstance(row, kind) for row in rows):
            raise UserError(f"{where}: {key} is {rows!r:.50}; expected a tuple of {kind.__name__}")
    if not suite.contrasts:
        raise UserError(f"{where}: no contrasts; expected claims or ablations")
    _require_names([row.name for row in suite.pretrainings], "a pretraining", where)
    _require_names([row.name for row in suite.targets], "a target", where)
    keys = [row.key.replace("/", ".") if isinstance(row.key, str) else row.key for row in suite.contrasts]
    _require_names(keys, "a contrast", where)
    for row in (suite, *suite.pretrainings, *suite.targets, *suite.contrasts, *suite.curves):
        _require_texts(row, where)
    parts: list[Pretraining | Target] = [*suite.pretrainings, *suite.targets]
    for part in parts:
        if part.name in _TAKEN:
            raise UserError(f"{where}: the name {part.name} is taken; expected none of {', '.join(_TAKEN)}")
        _require_overrides(part.overrides, f"{where}: {part.name}")
    names = [row.name for row in suite.pretrainings]
    for target in suite.targets:
        if not isinstance(target.rates, Mapping) or not all(isinstance(rate, str) for rate in target.rates.values()):
            raise UserError(
                f"{where}: {target.name}: rates is {target.rates!r}; expected texts, as in {{'mdp': '0.1'}}"
            )
        _require_closed_form(target, f"{where}: {target.name}")
        if unknown := [name for name in target.rates if name not in names]:
            raise UserError(f"{where}: {target.name}: rate of {unknown[0]!r}; expected of one of {', '.join(names)}")
    before: dict[str, Pretraining] = {}
    for row in suite.pretrainings:
        _require_pretraining(row, suite, before, f"{where}: {row.name}")
        before[row.name] = row
    for contrast in suite.contrasts:
        _require_contrast(contrast, suite, f"{where}: {contrast.key}")
    for curve in suite.curves:
        _require_curve(curve, suite, f"{where}: curve {curve.what}")


def _require_closed_form(target: Target, where: str) -> None:
    """The values of heads in closed form, and for which seeds a target is run."""
    values = {"photos": (target.photos, 0), "draws": ((target.draws,), 1), "seeds": (target.seeds, 0)}
    for key, (numbers, least) in values.items():
        whole = isinstance(numbers, tuple) and all(type(number) is int and number >= least for number in numbers)
        if not whole or len(set(numbers)) < len(numbers):
            raise UserError(f"{where}: {key} is {numbers!r:.80}; expected whole numbers from {least}, each once")
    if not isinstance(target.layers, tuple):
        raise UserError(f"{where}: layers is {target.layers!r:.80}; expected a tuple of texts, as ('backbone',)")
    for layer in target.layers:
        require_layers(tuple(layer.split("+")), f"{where}: layers has ")


def _require_names(names: Iterable[object], of: str, where: str) -> None:
    names = list(names)
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(f"{where}: {of} is called {name!r}; expected letters, digits, '_', '-' and '.'")
    # Of file systems that do not tell capital letters from small ones.
    name, count = Counter(str(name).lower() for name in names).most_common(1)[0] if names else ("", 1)
    if count > 1:
        raise UserError(f"{where}: {of} is called {name} {count} times; expected names that differ")


def _require_texts(row: Any, where: str) -> None:
    """Of a suite, or of one of its rows: texts are shown when all runs are done, too late to find a wrong one."""
    own = "" if isinstance(row, Suite) else f" {getattr(row, 'key', None) or getattr(row, 'name', 'a curve')}:"
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.type == "str" and not isinstance(value, str):
            raise UserError(f"{where}:{own} {field.name} is {value!r:.80}; expected a text")


def _require_overrides(overrides: object, where: str) -> None:
    pairs = overrides if isinstance(overrides, tuple) else (overrides,)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise UserError(f"{where}: override {pair!r}; expected pairs of texts, as in (('steps', '100'),)")
        if pair[0] in _SET:
            raise UserError(f"{where}: override of {pair[0]}, which the suite sets; expected {_SET[pair[0]]}")


def _require_pretraining(row: Pretraining, suite: Suite, before: Mapping[str, Pretraining], where: str) -> None:
    if not isinstance(row.seeds, int) or row.seeds < 1:
        raise UserError(f"{where}: seeds is {row.seeds!r}; expected a whole number from 1")
    if not isinstance(row.targets, tuple):
        raise UserError(f"{where}: targets is {row.targets!r}; expected a tuple of names")
    targets = [target.name for target in suite.targets]
    unknown = [name for name in row.targets if name not in targets]
    if unknown:
        raise UserError(f"{where}: no target {unknown[0]}; expected {', '.join(targets)}")
    if not row.config and (row.init or row.overrides):
        raise UserError(f"{where}: init or overrides without a config; expected a config for mdp pretrain")
    if row.init in {other.name for other in suite.pretrainings}:
        first = before.get(row.init)
        if first is None or not first.config:
            raise UserError(f"{where}: starts from {row.init}; expected a pretraining that comes before it")
        if first.seeds < row.seeds:
            raise UserError(f"{where}: {row.seeds} seeds, and {first.seeds} of {row.init}; expected as many of both")


def _require_contrast(contrast: Contrast, suite: Suite, where: str) -> None:
    kinds = (MEASURED,) if contrast in suite.ablations else (GREATER, EQUIVALENT)
    if contrast.kind not in kinds:
        raise UserError(f"{where}: kind {contrast.kind!r}; expected {' or '.join(kinds)}")
    for side in (contrast.left, contrast.right):
        if not isinstance(side, tuple) or not side or (len(side) > 2 and not contrast.mean):
            expected = "one or two pairs of a pretraining and a target"
            raise UserError(f"{where}: a side is {side!r:.200}; expected {expected}")
    _require_cells(contrast.cells, suite, where)
    if not suite.seeds_of(contrast):
        raise UserError(f"{where}: its cells have no seed in common; expected one in the seeds of all of them")


def _require_curve(curve: Curve, suite: Suite, where: str) -> None:
    """Numbers in order and cells that exist; the axis has a name."""
    if not suite.along:
        raise UserError(f"{where}: the suite has no `along`; expected a few words for the axis, as 'steps'")
    points = curve.points if isinstance(curve.points, tuple) else (curve.points,)
    for point in points:
        if not (isinstance(point, tuple) and len(point) == 2 and isinstance(point[1], tuple) and point[1]):
            expected = "pairs of a number and a tuple of cells, as in ((1000, (('mdp', 'few'),)),)"
            raise UserError(f"{where}: a point is {point!r:.80}; expected {expected}")
    numbers = [number for number, _ in points]
    whole = all(isinstance(number, int | float) and number > 0 for number in numbers)
    if not numbers or not whole or sorted(set(numbers)) != numbers:
        raise UserError(
            f"{where}: points at {numbers!r:.80}; expected numbers above 0, each larger than the one before"
        )
    for _, cells in points:
        _require_cells(cells, suite, where)


def _require_cells(cells: Iterable[Cell], suite: Suite, where: str) -> None:
    known = {(row.name, name) for row in suite.pretrainings for of in row.targets for name in suite.target(of).scores}
    for cell in cells:
        if not isinstance(cell, tuple) or not all(isinstance(name, str) for name in cell) or cell not in known:
            raise UserError(f"{where}: {cell!r}; expected a pretraining and one of its targets")


def _with_files(suite: Suite, folder: pathlib.Path, where: str) -> Suite:
    """The suite with absolute paths of the user's files, as its runs are started in another folder."""
    names = {row.name for row in suite.pretrainings}
    rows = []
    for row in suite.pretrainings:
        config = _config(row.config, "sources", "mdp pretrain", f"{where}: {row.name}") if row.config else ""
        init = row.init if row.init in names or not row.init else _weights(row.init, f"{where}: {row.name}")
        overrides = tuple(
            (key, _names(text, folder, f"{where}: {row.name}") if key == _NAMES_FILE and text else text)
            for key, text in row.overrides
        )
        rows.append(dataclasses.replace(row, config=config, init=init, overrides=overrides))
    targets = [
        dataclasses.replace(row, config=_config(row.config, "dataset", "mdp finetune", f"{where}: {row.name}"))
        for row in suite.targets
    ]
    return dataclasses.replace(suite, pretrainings=tuple(rows), targets=tuple(targets))


def _config(path: str, key: str, part: str, where: str) -> str:
    """The path of a config as a process in any folder finds it; it has to be one for `part`, which has `key`."""
    try:
        config = configs.load(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if key not in config:
        raise UserError(f"{where}: {path} has no {key}; expected a config for {part}")
    if config.init != "scratch":
        raise UserError(f"{where}: {path} has init={config.init!r}, which the suite sets; expected Pretraining.init")
    file, shipped_file = pathlib.Path(path), pathlib.Path(configs.shipped(path))
    if not file.is_file() or (shipped_file.is_file() and shipped_file.samefile(file)):
        return path
    return str(file.resolve())


def _names(path: str, folder: pathlib.Path, where: str) -> str:
    """The path of a file of names as a process in any folder finds it; that of a shipped one stays as it is."""
    shipped_file = python_files.configs_parent() / path
    for file in (joined(folder, path), expanded(path)):
        if file.exists():
            return path if shipped_file.exists() and shipped_file.samefile(file) else str(file.resolve())
    if shipped_file.exists():
        return path
    raise UserError(
        f"{where}: {_NAMES_FILE}={path}: no such file; expected one beside the suite's file, from the folder that you "
        "are in, or with its whole path"
    )


def _weights(path: str, where: str) -> str:
    file = expanded(path)
    if not file.exists():
        raise UserError(f"{where}: starts from {path}; expected a pretraining of the suite, a workdir or a file")
    return str(file.resolve())
