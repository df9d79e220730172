"""Collectives of a compiled program: which, how often in one run, and how many bytes, read from its HLO text."""

import math
import re
from dataclasses import dataclass, field

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
# The type holds no lower-case word before a bracket, so the first such word is the operation.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+)(\d*)[a-z0-9]*\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"(?:calls|body|condition)=%?([\w.-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.-]+)")
# What libtpu makes of the part of a collective that goes from slice to slice.
_TO_OTHER_SLICES = "_xla_megascale_transfer_type"
# The three ways in which HLO writes groups of devices: {{0,1},{2,3}}, [2,2]<=[4], and axes of a mesh.
_LISTED_GROUPS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
_COUNTED_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_GROUPS_OF_A_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass
class Collectives:
    """The collectives of one run of a program on one chip.

    Attributes:
      bytes: every kind of KINDS -> bytes: the larger of what a chip puts into a collective and what it gets out.
      to_other_slices: bytes of a chip's own share of what goes to other slices or nodes, over the slow network.
      calls: number of collectives that run.
      loops_of_unknown_length: number of while loops that have a collective and whose length the text does not tell;
        they count once.
    """

    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    to_other_slices: float = 0
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


def _numbered(sides: str, order: str | None) -> np.ndarray:
    """Devices as HLO numbers them: 0, 1, 2, ... in an array of these sides, with its axes then in this order."""
    shape = [int(side) for side in sides.split(",")]
    devices = np.arange(math.prod(shape)).reshape(shape)
    return devices.transpose([int(axis) for axis in order.split(",")]) if order else devices


def _groups(attributes: str) -> list[list[int]] | None:
    """The groups of devices that exchange something; None where there is one, of all devices."""
    found = _LISTED_GROUPS.search(attributes)
    if found:
        return [[int(device) for device in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", found[1])]
    found = _COUNTED_GROUPS.search(attributes)
    if found:
        return _numbered(*found.groups()[2:]).reshape(-1, int(found[2])).tolist()
    found = _GROUPS_OF_A_MESH.search(attributes)
    if not found:
        return None
    axes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
    names, sides = list(axes), [int(side) for side in axes.values()]
    devices = np.arange(math.prod(sides)) if found[2] is None else _numbered(*found.groups()[1:3])
    together = [names.index(name) for name in re.findall(r"'(\w+)'", found[4])]
    apart = [axis for axis in range(len(sides)) if axis not in together]
    size = math.prod(sides[axis] for axis in together)
    return devices.reshape(sides).transpose(apart + together).reshape(-1, size).tolist()


def _outside(instruction: _Instruction, moved: int, inside: int | None) -> float:
    """A chip's share of the bytes of a collective that leave its slice of `inside` devices, which stand together."""
    if inside is None:
        return 0.0
    groups = _groups(instruction.attributes)
    if groups is None:
        return moved / inside
    for group in groups:
        slices = [device // inside for device in group]
        if len(set(slices)) > 1:
            return moved / slices.count(slices[0])
    return 0.0


def count(text: str, inside: int | None = None) -> Collectives:
    """Counts the collectives of one run of a compiled program.

    A collective over several slices is best done in three parts: each slice reduces inside, its chips exchange their
    shares with those of the other slices, and each slice gathers. libtpu writes it so. For other compilers a chip's
    share of the bytes is counted.

    Args:
      text: optimised HLO of one device, as `compiled.as_text()` gives it. Bodies of loops count as often as they
        run, where the text tells it; all branches of a conditional are counted.
      inside: number of devices of a slice or node, where there are several and the text is not libtpu's.
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
                moved = _moved(instruction, computation)
                total.bytes[kind] += moved
                total.to_other_slices += _outside(instruction, moved, inside)
                total.calls += 1
            elif instruction.operation == "send" and _TO_OTHER_SLICES in instruction.attributes:
                names = (name for name in instruction.operands() if name in computation)
                total.to_other_slices += sum(_bytes(computation[name].type) for name in names)
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
    total.to_other_slices += times * inner.to_other_slices
    total.calls += times * inner.calls
    total.loops_of_unknown_length += inner.loops_of_unknown_length + (trips is None and inner.calls > 0)
