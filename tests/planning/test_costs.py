"""The roofline's bound by hand; prices and hours that make no sense; the cheapest in time."""

import math

import pytest

from mdp_jax.errors import UserError
from mdp_jax.planning import costs
from mdp_jax.planning.collectives import Collectives
from mdp_jax.planning.costs import Work
from mdp_jax.planning.hardware import Peak

PEAK = Peak("made up", bfloat16=200.0, float32=100.0, memory=1e9, bandwidth=50.0, links=10.0)


@pytest.mark.parametrize(
    ("work", "dtype", "network", "seconds", "limit"),
    [
        (Work(400, 50, 5, 1), "float32", 2.0, 4.0, "compute"),
        (Work(400, 50, 5, 1), "float64", 2.0, 4.0, "compute"),
        (Work(400, 150, 5, 1), "bfloat16", 2.0, 3.0, "memory"),
        (Work(400, 50, 25, 1), "bfloat16", 2.0, 2.5, "links"),
        (Work(400, 50, 5, 6), "bfloat16", 2.0, 3.0, "network"),
        (Work(400, 50, 5, 6), "bfloat16", None, 2.0, "compute"),
    ],
)
def test_the_largest_part_is_the_bound(work, dtype, network, seconds, limit):
    found = costs.bound(work, PEAK, dtype, network)
    assert (found.seconds, found.limit) == (seconds, limit)
    assert ("network" in found.parts) == (network is not None)


def test_bytes_of_the_memory():
    """30 read, 20 written, 100 written and read again; of each pair of passages 40 may stay on the chip."""
    assert costs.memory_bytes(30, 20, 100, on_chip=40) == 30 + 20 + 200 - 80
    assert costs.memory_bytes(30, 20, 10) == 0


def test_bytes_that_are_sent():
    moved = Collectives()
    moved.bytes |= {"all-reduce": 100, "all-gather": 40}
    assert costs.sent(moved) == 120


@pytest.mark.parametrize(
    ("prices", "deadline", "efficiency", "message"),
    [
        ([0.0], None, None, "--price 0: expected what a chip costs for an hour, more than 0"),
        ([1.0, -2.0], None, None, "--price -2: expected"),
        ([math.nan], None, None, "--price nan: expected"),
        ([math.inf], None, None, "--price inf: expected"),
        ([1.0, 2.0, 3.0], None, None, "--price: 3 prices for 2 topologies; expected one for all, or one for each"),
        ([1.0], 0.0, None, "--deadline 0: expected a number of hours, more than 0"),
        ([1.0], math.nan, None, "--deadline nan: expected"),
        ([], 5.0, None, "--deadline: the cheapest cannot be found without a price; give --price too"),
        ([], None, 0.0, "--efficiency 0: expected a share above 0, up to 1, such as 0.4"),
        ([], None, 40.0, "--efficiency 40: expected a share above 0, up to 1"),
    ],
)
def test_what_makes_no_sense(prices, deadline, efficiency, message):
    with pytest.raises(UserError) as error:
        costs.money(prices, deadline, efficiency, ("v5e:2x2", "h100:8"))
    assert str(error.value).startswith(message)


def test_a_price_belongs_to_one_topology():
    with pytest.raises(UserError, match="--topology l4:1: there twice, with a price for each; expected each"):
        costs.money([1.0, 1.0, 2.0], None, None, ("l4:1", "l4:1", "h100:8"))


def test_one_price_is_for_all():
    two = ("v5e:2x2", "h100:8")
    assert [costs.money([3.0], None, None, two).price(number) for number in (0, 1)] == [3.0, 3.0]
    assert [costs.money([3.0, 4.0], None, None, two).price(number) for number in (0, 1)] == [3.0, 4.0]
    assert costs.money([], None, None, two).price(1) is None
    assert costs.money([3.0], None, None, ("l4:1", "l4:1")).price(0) == 3.0


def test_the_cheapest_in_time():
    rows = [
        {"name": "a", "hours": 30.0, "cost": 10.0},
        {"name": "b", "hours": 12.0, "cost": 25.0},
        {"name": "c", "hours": 8.0, "cost": 40.0},
        {"name": "d", "hours": None, "cost": None},
    ]
    assert costs.cheapest(rows, 24) == "cheapest within 24 h: b, 12 h, 25"
    assert costs.cheapest(rows, 100) == "cheapest within 100 h: a, 30 h, 10"
    assert costs.cheapest(rows, 2) == "none ends within 2 h; the fastest is c with 8 h"
    assert costs.cheapest(rows[3:], 2).startswith("none is known to end within 2 h")
