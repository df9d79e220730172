"""`mdp bench --against`: the rows of a run beside those of a stored one, without the speed of the machine.

Where both runs have a ratio, to PyTorch or to another part of the same run, the ratios are compared: those of the
processor time if there are some, which other programs on the machine change least. Other rows are compared after the
speed of the machine was divided out: by PyTorch's rows where there are some, or by the row in the middle of all.
"""

import pathlib
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mdp_jax.benchmarks.measure import BY_PROCESSOR
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json

_FORM = [{"case": str, "ours": float, "torch": (float, None), "ratio": (float, None)}]
_EXPECTED = "what mdp bench --json wrote"


class Comparison(NamedTuple):
    """One stored row beside the same row of this run.

    Attributes:
      case: of the row.
      change: how fast the row is now, 1 = as before; None where the row is missing now or nothing stands beside it.
      line: the same in words.
    """

    case: str
    change: float | None
    line: str

    def fails(self, margin: float) -> bool:
        """Whether the row is missing, or slower by more than a margin.

        Args:
          margin: from 0 to 1; 0.1 = a tenth.
        """
        return self.change is None or self.change < 1 - margin


def read(file: pathlib.Path, cases: Collection[str]) -> list[dict]:
    """Reads the stored rows of some cases of `mdp bench`.

    Args:
      file: what --json wrote.
      cases: names of cases, such as "step".

    Raises:
      UserError: it cannot be read, is something else, or has no row of these cases.
    """
    rows = read_json(file, _EXPECTED, _FORM)
    for number, row in enumerate(rows):
        for name in ("ours", "torch", "ratio", BY_PROCESSOR):
            value = row.get(name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise UserError(f"{file}: [{number}].{name} is {value}; expected more than 0, as {_EXPECTED}")
    names = [row["case"] for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{file}: {twice!r} is there twice; expected each case once, as {_EXPECTED}")
    chosen = [row for row in rows if row["case"].partition(":")[0] in cases]
    if not chosen:
        raise UserError(f"{file}: no row of {', '.join(cases)}; expected some: store them by mdp bench --json {file}")
    return chosen


def compare(stored: Sequence[Mapping], rows: Sequence[Mapping]) -> list[Comparison]:
    """Compares rows of two runs, which may be of different machines.

    Args:
      stored: rows of the run before, as `Row.columns` gives them.
      rows: of this run; those that are not stored are left out.

    Returns:
      One comparison for each stored row.
    """
    now = {row["case"]: row for row in rows}
    both = [(before, now[before["case"]]) for before in stored if before["case"] in now]
    of_torch = [after["torch"] / before["torch"] for before, after in both if before["torch"] and after["torch"]]
    of_ours = [after["ours"] / before["ours"] for before, after in both]
    # Of two rows the one that gained more is the reference, so that a slower one is seen.
    machine = statistics.median(of_torch) if of_torch else statistics.median_high(of_ours) if len(both) > 1 else None
    return [_comparison(before, now.get(before["case"]), machine, bool(of_torch)) for before in stored]


def _comparison(before: Mapping, after: Mapping | None, machine: float | None, by_torch: bool) -> Comparison:
    case = before["case"]
    if after is None:
        return Comparison(case, None, f"{case}: missing; it is in the stored run")
    for column, name in ((BY_PROCESSOR, "ratio by processor time"), ("ratio", "ratio")):
        if before.get(column) and after.get(column):
            change = after[column] / before[column]
            line = f"{case}: {name} {after[column]:.2f}, {before[column]:.2f} before: {_in_words(change)}"
            return Comparison(case, change, line)
    if machine is None:
        return Comparison(case, None, f"{case}: no other row and no PyTorch beside it, to tell the machine's speed")
    change = after["ours"] / before["ours"] / machine
    reference = "PyTorch's rows" if by_torch else "the row in the middle"
    return Comparison(
        case, change, f"{case}: {_in_words(change)}, by {reference} ({machine:.2f} times their speed then)"
    )


def _in_words(change: float) -> str:
    return f"{100 * abs(change - 1):.0f} % {'faster' if change >= 1 else 'slower'}"
