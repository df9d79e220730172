"""Forms of annotations: the masks that they give, compared with masks that were drawn by other code."""

import base64
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mdp_jax.data import images
from mdp_jax.data.imported import shapes, splitting
from mdp_jax.data.imported.form import IGNORED, Options, Photo, fitted
from mdp_jax.data.imported.naming import read
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.registry import FORMS
from mdp_jax.errors import UserError
from tests.data import annotated
from tests.data.annotated import SIZE, rectangle, region, write_json, write_photos


def opened(root: pathlib.Path, form: str, **options):
    return FORMS[form].open(Place(str(root)), Options(**options))


def drawn(found) -> dict[str, np.ndarray]:
    return {one.name: one.draw(Photo(one.photo, *SIZE, 1)).ids for one in found.labelled}


def notes(found) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in found.labelled:
        for what, count in one.draw(Photo(one.photo, *SIZE, 1)).notes.items():
            counts[what] = counts.get(what, 0) + count
    return counts


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


MAKERS = {
    "coco": lambda root: annotated.coco(root)[1],
    "panoptic": annotated.panoptic,
    "labelme": annotated.labelme,
    "cvat": annotated.cvat,
    "supervisely": annotated.supervisely,
    "label_studio": annotated.label_studio,
}


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if not form.last])
def test_masks_of_every_form(form, tmp_path):
    expected = MAKERS[form](tmp_path)
    assert [name for name in FORMS if not FORMS[name].last and FORMS[name].recognise(Place(str(tmp_path)))] == [form]
    found = opened(tmp_path, form)
    assert_same(drawn(found), expected)
    assert max(mask[mask < 255].max(initial=0) for mask in expected.values()) < len(found.classes)


def test_coco_is_drawn_as_its_own_tools_draw_it(tmp_path):
    file, _ = annotated.coco(tmp_path)
    found = opened(tmp_path, "coco")
    assert found.classes == ("background", "cat", "Hund", "person")
    theirs = COCO(str(file))
    masks = drawn(found)
    for image in theirs.loadImgs(theirs.getImgIds()):
        rows = [row for row in theirs.loadAnns(theirs.getAnnIds(image["id"])) if row["segmentation"]]
        expected = np.zeros(SIZE, np.uint8)
        for row in sorted(rows, key=lambda row: -row["iscrowd"]):
            expected[theirs.annToMask(row) > 0] = {17: 1, 18: 2, 1: 3}[row["category_id"]]
        np.testing.assert_array_equal(masks[pathlib.PurePath(image["file_name"]).stem], expected)
    assert "annotations with a box and no mask, passed over: 1" in found.notes
    assert notes(found)["photos without a shape"] == 1


def test_random_polygons_as_a_plain_loop_draws_them():
    """Other pixels than those of the loop have their middle within a pixel of the outline."""
    rng = np.random.default_rng(3)
    for _ in range(25):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        middle, reach = rng.uniform(-4, 34, 2), rng.uniform(3, 16, (7, 1))
        corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
        found = shapes.polygon("a", [corners], "x", SIZE).draw(*SIZE)
        expected = annotated.naive_polygon(corners)
        for row, column in np.argwhere(found != expected):
            point, ends = np.array([column + 0.5, row + 0.5]), np.roll(corners, -1, axis=0)
            along = np.clip(np.sum((point - corners) * (ends - corners), 1) / np.sum((ends - corners) ** 2, 1), 0, 1)
            assert np.linalg.norm(corners + along[:, None] * (ends - corners) - point, axis=1).min() < 1


def _two(tmp_path, first, second, names=("a", "b")):
    write_photos(tmp_path, ["p.jpg"])
    rows = [
        {"id": number, "image_id": 1, "category_id": number, "segmentation": [corners]}
        for number, corners in enumerate((first, second), start=1)
    ]
    image = {"id": 1, "file_name": "p.jpg", "height": SIZE[0], "width": SIZE[1]}
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return write_json(tmp_path / "x.json", {"images": [image], "annotations": rows, "categories": categories})


