"""The rows of `mdp compare`: what both sides computed, how far apart it is, and how far it may be."""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mdp_jax.parity import comparison_case, comparison_jax
from mdp_jax.parity.comparison_case import FINETUNING, PRETRAINING

DTYPES = ("float32", "float64")
EACH, BLOCKS, ONE = "a row for each name", "a row for each block of the network", "one row"


@dataclass(frozen=True)
class Rule:
    """How a section of the results is shown and judged.

    Attributes:
      rows: EACH, BLOCKS or ONE; a row of several names shows the one that comes closest to its tolerance.
      float32: largest difference allowed in float32, relative to the scale; None: shown, not judged.
      float64: the same in float64.
      cause: of a known gap.
      own_noise: whether the remark says how far PyTorch's float32 is from its own float64.
    """

    rows: str
    float32: float | None
    float64: float | None
    cause: str = ""
    own_noise: bool = False


_SUMS = "float32: sums in another order, amplified by batch normalisation"
_TRAJECTORY = "float32 is not judged: rounding grows from step to step, within PyTorch as between the two"
_RATE = "float32: the rate itself is computed in float32 here, in float64 there"

RULES = {
    "mixing": Rule(EACH, 1e-6, 1e-14),
    "loss": Rule(EACH, 1e-5, 1e-10),
    "forward": Rule(EACH, 1e-4, 1e-10, _SUMS),
    "gradient": Rule(BLOCKS, 1e-3, 1e-10, _SUMS),
    "bank after 1 step": Rule(ONE, 1e-5, 1e-10),
    "momentum weights after 1 step": Rule(ONE, 1e-5, 1e-10),
    f"{PRETRAINING}, losses": Rule(EACH, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{PRETRAINING}, learning rate": Rule(ONE, 1e-6, 1e-12, _RATE),
    f"{PRETRAINING}, weights": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{PRETRAINING}, statistics": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{PRETRAINING}, momentum weights": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{PRETRAINING}, momentum statistics": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{PRETRAINING}, bank": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    "evaluation": Rule(EACH, 1e-5, 1e-10),
    "fine-tuning gradient": Rule(BLOCKS, 1e-3, 1e-10, _SUMS),
    f"{FINETUNING}, loss": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{FINETUNING}, weights": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    f"{FINETUNING}, statistics": Rule(ONE, None, 1e-8, _TRAJECTORY, own_noise=True),
    "schedule": Rule(EACH, 1e-6, 1e-12, _RATE),
    "SGD": Rule(EACH, 1e-5, 1e-12, _RATE),
    "counts": Rule(ONE, 0.0, 0.0),
    "scores": Rule(ONE, 1e-12, 1e-12),
}


@dataclass(frozen=True)
class Row:
    """One row of the table; `columns` gives it under the names of the table and of compare.json.

    Attributes:
      what: names what is compared.
      float32: largest absolute difference between the two sides in float32.
      float64: the same in float64.
      scale: largest absolute value on PyTorch's side, in float64.
      float32_tolerance: allowed for the first difference, relative to the scale; None: not judged.
      tolerance: allowed for the second difference.
      ok: whether every value of the row is within its tolerance.
      remark: which of several names is shown, and how far PyTorch's float32 is from its own float64.
      cause: of a known gap.
    """

    what: str
    float32: float
    float64: float
    scale: float
    float32_tolerance: float | None
    tolerance: float | None
    ok: bool
    remark: str
    cause: str

    def columns(self) -> dict:
        """The cells by the name of their column; the note is the remark with the cause."""
        return {
            "what": self.what,
            "float32 max difference": self.float32,
            "float64 max difference": self.float64,
            "scale": self.scale,
            "float32 tolerance": self.float32_tolerance,
            "tolerance": self.tolerance,
            "ok": self.ok,
            "note": "; ".join(filter(None, (self.remark, self.cause))),
        }


Results = Mapping[str, Mapping[str, np.ndarray]]  # dtype -> name -> array


def max_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Computes the largest absolute difference of two arrays; NaN where a value is NaN.

    Args:
      ours: any shape.
      theirs: the same shape.

    Raises:
      ValueError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape}")
    return float(np.max(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))))


def _strain(difference: float, tolerance: float | None, scale: float) -> float:
    """The difference as a share of what is allowed: at most 1 is within tolerance. Not judged: 0 if it is finite."""
    if not np.isfinite(difference):
        return np.inf
    if tolerance is None or difference == 0:
        return 0.0
    allowed = tolerance * scale
    return difference / allowed if allowed else np.inf


def _group(rows: str, name: str) -> str:
    if rows == EACH:
        return name
    if rows == ONE:
        return ""
    part, module = name.split(".")[:2]
    if part != "backbone":
        return part
    return f"{part}.{module}" if module.startswith("layer") else f"{part} stem"


