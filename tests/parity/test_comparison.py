"""How differences become rows: by hand."""

import numpy as np
import pytest

from mdp_jax.parity.comparison import BLOCKS, DTYPES, EACH, ONE, Rule, rows_of


def both(**arrays) -> dict:
    return {dtype: {name.replace("__", "."): np.array(value) for name, value in arrays.items()} for dtype in DTYPES}


def test_a_row_within_and_out_of_tolerance():
    theirs = both(a=[1.0, -4.0])
    ours = {"float32": {"a": np.array([1.0, -4.5])}, "float64": {"a": np.array([1.25, -4.0])}}
    (row,) = rows_of("x", Rule(EACH, 0.125, 0.0625, "why"), ours, theirs)
    assert row.columns() == {
        "what": "x, a",
        "float32 max difference": 0.5,
        "float64 max difference": 0.25,
        "scale": 4.0,
        "float32 tolerance": 0.125,
        "tolerance": 0.0625,
        "ok": True,
        "note": "why",
    }
    assert not rows_of("x", Rule(EACH, 0.124, 0.0625), ours, theirs)[0].ok
    assert not rows_of("x", Rule(EACH, 0.125, 0.0624), ours, theirs)[0].ok


def test_what_is_not_judged_is_ok_unless_it_is_not_finite():
    theirs, ours = both(a=[1.0]), both(a=[9.0])
    ours["float64"] = theirs["float64"]
    assert rows_of("x", Rule(EACH, None, 0.0), ours, theirs)[0].ok
    ours["float32"] = {"a": np.array([np.nan])}
    assert not rows_of("x", Rule(EACH, None, 0.0), ours, theirs)[0].ok


@pytest.mark.parametrize("value, ok", [(0.0, True), (1e-300, False), (np.nan, False)])
def test_a_scale_of_zero_asks_for_zero(value, ok):
    assert rows_of("x", Rule(EACH, 1.0, 1.0), both(a=[value]), both(a=[0.0]))[0].ok == ok


def test_a_row_of_several_names_shows_the_worst_and_answers_for_all():
    theirs = both(a=[1.0], b=[100.0], c=[1.0])
    ours = both(a=[1.0], b=[101.0], c=[1.5])
    (row,) = rows_of("x", Rule(ONE, None, 0.6, own_noise=True), ours, theirs)
    assert (row.what, row.float64, row.scale, row.ok) == ("x", 0.5, 1.0, True)
    assert row.remark == "shown: c, PyTorch's own: 0.0e+00"
    assert not rows_of("x", Rule(ONE, None, 0.4), ours, theirs)[0].ok


def test_blocks_of_the_network():
    names = (
        "backbone__conv1__weight",
        "backbone__bn1__weight",
        "backbone__layer1__0__conv1__weight",
        "backbone__layer1__1__bn2__bias",
        "decoder__aspp_0__conv__weight",
        "projection__conv2__bias",
    )
    arrays = both(**{name: [1.0] for name in names})
    rows = rows_of("x", Rule(BLOCKS, 0.0, 0.0), arrays, arrays)
    blocks = ["backbone stem", "backbone.layer1", "decoder", "projection"]
    assert [row.what for row in rows] == [f"x, {block}" for block in blocks]
    assert len(rows_of("x", Rule(EACH, 0.0, 0.0), arrays, arrays)) == len(names)


def test_different_names_or_shapes_are_refused():
    with pytest.raises(ValueError, match="different things"):
        rows_of("x", Rule(ONE, 1.0, 1.0), both(a=[1.0]), both(b=[1.0]))
    with pytest.raises(ValueError, match="shapes"):
        rows_of("x", Rule(ONE, 1.0, 1.0), both(a=[1.0]), both(a=[[1.0]]))
