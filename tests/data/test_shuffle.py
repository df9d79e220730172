import pytest

from mdp_jax.data.batches.shuffle import ShuffledEpochs


def _epoch(order: ShuffledEpochs, length: int, number: int) -> list[int]:
    return [order[number * length + i][1] for i in range(length)]


@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_epochs_are_permutations(length):
    order = ShuffledEpochs(length, (3, 1))
    assert all(sorted(_epoch(order, length, number)) == list(range(length)) for number in (0, 1, 2, 10**6))
    assert {order[i][0] for i in range(length)} == {0}


def test_epochs_differ_and_are_uniform():
    order = ShuffledEpochs(3, (0,))
    drawn = [tuple(_epoch(order, 3, number)) for number in range(600)]
    counts = [drawn.count(permutation) for permutation in set(drawn)]
    assert len(counts) == 6 and min(counts) > 60 and max(counts) < 140


def test_order_depends_on_the_seed_and_not_on_what_was_read_before():
    order, again, other = ShuffledEpochs(50, (0, 1)), ShuffledEpochs(50, (0, 1)), ShuffledEpochs(50, (0, 2))
    expected = _epoch(order, 50, 4)
    for number in range(10):
        _epoch(order, 50, number)
    assert expected == _epoch(again, 50, 4) == _epoch(order, 50, 4) != _epoch(other, 50, 4)
