"""Messages of the compiler, and the search for the largest share of a batch."""

import pytest

from mdp_jax.planning import memory

EARLY = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (22.25G) exceeds "
    "available HBM (15.75G)."
)
LATE = """RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.50M of 256.00M hbm. Exceeded by
256.50M.

  Largest program allocations in hbm:

  1. Size: 320.00M
     Operator: op_name="jit(step)/transpose(jvp(PixelEncoder))/backbone/add" source_file="x.py" source_line=3
     Shape: bf16[4,64,64,2048]{3,2,1,0:T(8,128)(2,1)}
     Unpadded size: 320.00M
     Allocation type: HLO temp
     ==========================

  2. Size: 64.00M
     Shape: f32[4096,4096]{1,0}
     Allocation type: HLO temp
     ==========================
"""


def test_messages():
    assert memory.exhausted(EARLY) == memory.Exhausted(round(22.25 * 2**30), round(15.75 * 2**30), ())
    late = memory.exhausted(LATE)
    assert (late.needed, late.available) == (round(512.5 * 2**20), 2**28)
    assert memory.excess(late) == [
        "does not fit: 0.50 GiB or more, and a chip has 0.25",
        "  320.00M bf16[4,64,64,2048] of jit(step)/transpose(jvp(PixelEncoder))/backbone/add",
        "  64.00M f32[4096,4096]",
    ]
    assert memory.exhausted("INVALID_ARGUMENT: something else") is None


class Chip:
    """Needs `fixed` + `each` x share, and has `available`; says what was compiled."""

    def __init__(self, available, fixed, each):
        self.available, self.fixed, self.each, self.asked = available, fixed, each, []

    def __call__(self, share):
        self.asked.append(share)
        needed = self.fixed + self.each * share
        return needed if needed <= self.available else None


@pytest.mark.parametrize(
    ("asked", "unit", "compiled", "expected"),
    [
        (8, 2, [8, 4, 18], 18),  # (200 - 10) / 10 = 19 images, of which pairs are 18
        (4, 4, [4, 8, 16], 16),
        (40, 2, [40, 20, 10, 4, 18], 18),
        (18, 2, [18, 8], 18),
        (2, 1, [2, 1, 19], 19),
    ],
)
def test_largest_share_of_a_straight_line(asked, unit, compiled, expected):
    chip = Chip(available=200, fixed=10, each=10)
    known = {asked: chip(asked)}
    assert memory.largest(200, unit, known, chip) == expected
    assert chip.asked == compiled
    assert set(known) == set(compiled)


def test_what_is_known_is_not_compiled_again():
    chip = Chip(available=200, fixed=10, each=10)
    assert memory.largest(200, 2, {4: 50, 8: 90, 32: None}, chip) == 18
    assert chip.asked == [18]


def test_nothing_fits():
    assert memory.largest(200, 2, {8: None}, Chip(available=200, fixed=500, each=10)) == 0
    assert memory.largest(200, 2, {2: 190}, Chip(available=200, fixed=10, each=90)) == 2


def test_where_memory_grows_faster_than_a_line_smaller_shares_are_tried():
    asked = []

    def measure(share):
        asked.append(share)
        return share**2 if share <= 28 else None

    # The line through 10 and 20 says 200 = 8 + 30 x 6.4; the square is larger from there on.
    assert memory.largest(800, 2, {10: 100, 20: 400}, measure) == 28
    assert asked == [32, 30, 28]
