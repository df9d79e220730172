"""Suites of one's own: a Python file with get_suite(), to find out what suits one's own photos."""

import dataclasses
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from mdp_jax import config as configs
from mdp_jax import python_files
from mdp_jax.errors import UserError
from mdp_jax.studies.experiments import EQUIVALENT, GREATER, MEASURED, Contrast, Overrides, Pretraining, Suite, Target
from mdp_jax.studies.suites import SUITES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of folders
_SET = {  # config keys that the suite itself sets, and what says them instead
    "init": "Pretraining.init",
    "seed": "Pretraining.seeds",
    "data_dir": "--data_dir",
    "keep_checkpoints": "nothing: one is kept",
}
_TAKEN = ("pretrain", "logs", "lock")  # by the folders of the runs


def compare_settings(
    name: str,
    pretrain: str,
    finetune: str,
    settings: Mapping[str, Mapping[str, object]],
    *,
    pretraining: Mapping[str, object] | None = None,
    finetuning: Mapping[str, object] | None = None,
    seeds: int = 3,
) -> Suite:
    """A suite that measures settings of the pretraining against the config as it is, and that against scratch.

    Args:
      name: of the suite; of its folder too.
      pretrain: file for `mdp pretrain`.
      finetune: file for `mdp finetune`.
      settings: {name of a setting: {dotted key of the pretraining's config: value}}.
      pretraining: {dotted key of the pretraining's config: value}, for all pretrainings; a setting goes before it.
      finetuning: {dotted key of the fine-tuning's config: value}, for all fine-tunings.
      seeds: of each.

    Returns:
      A suite for get_suite() of the file that `mdp reproduce --suite` is given. The pretrainings `scratch` and `mdp`
      are those without a pretraining and with the config as it is.
    """
    pretrain, finetune, always = os.fspath(pretrain), os.fspath(finetune), dict(pretraining or {})
    target = Target("finetuned", "fine-tuned", finetune, _overrides(finetuning or {}))
    alone = (target.name,)
    rows = [Pretraining("scratch", "no pretraining", seeds=seeds, targets=alone)]
    rows.append(Pretraining("mdp", "the config as it is", pretrain, _overrides(always), seeds=seeds, targets=alone))
    measured = []
    for setting, values in settings.items():
        what = ", ".join(f"{key}={value}" for key, value in values.items())
        overrides = _overrides(always | dict(values))
        rows.append(Pretraining(setting, what, pretrain, overrides, seeds=seeds, targets=alone))
        measured.append(Contrast(setting, what, ((setting, target.name),), (("mdp", target.name),), MEASURED))
    over = Contrast(
        "mdp_over_scratch",
        "the pretraining is better than training from scratch",
        (("mdp", target.name),),
        (("scratch", target.name),),
    )
    return Suite(name, f"{pretrain}, then {finetune}.", tuple(rows), (target,), (over,), tuple(measured))


def _overrides(values: Mapping[str, object]) -> Overrides:
    return tuple((key, str(value)) for key, value in values.items())


def load(suite: str) -> Suite:
    """A suite by its name, or the one that get_suite() of a Python file returns.

    Args:
      suite: the value of `--suite`. The configs and files of weights that a file names are found from the folder in
        which the process was started; configs may be shipped ones too.

    Raises:
      UserError: neither a name nor a Python file; or a suite whose parts do not fit together.
    """
    if suite in SUITES:
        return SUITES[suite]()
    file, where = pathlib.Path(os.path.expanduser(suite)), f"--suite {suite}"
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"{where}: expected one of {', '.join(SUITES)}, or a Python file with get_suite()")
    found = python_files.call(file, "get_suite", where)
    if not isinstance(found, Suite):
        raise UserError(f"{where}: get_suite() returned {found!r:.50}; expected a Suite, as compare_settings makes")
    require_suite(found, where)
    return _with_files(found, where)