def _row(what: str, rule: Rule, leaves: list[tuple[str, dict, dict]]) -> Row:
    """The row that stands for some names: (name, ours, theirs), each a dict dtype -> array."""
    found = []
    for name, ours, theirs in leaves:
        gap32, gap64 = (max_difference(ours[dtype], theirs[dtype]) for dtype in DTYPES)
        scale = float(np.max(np.abs(theirs["float64"])))
        strain = max(_strain(gap32, rule.float32, scale), _strain(gap64, rule.float64, scale))
        found.append((strain, gap64, gap32, scale, name, theirs))
    strain, gap64, gap32, scale, name, theirs = max(found, key=lambda leaf: leaf[:2])
    remarks = [f"shown: {name}"] if len(leaves) > 1 else []
    if rule.own_noise:
        remarks.append(f"PyTorch's own: {max_difference(theirs['float32'], theirs['float64']):.1e}")
    return Row(what, gap32, gap64, scale, rule.float32, rule.float64, strain <= 1, ", ".join(remarks), rule.cause)


def rows_of(what: str, rule: Rule, ours: Results, theirs: Results) -> list[Row]:
    """Makes the rows of one section.

    Args:
      what: begins their names.
      rule: of the section.
      ours: "float32" and "float64" -> name -> array.
      theirs: the same names and shapes.

    Raises:
      ValueError: names or shapes differ.
    """
    names = list(theirs["float64"])
    if any(set(results[dtype]) != set(names) for results in (ours, theirs) for dtype in DTYPES):
        raise ValueError(f"{what}: the two sides computed different things")
    groups: dict[str, list] = {}
    for name in names:
        leaf = (name, *({dtype: side[dtype][name] for dtype in DTYPES} for side in (ours, theirs)))
        groups.setdefault(_group(rule.rows, name), []).append(leaf)
    return [_row(f"{what}, {group}" if group else what, rule, leaves) for group, leaves in groups.items()]


def _section_rows(prefix: str, every_name: bool, ours: Mapping, theirs: Mapping) -> list[Row]:
    """Rows of all sections of results: dtype -> section -> name -> array on both sides."""
    rows = []
    for section in theirs["float64"]:
        rule = RULES[section]
        if every_name:
            rule = replace(rule, rows=EACH)
        sides = ({dtype: side[dtype][section] for dtype in DTYPES} for side in (ours, theirs))
        steps = f"{comparison_case.STEPS} " if section.split(",")[0] in (PRETRAINING, FINETUNING) else ""
        rows += rows_of(prefix + steps + section, rule, *sides)
    return rows


def _evaluation_rows(comparison_torch: types.ModuleType) -> list[Row]:
    """Counts and scores of each kind of label maps; integers and float64 on both sides, whatever the dtype."""
    rows = []
    for kind in comparison_case.LABEL_MAPS:
        ours, theirs = comparison_jax.evaluation(kind), comparison_torch.evaluation(kind)
        for section in theirs:
            rule = RULES[section]
            sides = (dict.fromkeys(DTYPES, side[section]) for side in (ours, theirs))
            rows += rows_of(f"evaluation {section}, {kind}", rule, *sides)
    return rows


def compare(say: Callable[[str], None], every_name: bool = False) -> list[Row]:
    """Computes everything on both sides. It takes minutes, most of them for compilation.

    Args:
      say: called with what is being computed.
      every_name: whether there is a row for each parameter instead of one for each block or section.

    Raises:
      ModuleNotFoundError: PyTorch is not installed.
    """
    from mdp_jax.parity import comparison_torch

    sides = (comparison_jax, comparison_torch)
    say("mixing and losses")
    cases = {dtype: comparison_case.make_case("resnet18", dtype) for dtype in DTYPES}
    method = [{dtype: side.method_results(cases[dtype]) for dtype in DTYPES} for side in sides]
    rows = _section_rows("", every_name, *method)
    for backbone in comparison_case.NETWORKS:
        results: tuple[dict, dict] = ({}, {})
        for dtype in DTYPES:
            say(f"{backbone} in {dtype}: forward, gradients, steps of pretraining and fine-tuning")
            case = comparison_case.make_case(backbone, dtype)
            for side, found in zip(sides, results, strict=True):
                found[dtype] = side.network_results(case)
        rows += _section_rows(f"{backbone}: ", every_name, *results)
    say("schedules, SGD, evaluation")
    optimisation = [
        {dtype: {"schedule": side.schedules(dtype), "SGD": side.sgd(dtype)} for dtype in DTYPES} for side in sides
    ]
    rows += _section_rows("100 steps: ", every_name, *optimisation)
    return rows + _evaluation_rows(comparison_torch)
