import os

import pytest

from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError


def test_files_by_name_without_suffix(tmp_path):
    for name in (
        "b_leftImg8bit.png",
        "a_LEFTIMG8BIT.PNG",
        "c_leftImg8bit.jpg",
        "._b_leftImg8bit.png",
        "d.png",
        "notes",
    ):
        (tmp_path / name).write_bytes(b"")
    found = listing.files(tmp_path, ("_leftImg8bit.png",))
    assert list(found.items()) == [
        ("a", str(tmp_path / "a_LEFTIMG8BIT.PNG")),
        ("b", str(tmp_path / "b_leftImg8bit.png")),
    ]


def test_what_is_found_is_listed_in_short(tmp_path):
    assert listing.found_at(tmp_path / "a" / "b") == f"{tmp_path} holds nothing"
    for i in range(11):
        (tmp_path / f"f{i:02d}").write_bytes(b"")
    shown = "f00, f01, f02, f03, f04, f05, f06, f07 and 3 more"
    assert listing.found_at(tmp_path / "a") == f"{tmp_path} holds {shown}"
    (tmp_path / "file").write_bytes(b"")
    assert listing.found_at(tmp_path / "file" / "x").startswith(str(tmp_path))


def test_pairs_are_in_the_order_of_the_names():
    photos, masks = {"b": "p/b.jpg", "a": "p/a.jpg"}, {"a": "m/a.png", "b": "m/b.png"}
    assert listing.paired(photos, masks, "p/*.jpg", "m/*.png") == [("p/a.jpg", "m/a.png"), ("p/b.jpg", "m/b.png")]
    with pytest.raises(UserError, match=r"^p/b\.jpg has no mask; expected m/b\.png$"):
        listing.paired(photos, {"a": "m/a.png"}, "p/*.jpg", "m/*.png")
    with pytest.raises(UserError, match=r"^m/a\.png has no photo; expected p/a\.jpg; the same holds for 2 of 2 files$"):
        listing.paired({}, masks, "p/*.jpg", "m/*.png")


def test_names_in_two_forms_of_unicode_are_one(tmp_path):
    composed, taken_apart = "caf\u00e9", "cafe\u0301"
    for folder, name in (("p", f"{taken_apart}.jpg"), ("m", f"{composed}.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"")
    photos, masks = listing.files(tmp_path / "p", (".jpg",)), listing.files(tmp_path / "m", (".png",))
    ((photo, mask),) = listing.paired(photos, masks, "p/*.jpg", "m/*.png")
    assert (photo, mask) == (str(tmp_path / "p" / f"{taken_apart}.jpg"), str(tmp_path / "m" / f"{composed}.png"))
    assert listing.listed(tmp_path / "l", [(1, taken_apart)], photos, masks, ("p/*.jpg", "m/*.png")) == [(photo, mask)]


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX alone")
def test_a_name_that_is_no_utf8(tmp_path):
    try:
        open(os.fsencode(tmp_path) + b"/stra\xdfe.png", "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(UserError, match=r"stra\\xdfe\.png': expected a file name in UTF-8$"):
        listing.files(tmp_path, (".png",))


def test_a_folder_in_place_of_a_list(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; expected a text file with names"):
        listing.lines(tmp_path, "names")


def test_windows_list(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa\r\n b \r\n".encode())
    assert listing.lines(tmp_path / "list.txt", "names") == ["a", "b"]