def require_suite(suite: Suite, where: str) -> None:
    """Checks that the parts of a suite fit together.

    Args:
      suite: the one.
      where: what errors begin with.

    Raises:
      UserError: naming the first thing that is wrong.
    """
    _require_names([suite.name], "the suite", where)
    if suite.name in SUITES:
        raise UserError(f"{where}: the suite is called {suite.name}, as a shipped one is; expected another name")
    kinds = {"pretrainings": Pretraining, "targets": Target, "claims": Contrast, "ablations": Contrast}
    for key, kind in kinds.items():
        rows = getattr(suite, key)
        if not isinstance(rows, tuple) or not all(isinstance(row, kind) for row in rows):
            raise UserError(f"{where}: {key} is {rows!r:.50}; expected a tuple of {kind.__name__}")
    if not suite.runs_here:
        raise UserError(f"{where}: runs_here is {suite.runs_here}; expected True")
    if not suite.contrasts:
        raise UserError(f"{where}: no contrasts; expected claims or ablations")
    _require_names([row.name for row in suite.pretrainings], "a pretraining", where)
    _require_names([row.name for row in suite.targets], "a target", where)
    keys = [row.key.replace("/", ".") if isinstance(row.key, str) else row.key for row in suite.contrasts]
    _require_names(keys, "a contrast", where)
    for row in (*suite.pretrainings, *suite.targets):
        if row.name in _TAKEN:
            raise UserError(f"{where}: the name {row.name} is taken; expected none of {', '.join(_TAKEN)}")
        _require_overrides(row.overrides, f"{where}: {row.name}")
    names = [row.name for row in suite.pretrainings]
    for row in suite.targets:
        if not isinstance(row.rates, Mapping) or not all(isinstance(rate, str) for rate in row.rates.values()):
            raise UserError(f"{where}: {row.name}: rates is {row.rates!r}; expected texts, as in {{'mdp': '0.1'}}")
        if unknown := [name for name in row.rates if name not in names]:
            raise UserError(f"{where}: {row.name}: rate of {unknown[0]!r}; expected of one of {', '.join(names)}")
    before: dict[str, Pretraining] = {}
    for row in suite.pretrainings:
        _require_pretraining(row, suite, before, f"{where}: {row.name}")
        before[row.name] = row
    for contrast in suite.contrasts:
        _require_contrast(contrast, suite, f"{where}: {contrast.key}")


def _require_names(names: Iterable[object], of: str, where: str) -> None:
    names = list(names)
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(f"{where}: {of} is called {name!r}; expected letters, digits, '_', '-' and '.'")
    # Of file systems that do not tell capital letters from small ones.
    name, count = Counter(name.lower() for name in names).most_common(1)[0] if names else ("", 1)
    if count > 1:
        raise UserError(f"{where}: {of} is called {name} {count} times; expected names that differ")


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
    known = [(row.name, target) for row in suite.pretrainings for target in row.targets]
    for side in (contrast.left, contrast.right):
        if not isinstance(side, tuple) or not 1 <= len(side) <= 2:
            raise UserError(f"{where}: a side is {side!r}; expected one or two pairs of a pretraining and a target")
    for cell in contrast.cells:
        if cell not in known:
            raise UserError(f"{where}: {cell!r}; expected a pretraining and one of its targets")


def _with_files(suite: Suite, where: str) -> Suite:
    """The suite with absolute paths: its runs are started in another folder."""
    rows = []
    names = {row.name for row in suite.pretrainings}
    for row in suite.pretrainings:
        config = _config(row.config, "sources", "mdp pretrain", f"{where}: {row.name}") if row.config else ""
        init = row.init if row.init in names or not row.init else _weights(row.init, f"{where}: {row.name}")
        rows.append(dataclasses.replace(row, config=config, init=init))
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
    return str(pathlib.Path(path).resolve()) if pathlib.Path(path).is_file() else path


def _weights(path: str, where: str) -> str:
    file = pathlib.Path(os.path.expanduser(path))
    if not file.exists():
        raise UserError(f"{where}: starts from {path}; expected a pretraining of the suite, a workdir or a file")
    return str(file.resolve())
