import itertools

import numpy as np
import pytest

from mdp_jax.data.batches import mixture
from mdp_jax.errors import UserError
from mdp_jax.method import mixing


def _schedule(lengths=(4, 2, 2), temperature=1.0, region=0.25, pixel=0.25, seed=0) -> mixture.Schedule:
    weights = mixture.mixture_weights(lengths, temperature)
    return mixture.Schedule([mixture.Phase(0, mixture.pair_probabilities(weights, region, pixel))], seed)


def test_weights_by_hand():
    np.testing.assert_allclose(mixture.mixture_weights([4, 2, 2], 1.0), [0.5, 0.25, 0.25])
    root = np.sqrt(2)  # at T = 2 the weights are as 2 to sqrt(2) to sqrt(2)
    np.testing.assert_allclose(mixture.mixture_weights([4, 2, 2], 2.0), np.array([2, root, root]) / (2 + 2 * root))
    np.testing.assert_allclose(mixture.mixture_weights([7], 0.5), [1.0])
    np.testing.assert_allclose(mixture.mixture_weights([10**6, 1], float("inf")), [0.5, 0.5])


@pytest.mark.parametrize(
    ("lengths", "temperature", "message"),
    [
        ([4, 2], 0.0, "mixture_temperature is 0.0"),
        ([4, 2], float("nan"), "mixture_temperature is nan"),
        ([1000, 10], 0.01, "leaves a dataset of 10 photos no weight"),
        ([4, 0], 1.0, "at least one dataset and a photo in each"),
        ([], 1.0, "at least one dataset"),
    ],
)
def test_weight_errors(lengths, temperature, message):
    with pytest.raises(UserError, match=message):
        mixture.mixture_weights(lengths, temperature)


def test_pair_probabilities_by_hand():
    # w = 1/2, 1/4, 1/4. The other member of a mixed pair: from 0 to 1 or 2 a half each; from 1 to 0 with 1/2 of 3/4.
    mixed = np.array([[0, 1 / 4, 1 / 4], [1 / 6, 0, 1 / 12], [1 / 6, 1 / 12, 0]])
    plain = np.array([[1 / 4, 1 / 8, 1 / 8], [1 / 8, 1 / 16, 1 / 16], [1 / 8, 1 / 16, 1 / 16]])
    found = mixture.pair_probabilities(np.array([0.5, 0.25, 0.25]), 0.25, 0.1)
    np.testing.assert_allclose(found, np.stack([0.65 * plain, 0.25 * mixed, 0.1 * mixed]), atol=1e-15)


def test_pair_probabilities_without_weight_by_hand():
    # Of dataset 2 nothing is drawn; 0 and 1 are each other's partners.
    found = mixture.pair_probabilities(np.array([0.75, 0.25, 0.0]), 0.25, 0.25)
    mixed = np.array([[0, 0.75, 0], [0.25, 0, 0], [0, 0, 0]])
    plain = np.array([[9 / 16, 3 / 16, 0], [3 / 16, 1 / 16, 0], [0, 0, 0]])
    np.testing.assert_allclose(found, np.stack([0.5 * plain, 0.25 * mixed, 0.25 * mixed]), atol=1e-15)
    alone = mixture.pair_probabilities(np.array([0.0, 1.0]), 0.25, 0.25)  # no partner for it
    np.testing.assert_array_equal(alone, [[[0, 0], [0, 1]], np.zeros((2, 2)), np.zeros((2, 2))])


@pytest.mark.parametrize(("region", "pixel"), [(-0.1, 0.2), (0.2, -0.1), (0.6, 0.5)])
def test_share_errors(region, pixel):
    with pytest.raises(UserError, match=r"mixing\.region and \.pixel are"):
        mixture.pair_probabilities(np.array([0.5, 0.5]), region, pixel)