@pytest.mark.parametrize("overlap", ["later", "smaller", "ignore"])
def test_overlapping_shapes(tmp_path, overlap):
    _two(tmp_path, rectangle(2, 2, 8, 8), rectangle(4, 4, 30, 20))
    found = opened(tmp_path, "coco", overlap=overlap)
    expected = np.zeros(SIZE, np.uint8)
    expected[region(2, 2, 8, 8)] = 1
    expected[region(4, 4, 30, 20)] = 2
    both = region(4, 4, 8, 8)
    expected[both] = {"later": 2, "smaller": 1, "ignore": 255}[overlap]
    np.testing.assert_array_equal(drawn(found)["p"], expected)
    assert notes(found) == {"pixels that shapes of two classes cover": both.sum()}


def test_shapes_beyond_the_photo(tmp_path):
    _two(tmp_path, rectangle(-6, 2, 8, 30), rectangle(40, 2, 50, 8))
    found = opened(tmp_path, "coco")
    np.testing.assert_array_equal(drawn(found)["p"], region(0, 2, 8, 24).astype(np.uint8))
    assert notes(found) == {
        "shapes that reach beyond their photos, cut at the border": 1,
        "shapes outside of their photos, passed over": 1,
    }
    _two(tmp_path, rectangle(0, 0, 8000, 3), rectangle(0, 0, 1, 1))
    with pytest.raises(
        UserError, match=r"x\.json: annotations\[0\]: a corner at x=8000, y=\d, far outside of a photo of"
    ):
        drawn(opened(tmp_path, "coco"))


def test_labels_become_classes(tmp_path):
    _two(tmp_path, rectangle(0, 0, 8, 8), rectangle(10, 10, 20, 20), ("truck", "car"))
    merged = opened(tmp_path, "coco", naming=read(["car=vehicle", "truck=vehicle"]), background="road")
    assert merged.classes == ("road", "vehicle") and np.unique(drawn(merged)["p"]).tolist() == [0, 1]
    ignored = opened(tmp_path, "coco", naming=read([f"truck={IGNORED}"]), background=IGNORED)
    assert ignored.classes == ("car",) and np.unique(drawn(ignored)["p"]).tolist() == [0, 255]
    first = opened(tmp_path, "coco", naming=read(["car=auto", "truck=background"]))
    assert first.classes == ("auto", "background")
    with pytest.raises(UserError, match=r"--classes bus=vehicle: no such label in .*; its labels are truck, car$"):
        opened(tmp_path, "coco", naming=read(["bus=vehicle"]))


def test_a_label_background_and_what_the_user_says_of_it(tmp_path):
    _two(tmp_path, rectangle(0, 0, 8, 8), rectangle(10, 10, 20, 20), ("background", "car"))
    by_name = np.zeros(SIZE, np.uint8)
    by_name[region(10, 10, 20, 20)] = 1
    found = opened(tmp_path, "coco")
    assert found.classes == ("background", "car")
    np.testing.assert_array_equal(drawn(found)["p"], by_name)
    ignored = np.full(SIZE, 255, np.uint8)
    ignored[region(0, 0, 8, 8)], ignored[region(10, 10, 20, 20)] = 0, 1
    found = opened(tmp_path, "coco", background=IGNORED)
    assert found.classes == ("background", "car")
    np.testing.assert_array_equal(drawn(found)["p"], ignored)
    other = opened(tmp_path, "coco", background="unclear")
    assert other.classes == ("unclear", "background", "car")
    np.testing.assert_array_equal(drawn(other)["p"], np.where(ignored == 255, 0, ignored + 1))


def test_labels_that_look_the_same_are_one_class(tmp_path):
    one, other = "M\u00f6bel", "Mo\u0308bel"
    _two(tmp_path, rectangle(0, 0, 8, 8), rectangle(10, 10, 20, 20), (other, one))
    found = opened(tmp_path, "coco")
    assert found.classes == ("background", one) and np.unique(drawn(found)["p"]).tolist() == [0, 1]
    named = opened(tmp_path, "coco", naming=read([f"{one}=chair"]))
    assert named.classes == ("background", "chair") and np.unique(drawn(named)["p"]).tolist() == [0, 1]


