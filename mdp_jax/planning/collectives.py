"""Collectives of a compiled program: which, how often in one run, and how many bytes, read from its HLO text."""

import math
import re
from dataclasses import dataclass, field

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
# The type holds no lower-case word before a bracket, so the first such word is the operation.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+)(\d*)[a-z0-9]*\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"(?:calls|body|condition)=%?([\w.-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass
class Collectives:
    """The collectives of one run of a program on one chip.

    Attributes:
      bytes: every kind of KINDS -> bytes: the larger of what a chip puts into a collective and what it gets out.
      calls: number of collectives that run.
      loops_of_unknown_length: number of while loops that have a collective and whose length the text does not tell;
        they count once.
    """

    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    calls: int = 0
    loops_of_unknown_length: int = 0


@dataclass(frozen=True)
class _Instruction:
    type: str
    operation: str
    arguments: str  # what stands in its brackets
    attributes: str  # and behind them

    def operands(self) -> list[str]:
        """Names of the instructions whose results it takes."""
        return _OPERAND.findall(self.arguments)

    def calls(self) -> list[str]:
        """Names of the computations that this instruction runs."""
        if self.operation in ("async-update", "async-done"):  # the async-start before them ran it
            return []
        branches = (_OPERAND.findall(group) for group in _BRANCHES.findall(self.attributes))
        return [*_CALLED.findall(self.attributes), *(name for names in branches for name in names)]


def _bytes(type_: str) -> int:
    """Of all arrays of a type such as `(f32[16]{0:T(128)}, bf16[3,3]{1,0})`."""
    total = 0
    for kind, bits, shape in _ARRAY.findall(type_):
        if kind == "token":
            continue
        elements = math.prod(int(size) for size in shape.split(",") if size)
        total += math.ceil(elements * int(bits or 8) / 8)  # pred has no number of bits and takes a byte
    return total


def _split(arguments: str) -> tuple[str, str]:
    """Operands and attributes of what follows an operation's opening bracket."""
    depth = 1
    for i, letter in enumerate(arguments):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return arguments[:i], arguments[i + 1 :]
    return arguments, ""


def _parse(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """{computation: {instruction: it}}, and the name of the entry computation."""
    computations: dict[str, dict[str, _Instruction]] = {}
    entry = ""
    current: dict[str, _Instruction] | None = None
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
            continue
        found = _INSTRUCTION.match(line) if current is not None else None
        if found and current is not None:
            name, type_, operation, rest = found.groups()
            current[name] = _Instruction(type_, operation, *_split(rest))
    return computations, entry


def _kind(operation: str) -> str | None:
    kind = operation.removesuffix("-start").removeprefix("ragged-")
    return kind if kind in KINDS else None


def _moved(instruction: _Instruction, computation: dict[str, _Instruction]) -> int:
    operands = sum(_bytes(computation[name].type) for name in instruction.operands() if name in computation)
    result = _bytes(instruction.type)
    if instruction.operation.endswith("-start") and not instruction.operation.startswith("all-reduce"):
        result -= operands  # the tuple of an asynchronous start holds the operands beside the results
    return max(operands, result)


def _trips(instruction: _Instruction, computations: dict[str, dict[str, _Instruction]]) -> int | None:
    """How often an instruction runs what it calls; None = the text does not tell."""
    if instruction.operation != "while":
        return 1
    found = _TRIPS.search(instruction.attributes)
    if found:
        return int(found[1])
    # libtpu does not write the number. A scan counts from 0 by 1 while it is less than its length.
    found = _CONDITION.search(instruction.attributes)
    condition = computations.get(found[1], {}) if found else {}
    compared = [other for other in condition.values() if other.operation == "compare"]
    if len(compared) != 1 or "direction=LT" not in compared[0].attributes:
        return None
    operands = [condition[name] for name in compared[0].operands() if name in condition]
    limits = [int(operand.arguments) for operand in operands if operand.operation == "constant"]
    return limits[0] if len(limits) == 1 else None


def count(text: str) -> Collectives:
    """Counts the collectives of one run of a compiled program.

    Args:
      text: optimised HLO of one device, as `compiled.as_text()` gives it. Bodies of loops count as often as they
        run, where the text tells it; all branches of a conditional are counted.
    """
    computations, entry = _parse(text)
    totals: dict[str, Collectives] = {}

    def of(name: str) -> Collectives:
        if name in totals:
            return totals[name]
        total = totals[name] = Collectives()
        computation = computations.get(name, {})
        for instruction in computation.values():
            kind = _kind(instruction.operation)
            if kind:
                total.bytes[kind] += _moved(instruction, computation)
                total.calls += 1
            trips = _trips(instruction, computations)
            for called in instruction.calls():
                _add(total, of(called), trips)
        return total

    return of(entry)


def _add(total: Collectives, inner: Collectives, trips: int | None) -> None:
    """Adds what `trips` runs of `inner` do; None = nobody knows how many."""
    times = 1 if trips is None else trips
    for kind in KINDS:
        total.bytes[kind] += times * inner.bytes[kind]
    total.calls += times * inner.calls
    total.loops_of_unknown_length += inner.loops_of_unknown_length + (trips is None and inner.calls > 0)