def test_counts_of_a_period_by_hand():
    counts = _schedule().phases[0].counts
    np.testing.assert_array_equal(counts[mixing.PLAIN], 32768 // 16 * np.array([[4, 2, 2], [2, 1, 1], [2, 1, 1]]))
    for kind in (mixing.REGION, mixing.PIXEL):  # 16384 / 4, 16384 / 6 = 2730.67, 16384 / 12 = 1365.33
        np.testing.assert_array_equal(counts[kind], [[0, 4096, 4096], [2731, 0, 1365], [2731, 1365, 0]])


def test_counts_at_temperature_two():
    counts = _schedule(temperature=2.0).phases[0].counts
    # w = 0.414214, 0.292893, 0.292893; plain 0-0: w0^2 / 2; region 0-1: w0 / 8; region 1-0: w1 w0 / (1 - w1) / 4.
    assert counts[0, 0, 0] == round(65536 * 0.0857864)
    assert counts[0, 1, 2] == round(65536 * 0.0428932)
    assert counts[1, 0, 1] == round(65536 * 0.0517767)
    assert counts[1, 1, 0] == round(65536 * 0.0428932)
    assert counts[1, 1, 2] == round(65536 * 0.0303301)


def test_a_rare_cell_is_kept():
    counts = _schedule(lengths=(10**6, 1)).phases[0].counts
    assert (counts[0] >= 1).all() and counts[0, 1, 1] == 1


def test_shares_of_one_leave_no_plain_pairs():
    assert (_schedule(region=0.7, pixel=0.3).phases[0].counts[mixing.PLAIN] == 0).all()


def test_shares_by_hand():
    # Second member of a mixed pair: 1/3 each. So (1/2 + 1/3) / 2 of the mixed samples and 1/2 of the plain are of 0.
    found = mixture.shares(_schedule())
    np.testing.assert_allclose(found["datasets"], [11 / 24, 13 / 48, 13 / 48], atol=1e-4)
    np.testing.assert_allclose([found[key] for key in ("plain", "region", "pixel")], [0.5, 0.25, 0.25], atol=1e-4)


@pytest.mark.parametrize("changes", [{"lengths": (5,)}, {"region": 0.0, "pixel": 0.0}])
def test_no_mixing_with_one_dataset_or_shares_of_zero(changes):
    schedule = _schedule(**changes)
    assert mixture.shares(schedule) | {"datasets": None} == {
        "datasets": None,
        "plain": 1.0,
        "region": 0.0,
        "pixel": 0.0,
    }
    assert {schedule.kind(j) for j in range(1000)} == {mixing.PLAIN}


def _pairs(schedule: mixture.Schedule, count: int) -> np.ndarray:
    """(kind, first, second) of the first pairs; every stream must be used in order."""
    used = [itertools.count() for _ in range(3)]
    pairs = []
    for j in range(count):
        (first, first_use), (second, second_use) = schedule[2 * j], schedule[2 * j + 1]
        assert first_use == next(used[first]) and second_use == next(used[second])
        pairs.append((schedule.kind(j), first, second))
    return np.array(pairs)


def _counted(pairs: np.ndarray) -> np.ndarray:
    found = np.zeros((3, 3, 3), np.int64)
    np.add.at(found, tuple(pairs.T), 1)
    return found


def test_periods_hold_each_cell_as_often_as_counted_and_use_streams_in_order():
    schedule = _schedule(lengths=(4, 2, 2))
    expected = schedule.phases[0].counts
    period = int(expected.sum())
    pairs = _pairs(schedule, 2 * period)
    mixed = pairs[pairs[:, 0] != mixing.PLAIN]
    assert (mixed[:, 1] != mixed[:, 2]).all()
    for half in (pairs[:period], pairs[period:]):
        np.testing.assert_array_equal(_counted(half), expected)
    assert not np.array_equal(pairs[:period], pairs[period:])


def test_phases_by_hand():
    rows = [(0, (1, 1, 2)), (600, (0, 3, 1))]
    found = mixture.phases(rows, 0.25, 0.5, mixed_from=400)
    assert [phase.start for phase in found] == [0, 400, 600]
    shares = [phase.probabilities.sum((1, 2)) for phase in found]
    np.testing.assert_allclose(shares, [[1, 0, 0], [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]])
    first_members = [phase.probabilities.sum((0, 2)) for phase in found]  # are drawn by the weights, mixed or not
    np.testing.assert_allclose(first_members, [[0.25, 0.25, 0.5], [0.25, 0.25, 0.5], [0, 0.75, 0.25]])
    (only,) = mixture.phases(rows[:1], 0.25, 0.5, mixed_from=0)
    np.testing.assert_allclose(only.probabilities, mixture.pair_probabilities(np.array([0.25, 0.25, 0.5]), 0.25, 0.5))


def _phased(seed=0) -> mixture.Schedule:
    # The first phase ends inside its first period, the second with a whole one; 2 has no weight in the second.
    rows = [(0, (2, 1, 1)), (1000, (1, 3, 0)), (1000 + 65536, (1, 1, 2))]
    return mixture.Schedule(mixture.phases(rows, 0.25, 0.25, mixed_from=500), seed)


def test_phases_follow_each_other_and_go_on_in_every_stream():
    schedule = _phased()
    assert [phase.start for phase in schedule.phases] == [0, 500, 1000, 66536]
    last = schedule.phases[3].counts
    pairs = _pairs(schedule, 66536 + int(last.sum()))  # which also follows the uses over the borders
    assert (pairs[:500, 0] == mixing.PLAIN).all()
    np.testing.assert_allclose(np.bincount(pairs[500:1000, 0]) / 500, [0.5, 0.25, 0.25], atol=0.08)
    np.testing.assert_array_equal(_counted(pairs[1000:66536]), schedule.phases[2].counts)
    assert not schedule.phases[2].counts[:, 2].any() and not schedule.phases[2].counts[:, :, 2].any()
    np.testing.assert_array_equal(_counted(pairs[66536:]), last)
    near = [schedule[i] for i in range(2 * 66436, 2 * 66636)]
    again, other = _phased(), _phased(seed=1)
    assert [again[i] for i in range(2 * 66436, 2 * 66636)] == near  # without what comes before
    assert [other[i] for i in range(2 * 66436, 2 * 66636)] != near


def test_shares_of_a_run_of_phases_by_hand():
    # 500 plain pairs; 500 as in test_shares_by_hand; 1000 of which half are mixed, with a sample of 0 and one of 1, and
    # half are plain, 1/4 of their samples of 0 and 3/4 of 1.
    found = mixture.shares(_phased(), pairs=2000)
    of_0 = (500 * 1 / 2 + 500 * 11 / 24 + 1000 * 3 / 8) / 2000
    of_1 = (500 * 1 / 4 + 500 * 13 / 48 + 1000 * 5 / 8) / 2000
    np.testing.assert_allclose(found["datasets"], [of_0, of_1, 1 - of_0 - of_1], atol=1e-4)
    np.testing.assert_allclose([found[key] for key in ("plain", "region", "pixel")], [5 / 8, 3 / 16, 3 / 16], atol=1e-4)
    assert mixture.shares(_phased(), pairs=400)["plain"] == 1.0


def test_schedule_depends_on_the_seed_alone():
    schedules = [_schedule(seed=0), _schedule(seed=0), _schedule(seed=1)]
    schedules[1][0]
    far = 2 * 10**9
    samples = [[schedule[far + i] for i in range(200)] for schedule in schedules]
    assert samples[0] == samples[1] != samples[2]


@pytest.mark.parametrize(
    ("r_y", "r_x", "lam", "expected"),
    [
        (10.9, 20.2, 0.75, (10, 20, 30, 50)),  # sides 40 / 2 and 60 / 2
        (35.0, 59.99, 0.75, (35, 59, 40, 60)),  # clipped below and to the right
        (0.0, 0.0, 0.0, (0, 0, 40, 60)),
        (7.0, 8.0, 1.0, (7, 8, 7, 8)),  # empty
        (0.0, 0.0, 0.5, (0, 0, 28, 42)),  # 40 sqrt(1/2) = 28.28, 60 sqrt(1/2) = 42.43
    ],
)
def test_region_box_by_hand(r_y, r_x, lam, expected):
    assert mixture.region_box(r_y, r_x, lam, (40, 60)) == expected


def test_pair_mixing():
    schedule = _schedule()
    drawn = [mixture.pair_mixing(schedule, j, (40, 60), 1.0, seed=5) for j in range(4000)]
    assert drawn[:50] == [mixture.pair_mixing(schedule, j, (40, 60), 1.0, seed=5) for j in range(50)]
    assert drawn != [mixture.pair_mixing(schedule, j, (40, 60), 1.0, seed=6) for j in range(4000)]
    for kind, lam, box in drawn:
        if kind == mixing.PLAIN:
            assert lam == 1.0
        if kind != mixing.REGION:
            assert box == (0, 0, 0, 0)
        assert 0 <= box[0] <= box[2] <= 40 and 0 <= box[1] <= box[3] <= 60
    lams = np.array([lam for kind, lam, _ in drawn if kind != mixing.PLAIN])
    assert abs(lams.mean() - 1 / 2) < 0.03 and abs(lams.var() - 1 / 12) < 0.01  # Beta(1, 1) is uniform
    starts = np.array([box[:2] for kind, _, box in drawn if kind == mixing.REGION])
    np.testing.assert_allclose(starts.mean(0), [19.5, 29.5], atol=2.0)


def test_both_sides_of_beta_and_boxes_of_the_partners_share():
    """Beta(b, b) has the variance 1 / (8 b + 4). The box is what the member itself does not have."""
    schedule = _schedule()
    drawn = [mixture.pair_mixing(schedule, j, (40, 60), 0.25, seed=5) for j in range(4000)]
    lams = np.array([lam for kind, lam, _ in drawn if kind != mixing.PLAIN])
    assert abs(lams.mean() - 1 / 2) < 0.03 and abs(lams.var() - 1 / 6) < 0.01
    inside = [(lam, box) for kind, lam, box in drawn if kind == mixing.REGION and box.y1 < 40 and box.x1 < 60]
    assert len(inside) > 100
    for lam, box in inside:
        assert (box.y1 - box.y0, box.x1 - box.x0) == (int(40 * np.sqrt(1 - lam)), int(60 * np.sqrt(1 - lam)))
