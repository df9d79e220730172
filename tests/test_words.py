"""Numbers and lists in the words of a message."""

from mdp_jax.words import counted, some


def test_numbers():
    assert [counted(count, "photo") for count in (0, 1, 2, 1200)] == ["0 photos", "1 photo", "2 photos", "1,200 photos"]
    assert [counted(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]


def test_lists():
    assert some([]) == ""
    assert some(["road"], 2) == "road"
    assert some(["road", "sky"], 2) == "road, sky"
    assert some((name for name in ("road", "sky", "car")), 2) == "road, sky and 1 more"
    assert some(range(2000), 1) == "0 and 1,999 more"