def test_photos_in_other_folders_than_the_annotations_name(tmp_path):
    """A photo was removed, and another folder has one of its name."""
    write_photos(tmp_path, ["a/2.jpg", "b/1.jpg", "b/3.jpg"])
    shape = {"label": "cat", "points": [[0, 0], [8, 0], [8, 8]], "shape_type": "polygon"}
    for name in ("a/1", "a/2", "b/3"):
        value = {"shapes": [shape], "imagePath": f"{name[2:]}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        write_json(tmp_path / f"{name}.json", value)
    assert opened(tmp_path, "labelme").notes == [
        "photos found by their names alone, in other folders than those of the annotations: 1 "
        f"({tmp_path / 'a' / '1.json'} describes 1.jpg, and b/1.jpg was taken)"
    ]
    write_photos(tmp_path, ["a/1.jpg"])
    assert opened(tmp_path, "labelme").notes == [
        f"passed over: 1 photo without an annotation ({tmp_path / 'b' / '1.jpg'})"
    ]


def test_folders_that_no_photo_is_in(tmp_path):
    annotated.coco(tmp_path)
    for folder, count in (("", 0), ("images/", 0), ("other/", 1)):
        _changed(lambda v, folder=folder: v["images"][1].update(file_name=f"{folder}b.jpg"))(tmp_path)
        notes_of = opened(tmp_path, "coco").notes
        assert sum("describes other/b.jpg, and images/b.jpg was taken" in note for note in notes_of) == count
        assert sum("found by their names alone" in note for note in notes_of) == count


def test_names_in_lists_with_folders():
    photos = [("cam1/001", "set/photos/cam1/001.jpg"), ("cam2/001", "set/photos/cam2/001.jpg"), ("7", "set/a/7.jpg")]
    lists = {"train": ["photos/cam1/001.png", "/home/me/set/photos/cam2/001.jpg"], "val": ["images/7.jpg"]}
    assert splitting.by_lists(lists, photos, False) == (["train", "train", "val"], [])
    lists = {"train": ["cam3/001.jpg"], "val": ["7"]}
    splits, said = splitting.by_lists(lists, [photos[0], photos[2]], False)
    assert splits == ["train", "val"]
    assert said == [
        "names of --split with other folders than their photos: 1 (cam3/001.jpg was taken for set/photos/cam1/001.jpg)"
    ]


def test_what_no_segment_of_a_panoptic_set_covers(tmp_path):
    expected = annotated.panoptic(tmp_path)
    named = opened(tmp_path, "panoptic", background="unclear")
    assert named.classes == ("unclear", "sky", "cat")
    assert_same(drawn(named), {name: np.where(ids == 255, 0, ids + 1) for name, ids in expected.items()})
    file = tmp_path / "annotations" / "panoptic_train2017.json"
    file.write_text(file.read_text().replace('"sky"', '"background"'))
    found = opened(tmp_path, "panoptic")
    assert found.classes == ("background", "cat")
    assert_same(drawn(found), expected)


@pytest.mark.parametrize(
    ("form", "names", "ids", "new"),
    [("coco", ("Hund", "cat"), "17 and 18", [0, 1, 1, 2]), ("panoptic", ("cat", "sky"), "187 and 17", [0, 0])],
)
def test_categories_of_one_name_are_said_to_be_one_class(form, names, ids, new, tmp_path):
    expected = MAKERS[form](tmp_path)
    (file,) = (tmp_path / "annotations").glob("*.json")
    file.write_text(file.read_text(encoding="utf-8").replace(*(f'"{name}"' for name in names)), encoding="utf-8")
    found = opened(tmp_path, form)
    assert found.notes[0] == (f"one class for the categories {ids}, as they have the same name {names[1]!r} ({file})")
    table = np.full(256, 255, np.uint8)
    table[: len(new)] = new
    assert_same(drawn(found), {name: table[mask] for name, mask in expected.items()})


def _changed(change, name="annotations/instances.json"):
    def spoil(root):
        file = root / name
        value = json.loads(file.read_text())
        change(value)
        file.write_text(json.dumps(value))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_changed(lambda v: v["annotations"][0].pop("image_id")), r"annotations\[0\] has no 'image_id'"),
        (
            _changed(lambda v: v["annotations"][0].update(image_id=99)),
            r"image_id is 99; expected the id of one of the file's images",
        ),
        (
            _changed(lambda v: v["annotations"][2].update(category_id=5)),
            r"category_id is 5; expected the id of one of the file's categories",
        ),
        (_changed(lambda v: v["images"][1].update(id=7)), r"images\[1\] has the id 7, as another one has"),
        (_changed(lambda v: v["images"][0].update(height="24")), r"image 7: height is '24'; expected a whole number"),
        (_changed(lambda v: v["annotations"][0].update(segmentation=[[1, 2, "x", 4, 5, 6]])), r"corners \[1, 2, 'x'"),
        (
            _changed(lambda v: v["annotations"][0].update(segmentation=[[[1, 2, 3], [4, 5, 6]]])),
            r"corners \[\[1, 2, 3\]",
        ),
        (_changed(lambda v: v["annotations"][1]["segmentation"].update(size=7)), r"runs of size 7"),
        (_changed(lambda v: v["annotations"].append(7)), r"annotations\[5\] has no 'image_id'"),
        (_changed(lambda v: v["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5]])), r"corners \[1, 2, 3, 4, 5\]"),
        (
            _changed(lambda v: v["annotations"][1]["segmentation"].update(counts=[5, 7])),
            r"the runs do not cover 768 pixels",
        ),
        (_changed(lambda v: v["annotations"][1]["segmentation"].update(size=[5, 7])), r"runs of size \[5, 7\]"),
        (
            _changed(lambda v: v["annotations"][1]["segmentation"].update(counts="0P1ooooo")),
            r"the runs do not cover 768",
        ),
        (
            _changed(lambda v: v["images"][0].update(file_name="gone.jpg")),
            r"describes gone\.jpg, which is not in .*--images",
        ),
        (
            _changed(lambda v: v["images"][0].update(height=48, width=64)),
            r"has 48 x 64 pixels .* and its photo .* has 24 x 32",
        ),
        (
            _changed(lambda v: [row.update(segmentation=[]) for row in v["annotations"]]),
            r"5 boxes and no mask: a set for detection",
        ),
    ],
)
def test_wrong_coco(tmp_path, spoil, said):
    annotated.coco(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        drawn(opened(tmp_path, "coco"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "file", "old", "new", "said"),
    [
        ("labelme", "a.json", '"points"', '"corners"', r"a\.json: shapes\[0\] has no 'points'"),
        (
            "labelme",
            "straße/b.json",
            '"mask": "',
            '"mask": "%',
            r"its mask cannot be read; expected a grey PNG in base64",
        ),
        ("cvat", "annotations.xml", "</annotations>", "", r"not valid XML"),
        ("cvat", "annotations.xml", "<annotations>", "<!DOCTYPE a><annotations>", r"has a document type"),
        ("cvat", "annotations.xml", 'rle="1, 4, 1"', 'rle="1, 4, 2"', r"its runs are not 3 x 2 pixels in all"),
        ("cvat", "annotations.xml", 'xtl="4.0"', 'xtl="four"', r"image feld/b\.jpg: <box> 1: xtl is 'four'"),
        ("cvat", "annotations.xml", 'z_order="0"', f'z_order="{9**400}"', r"z_order is '\d+; expected a number"),
        ("cvat", "annotations.xml", 'width="32"', 'width="nan"', r"width is 'nan'; expected a number"),
        (
            "cvat",
            "annotations.xml",
            "<annotations>",
            "<?xml version='1.0' encoding='gbk'?><annotations>",
            "not valid XML",
        ),
        (
            "cvat",
            "annotations.xml",
            "<annotations>",
            "<?xml version='1.0' encoding='mine'?><annotations>",
            "not valid XML",
        ),
        ("cvat", "annotations.xml", "2.00,3.00;", "2.00;", r"<polygon> 1: corners"),
        ("supervisely", "ds1/ann/b.jpg.json", '"door"', '"window"', r"classTitle is 'window', which meta\.json lacks"),
        ("supervisely", "ds1/ann/b.jpg.json", '"data": "', '"data": "!', r"its bitmap cannot be read"),
        ("label_studio", "project-1.json", '"rle": [0', '"rle": [1', r"runs of \d+ values; expected 3072, RGBA"),
        (
            "label_studio",
            "project-1.json",
            '"original_height": 24',
            '"original_height": null',
            "original_height is None",
        ),
    ],
)
def test_wrong_annotations(tmp_path, form, file, old, new, said):
    MAKERS[form](tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=said) as error:
        drawn(opened(tmp_path, form))
    assert file.split("/")[-1] in str(error.value)


@pytest.mark.parametrize(
    ("form", "file", "old", "new"),
    [
        ("cvat", "annotations.xml", "<color>#00ff00</color>", "<color>#zzzzzz</color>"),
        ("supervisely", "meta.json", '"color": "#', '"color": "#z'),
    ],
)
def test_colours_that_are_none(tmp_path, form, file, old, new):
    MAKERS[form](tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    assert opened(tmp_path, form).palette is None


def test_names_of_photos_that_look_like_an_address(tmp_path):
    annotated.label_studio(tmp_path)
    tasks = json.loads((tmp_path / "project-1.json").read_text())
    tasks[0]["data"]["image"] = "http://[a.jpg"
    write_json(tmp_path / "project-1.json", tasks)
    with pytest.raises(UserError, match=r"describes http://\[a\.jpg, which is not in"):
        opened(tmp_path, "label_studio")


def test_bitmaps_beyond_the_photo():
    for left, top in ((0, 6), (-8, 0), (40, 40), (0, -9), (2, 2)):
        found = shapes.bitmap("a", np.ones((9, 8), bool), left, top).draw(4, 5)
        np.testing.assert_array_equal(found, region(left, top, left + 8, top + 9, (4, 5)))


def test_names_that_no_file_can_hold(tmp_path):
    annotated.coco(tmp_path)
    _changed(lambda v: v["categories"][0].update(name="half \ud83d"))(tmp_path)
    with pytest.raises(UserError, match=r"a class is called 'half \\ud83d'; expected a name that UTF-8 can hold"):
        opened(tmp_path, "coco")


def test_names_of_two_lines(tmp_path):
    """Each would be two lines of classes.txt, so that all ids behind it would move."""
    annotated.coco(tmp_path)
    with pytest.raises(UserError, match=r"the name 'a\\nb'; expected the name of a class, in one line"):
        opened(tmp_path, "coco", background="a\nb")
    assert read(["7=a\nb"]).names() == {"7": "a b"}


def test_a_mask_of_three_channels(tmp_path):
    annotated.labelme(tmp_path)
    file = next(file for file in tmp_path.rglob("*.json") if '"mask": "' in file.read_text())
    value = json.loads(file.read_text())
    shape = next(shape for shape in value["shapes"] if shape.get("mask"))
    shape["mask"] = base64.b64encode(cv2.imencode(".png", np.ones((3, 3, 3), np.uint8))[1].tobytes()).decode()
    write_json(file, value)
    with pytest.raises(UserError, match="its mask cannot be read; expected a grey PNG"):
        drawn(opened(tmp_path, "labelme"))


def test_runs_that_break_off(tmp_path):
    annotated.label_studio(tmp_path)
    tasks = json.loads((tmp_path / "project-1.json").read_text())
    value = tasks[0]["annotations"][0]["result"][0]["value"]
    value["rle"] = value["rle"][: len(value["rle"]) // 2]
    write_json(tmp_path / "project-1.json", tasks)
    with pytest.raises(UserError, match="task 1: result\\[0\\]: its rle is damaged"):
        drawn(opened(tmp_path, "label_studio"))


def test_photos_of_one_name_in_two_folders(tmp_path):
    annotated.coco(tmp_path)
    write_photos(tmp_path / "other", ["b.jpg"])
    with pytest.raises(UserError, match=r"b\.jpg: .*images/b\.jpg and .*other/b\.jpg have this name.*--images"):
        opened(tmp_path, "coco")
    assert len(opened(tmp_path, "coco", images="images").labelled) == 3


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_that_were_drawn_on_photos_as_they_are_stored(tmp_path, orientation, suffix):
    """A photo that stands upright by its EXIF orientation; the polygon is on the pixels as they are in the file."""
    stored = np.zeros((*SIZE, 3), np.uint8)
    stored[3:9, 4:20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    said = {"tiffinfo": {0x0112: orientation}} if suffix == ".tif" else {"exif": exif, "lossless": True}
    Image.fromarray(stored).save(tmp_path / f"p{suffix}", **said)
    _two(tmp_path, rectangle(4, 3, 20, 9), rectangle(30, 20, 31, 21))
    value = json.loads((tmp_path / "x.json").read_text())
    value["images"][0]["file_name"] = f"p{suffix}"
    write_json(tmp_path / "x.json", value)
    (tmp_path / "p.jpg").unlink()
    (one,) = opened(tmp_path, "coco").labelled
    seen = images.read_photo(tmp_path / f"p{suffix}")
    ids = one.draw(Photo(one.photo, *seen.shape[:2], images.orientation(one.photo))).ids
    np.testing.assert_array_equal(ids == 1, seen[..., 0] > 0)


def test_the_list_of_forms_is_whole_and_costs_no_import():
    folder = pathlib.Path(shapes.__file__).parent
    made = {file.stem for file in folder.glob("*.py") if "\nFORM = " in file.read_text()}
    assert made == set(FORMS) and all(form.summary and form.signs for form in FORMS.values())
    code = "import sys; from mdp_jax.data.imported.registry import FORMS; list(FORMS); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cv2", "numpy", "jax", "pycocotools"} & set(loaded)


def test_one_polygon_without_a_list_around_it_and_labels_of_odd_letters(tmp_path):
    _two(tmp_path, rectangle(2, 2, 8, 8), rectangle(10, 4, 30, 20), ("two\n words ", "b"))
    _changed(lambda v: v["annotations"][0].update(segmentation=rectangle(2, 2, 8, 8)), "x.json")(tmp_path)
    found = opened(tmp_path, "coco")
    assert found.classes == ("background", "two words", "b")
    np.testing.assert_array_equal(drawn(found)["p"] == 1, region(2, 2, 8, 8))
    _changed(lambda v: v["categories"][0].update(name=" "), "x.json")(tmp_path)
    with pytest.raises(UserError, match="a label without a name"):
        opened(tmp_path, "coco")


def test_colours_of_the_tool_become_the_palette(tmp_path):
    annotated.cvat(tmp_path)
    np.testing.assert_array_equal(opened(tmp_path, "cvat").palette, [[0, 0, 0], [0, 255, 0], [255, 0, 0]])


def test_panoptic_photos_of_the_names_of_the_masks(tmp_path):
    expected = annotated.panoptic(tmp_path)
    for name in expected:
        (tmp_path / "photos" / f"{name}.jpg").unlink()
        Image.fromarray(annotated.photo(1)).save(tmp_path / "photos" / f"{name}.png")
    file = tmp_path / "annotations" / "panoptic_train2017.json"
    file.write_text(file.read_text().replace(".jpg", ".png"))
    found = opened(tmp_path, "panoptic")
    assert_same(drawn(found), expected)
    assert found.notes == [] and len(found.files) == 2


def _nodes(value, path=()):
    """The paths of a JSON value's parts; of lists the first three."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _nodes(part, (*path, key))


def _with(value, path, new):
    if not path:
        return new
    changed = json.loads(json.dumps(value))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return changed


@pytest.mark.parametrize("form", [form for form in MAKERS if form != "cvat"])
def test_any_other_value_in_a_json_is_one_line(tmp_path, form):
    MAKERS[form](tmp_path)
    rng, refused = np.random.default_rng(7), 0
    for file in sorted(tmp_path.rglob("*.json")):
        value = json.loads(file.read_text(encoding="utf-8"))
        paths = list(_nodes(value))
        for number in rng.permutation(len(paths))[:40]:
            for new in (None, "x", [], {}, 10**18):
                write_json(file, _with(value, paths[number], new))
                try:
                    drawn(opened(tmp_path, form))
                except UserError as error:
                    refused += 1
                    assert "\n" not in str(error)
        write_json(file, value)
    assert refused > 20


def test_a_square_mask_is_of_the_photo_as_people_see_it():
    mask = np.arange(9, dtype=np.uint8).reshape(3, 3)
    assert fitted(mask, Photo("p.jpg", 3, 3, 6), "m.png", "it").ids is mask


@pytest.mark.parametrize(
    ("size", "orientation", "count"), [((3, 3), 6, 1), ((3, 4), 3, 1), ((3, 4), 1, 0), ((3, 4), 6, 0)]
)
def test_orientations_that_leave_the_size_as_it_is_are_said(size, orientation, count):
    mask = np.zeros(size, np.uint8)
    found = fitted(mask, Photo("p.jpg", *size, orientation), "m.png", "it")
    assert sum(found.notes.values()) == count and found.ids is mask
