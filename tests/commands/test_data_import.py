"""mdp data import: whole commands on sets in the forms in which people have them."""

import json
import os
import pathlib
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mdp_jax import cli
from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.imported.registry import FORMS
from mdp_jax.data.kinds import classes
from mdp_jax.data.kinds.folder import FolderSource
from tests.data import annotated
from tests.data.annotated import SIZE, photo, rectangle, region, write_json, write_photos
from tests.data.fixtures import write_jpeg, write_png
from tests.data.test_imported import MAKERS

COLOURS = np.uint8([[0, 0, 0], [0, 255, 0], [255, 0, 0]])  # soil, crop, weed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    """Exit status, stdout and the line of the error."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "import", *map(str, arguments)])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("mdp: ")]
    assert "Traceback" not in err
    return exit_.value.code, out, lines[-1].removeprefix("mdp: ") if lines else ""


def check(capsys, root="out"):
    """`mdp data check` is happy."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "check", root, "--data_dir", "."])
    capsys.readouterr()
    return exit_.value.code


def labels(root="out") -> dict[str, np.ndarray]:
    """Name without suffix -> label, of both splits, as training reads them."""
    found = {}
    for split in ("train", "val"):
        source = FolderSource(base.folder("out", root), ".", split)
        for i in range(len(source)):
            found[os.path.splitext(source.describe(i))[0].replace(os.sep, "/")] = source[i]["label"]
    return found


def split_of(root="out") -> dict[str, str]:
    rows = json.loads((pathlib.Path(root) / "import.json").read_text())["photos"]
    return {row["name"]: row["split"] for row in rows}


def field(root="field", photos=8) -> dict[str, np.ndarray]:
    """A set as its authors publish it: RGB masks, other names than the photos', other masks beside them, a YAML."""
    root, ids = pathlib.Path(root), {}
    for folder in ("images", "annotations", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(1, photos + 1):
        name = f"{number:03d}"
        mask = np.zeros(SIZE, np.uint8)
        mask[region(3, 3, 10 + number, 12)] = 1
        mask[region(20, 8, 30, 14 + number % 4)] = 2
        write_png(root / f"images/{name}_image.png", photo(number))
        write_png(root / f"annotations/{name}_annotation.png", COLOURS[mask][..., ::-1])
        write_png(root / f"masks/{name}_mask.png", 255 * (mask > 0))
        ids[name] = mask
    numbers = ", ".join(map(str, range(1, photos + 1)))
    train = ", ".join(numbers.split(", ")[2:])
    (root / "train_test_split.yaml").write_text(f"test: [1, 2]\ntrain: [{train}]\n")
    return ids


FIELD = (
    "field",
    "--out",
    "out",
    "--masks",
    "annotations/{name}_annotation.png",
    "--split",
    "field/train_test_split.yaml",
)
MAP = ("--classes", "#000000=soil", "#00ff00=crop", "#ff0000=weed")


def assert_labels(expected: dict[str, np.ndarray]) -> None:
    found = labels()
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], np.where(mask == 255, -1, mask.astype(int)), err_msg=name)


def test_a_field_set_as_its_authors_publish_it(capsys):
    ids = field()
    status, out, _ = run(capsys, *FIELD, *MAP)
    assert status == 0
    assert_labels(ids)
    assert {name for name, split in split_of().items() if split == "val"} == {"001", "002"}
    source = FolderSource(base.folder("out", "out"), ".", "val")
    assert source.classes == ("soil", "crop", "weed")
    np.testing.assert_array_equal(source.palette, COLOURS)
    np.testing.assert_array_equal(source[0]["image"], images.read_photo("field/images/001_image.png"))
    assert "note: images/001_image.png has the mask annotations/001_annotation.png, and so on" in out
    assert "note: passed over: 8 other images (field/masks/001_mask.png and 7 more)" in out
    assert "note: test photos of the source are the val photos here" in out
    assert "mdp data check out --data_dir ." in out
    assert check(capsys) == 0


def test_colours_that_nobody_named_are_shown_and_written_as_a_draft(capsys):
    ids = field(photos=3)
    status, out, said = run(capsys, *FIELD[:-2])
    assert status == 2 and not pathlib.Path("out").exists()
    share = 100 * np.mean([ids[name] == 2 for name in ids])
    largest = max(ids, key=lambda name: np.mean(ids[name] == 2))
    row = next(line.split() for line in out.splitlines() if "#ff0000" in line)
    assert row == ["#ff0000", "class_ff0000", f"{share:.2f}", "3", f"field/annotations/{largest}_annotation.png"]
    assert "out_classes.txt is a draft of them" in said and "--classes out_classes.txt" in said and "--yes" in said
    draft = pathlib.Path("out_classes.txt")
    assert draft.read_text() == "#000000 background\n#00ff00 class_00ff00\n#ff0000 class_ff0000\n"
    draft.write_text("#000000 soil\n#00ff00 crop\n#ff0000 ignore\n")
    assert run(capsys, *FIELD[:-2])[2].count("is there already and is kept") == 1
    assert run(capsys, *FIELD[:-2], "--classes", draft)[0] == 0
    assert_labels({name: np.where(mask == 2, 255, mask) for name, mask in ids.items()})
    shutil.rmtree("out")
    assert run(capsys, *FIELD[:-2], "--yes")[0] == 0
    assert pathlib.Path("out/classes.txt").read_text() == "background\nclass_00ff00\nclass_ff0000\n"


@pytest.mark.parametrize(
    "text",
    [
        "0 0 0\tsoil\n0 255 0\tcrop\n255 0 0\tweed\n",  # CamVid's label_colors.txt
        "name,r,g,b\nsoil,0,0,0\ncrop,0,255,0\nweed,255,0,0\n",
        "# label:color_rgb:parts:actions\nsoil:0,0,0::\ncrop:0,255,0::\nweed:255,0,0::\n",  # CVAT's labelmap.txt
        "#000000 soil\n#00FF00 crop\n\n#ff0000,weed\n",
    ],
)
def test_files_of_colours_as_people_have_them(capsys, text):
    ids = field(photos=3)
    pathlib.Path("colours.txt").write_text(text)
    assert run(capsys, *FIELD[:-2], "--classes", "colours.txt")[0] == 0
    assert_labels(ids)
    assert pathlib.Path("out/classes.txt").read_text() == "soil\ncrop\nweed\n"


def pictures(masks: dict[str, np.ndarray], place="set/labels/{}.png", photo_place="set/images/{}.jpg") -> None:
    """Photos, and masks as they are given: a NumPy array, or what has `save`."""
    for seed, (name, mask) in enumerate(masks.items()):
        for path in (pathlib.Path(photo_place.format(name)), pathlib.Path(place.format(name))):
            path.parent.mkdir(parents=True, exist_ok=True)
        size = mask.shape[:2] if isinstance(mask, np.ndarray) else mask.size[::-1]
        path = pathlib.Path(photo_place.format(name))
        path.write_bytes(cv2.imencode(path.suffix, photo(seed, size))[1].tobytes())
        if isinstance(mask, np.ndarray):
            path = pathlib.Path(place.format(name))
            path.write_bytes(cv2.imencode(path.suffix, mask)[1].tobytes())
        else:
            mask.save(place.format(name))


def four(make) -> tuple[dict, dict[str, np.ndarray]]:
    """Four masks of ids 0, 1 and 2 as `make` stores them; and the ids."""
    ids = {f"p{i}": np.random.default_rng(i).integers(0, 3, SIZE).astype(np.uint8) for i in range(4)}
    return {name: make(mask) for name, mask in ids.items()}, ids


def palette_png(mask: np.ndarray, colours) -> Image.Image:
    picture = Image.fromarray(mask)
    picture.putpalette(np.uint8(colours).ravel().tolist())
    return picture


VOC = classes.colours("voc")
STORED = {
    "values": (lambda m: np.uint8([10, 20, 255])[m], ("--classes", "10=a", "20=b", "255=c")),
    "16 bits": (lambda m: np.uint16([0, 1000, 40000])[m], ("--classes", "0=a", "1000=b", "40000=c")),
    "greys as colours": (
        lambda m: np.repeat(np.uint8([0, 7, 9])[m][..., None], 3, 2),
        ("--classes", "0=a", "7=b", "9=c"),
    ),
    "indices of a palette": (lambda m: palette_png(m, VOC[::-1]), ("--classes", "0=a", "1=b", "2=c")),
    "colours of a palette": (lambda m: palette_png(m, COLOURS), ("--classes", "#000000=a", "#00ff00=b", "#ff0000=c")),
    "transparent colours": (
        lambda m: np.dstack([COLOURS[m][..., ::-1], 255 * (m > 0).astype(np.uint8)]),
        ("--classes", "#000000=a", "#00ff00=b", "#ff0000=c"),
    ),
}


@pytest.mark.parametrize("form", STORED)
def test_masks_as_they_are_stored(capsys, form):
    make, arguments = STORED[form]
    masks, ids = four(make)
    pictures(masks)
    assert run(capsys, "set", "--out", "out", *arguments)[0] == 0
    assert_labels(ids)


def test_a_published_palette(capsys):
    masks, ids = four(lambda m: palette_png(np.uint8([0, 3, 15])[m], VOC))
    pictures(masks)
    assert run(capsys, "set", "--out", "out", "--palette", "voc")[0] == 0
    assert_labels({name: np.uint8([0, 3, 15])[mask] for name, mask in ids.items()})
    assert pathlib.Path("out/classes.txt").read_text().splitlines()[15] == "person"
    status, _, said = run(capsys, "set", "--out", "other", "--palette", "vok")
    assert status == 2 and "--palette vok: expected one of ade20k," in said


def test_palettes_that_number_the_colours_anew_in_each_file(capsys):
    """As a program writes them that saves colours with a palette of the colours in use, in the order of its choice."""
    orders = {"p0": [0, 1, 2], "p1": [2, 0, 1], "p2": [0, 2, 1], "p3": [1, 0, 2]}  # index -> id
    ids = four(np.asarray)[1]
    pictures(
        {
            name: palette_png(np.argsort(orders[name])[mask].astype(np.uint8), COLOURS[orders[name]])
            for name, mask in ids.items()
        }
    )
    status, _, said = run(capsys, "set", "--out", "out", "--yes")
    assert status == 2 and not pathlib.Path("out").exists()
    assert "palettes differ: value 0 is #000000 in set/labels/p0.png and #ff0000 in set/labels/p1.png; expected" in said
    assert run(capsys, "set", "--out", "out", "--classes", "#000000=a", "#00ff00=b", "#ff0000=c")[0] == 0
    assert_labels(ids)
    shutil.rmtree("out")
    status, out, _ = run(capsys, "set", "--out", "out", "--classes", "0=a", "1=b", "2=c")
    assert status == 0 and "note: palettes differ: value 0 is #000000 in set/labels/p0.png and #ff0000" in out
    assert_labels({name: np.argsort(orders[name])[mask] for name, mask in ids.items()})


def test_a_colour_of_two_classes_of_a_published_set(capsys):
    names, colours = classes.released("ade20k").names, classes.colours("ade20k")
    road, tower, sky = names.index("road"), names.index("skyscraper"), names.index("sky")
    assert colours[road].tolist() == colours[tower].tolist() != colours[sky].tolist()
    masks, ids = four(lambda m: colours[[sky, road, tower]][m][..., ::-1])
    pictures(masks)
    status, _, said = run(capsys, "set", "--out", "out", "--palette", "ade20k")
    assert status == 2 and "the colour of road and of skyscraper in --palette ade20k" in said
    assert run(capsys, "set", "--out", "out", "--palette", "ade20k", "--others", "ignore")[0] == 0
    assert pathlib.Path("out/classes.txt").read_text() == "".join(f"{name}\n" for name in names)
    assert_labels({name: np.where(mask == 0, sky, 255) for name, mask in ids.items()})


def test_masks_of_one_class(capsys):
    masks, ids = four(lambda m: 255 * (m > 0).astype(np.uint8))
    pictures(masks)
    assert run(capsys, "set", "--out", "out", "--yes")[0] == 0
    assert pathlib.Path("out/classes.txt").read_text() == "background\nobject\n"
    assert_labels({name: (mask > 0).astype(np.uint8) for name, mask in ids.items()})


@pytest.mark.parametrize(
    ("place", "photo_place", "arguments"),
    [
        ("set/{}_mask.png", "set/{}.jpg", ()),
        ("set/{}.png", "set/{}.jpg", ()),  # a JPEG and a PNG of each name
        ("set/train_masks/deep/{}.png", "set/train/deep/{}.webp", ()),
        ("set/gt/{}_L.png", "set/raw/{}.bmp", ("--masks", "gt/{name}_L.png", "--images", "raw")),
        ("set/a/GT_{}.tif", "elsewhere/{}.jpg", ("--masks", "*/GT_{name}.tif", "--images", "../elsewhere/{name}.*")),
    ],
)
def test_names_of_many_kinds(capsys, place, photo_place, arguments):
    masks, ids = four(lambda m: m)
    pictures(masks, place, photo_place)
    status, _, said = run(capsys, "set", "--out", "out", "--classes", "0=a", "1=b", "2=c", *arguments)
    assert status == 0, said
    found = labels()
    assert {name.split("/")[-1] for name in found} == ids.keys()
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, ids[name.split("/")[-1]])


def test_a_split_in_the_folders(capsys):
    masks, ids = four(lambda m: m)
    for split, name in (("training", "p0"), ("training", "p1"), ("training", "p2"), ("validation", "p3")):
        pictures({name: masks[name]}, f"set/{split}/masks/{{}}.png", f"set/{split}/images/{{}}.jpg")
    assert run(capsys, "set", "--out", "out", "--classes", "0=a", "1=b", "2=c")[0] == 0
    assert split_of() == {"p0": "train", "p1": "train", "p2": "train", "p3": "val"}
    assert_labels(ids)
    group = ("--group", "{group}[0-9]", "--seed", "7")
    out = run(capsys, "set", "--out", "an other", "--classes", "0=a", "1=b", "2=c", *group)[1]
    for option in (" ".join(group[:2]), " ".join(group[2:])):
        assert f"note: {option}: not used, as there is a split already; --val 0.2 makes another one" in out
    assert out.endswith("look at it: mdp data check 'an other' --data_dir .\n")  # which can be pasted


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if not form.last])
def test_every_form_becomes_a_set_that_is_fine(capsys, form):
    expected = MAKERS[form](pathlib.Path("set"))
    status, out, said = run(capsys, "set", "--out", "out", "--val", "0.3")
    rare = "no photo can go to val" in said  # of two photos, each with a class of its own
    if rare:
        assert status == 2 and not pathlib.Path("out").exists() and not pathlib.Path(".out.importing").exists()
        return
    assert status == 0, said
    assert_labels(expected)
    assert f"--form {form}" in out and check(capsys) == 0


def numbered(count: int, same=()) -> None:
    """Photos of `count` numbers with masks of two classes; those in `same` have the pixels of the first of them."""
    for number in range(count):
        pictures({f"v{number // 4}_{number:02d}": (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 2).astype(np.uint8)})
        write_jpeg(pathlib.Path(f"set/images/v{number // 4}_{number:02d}.jpg"), photo(100 + number))
    for number in same:
        path = pathlib.Path(f"set/images/v{number // 4}_{number:02d}.jpg")
        path.unlink()
        original = cv2.imread(f"set/images/v{same[0] // 4}_{same[0]:02d}.jpg") if number != same[0] else photo(1)
        cv2.imwrite(str(path.with_suffix(".png")), original) if number != same[0] else write_jpeg(path, original)


TWO = ("--classes", "0=a", "1=b")


def test_a_split_by_share_and_seed(capsys):
    numbered(20)
    assert run(capsys, "set", "--out", "out", *TWO)[0] == 0
    first = split_of()
    assert sorted(first.values()).count("val") == 4
    assert run(capsys, "set", "--out", "other", *TWO, "--seed", "1", "--val", "0.5", "--photos", "link")[0] == 0
    second = split_of("other")
    assert list(second.values()).count("val") == 10
    linked = next(pathlib.Path("other/images/train").iterdir())
    assert linked.is_symlink() and linked.resolve() == pathlib.Path("set/images", linked.name).resolve()
    shutil.rmtree("out")
    assert run(capsys, "set", "--out", "out", *TWO)[0] == 0 and split_of() == first


def test_groups_and_doubles_stay_on_one_side(capsys):
    numbered(24, same=(2, 9, 17))
    status, out, said = run(capsys, "set", "--out", "out", *TWO, "--group", "{group}_*", "--val", "0.25")
    assert status == 0, said
    found = split_of()
    for group in range(6):
        assert len({split for name, split in found.items() if name.startswith(f"v{group}_")}) == 1
    assert found["v0_02"] == found["v2_09"] == found["v4_17"]
    assert 0 < list(found.values()).count("val") < 24
    assert "note: photos with the pixels of another one, on the same side of the split: 2" in out


def test_a_rare_class_stays_in_train(capsys):
    for seed in range(5):
        shutil.rmtree("set", ignore_errors=True)
        numbered(6)
        write_png(pathlib.Path("set/labels/v0_03.png"), np.full(SIZE, 2))
        arguments = ("--classes", "0=a", "1=b", "2=rare", "--val", "0.5", "--seed", seed)
        assert run(capsys, "set", "--out", f"out{seed}", *arguments)[0] == 0
        assert split_of(f"out{seed}")["v0_03"] == "train"


def test_started_again(capsys):
    field(photos=4)
    arguments = ("field", "--out", "out", *FIELD[3:5], *MAP)
    assert run(capsys, *arguments)[0] == 0
    files = sorted(path for path in pathlib.Path("out").rglob("*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    status, out, _ = run(capsys, *arguments)
    assert status == 0 and "out: is this import already (3 train, 1 val); nothing to do" in out
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    status, _, said = run(capsys, *arguments, "--seed", "5")
    assert status == 2 and "--out out: holds an import of other files or with other options; remove it" in said
    mask, photo = (next(pathlib.Path(folder).iterdir()) for folder in ("out/masks/train", "out/images/train"))
    for file in (mask, photo, pathlib.Path("out/classes.txt")):
        content = file.read_bytes()
        file.write_bytes(b"x")
        status, _, said = run(capsys, *arguments)
        assert status == 2 and f"{file} was changed or is missing since the import" in said
        file.write_bytes(content)
    shutil.rmtree("out")
    pathlib.Path(".out.importing/images").mkdir(parents=True)  # of a run that was killed
    pathlib.Path(".out.importing/images/x.png").write_bytes(b"x")
    assert run(capsys, *arguments)[0] == 0
    assert before.keys() == {path for path in pathlib.Path("out").rglob("*") if path.is_file()}
    for path, (content, _) in before.items():
        assert path.read_bytes() == content, path
    assert not list(pathlib.Path().glob(".out*"))


def _paint(colour, name="003"):
    def spoil():
        path = f"field/annotations/{name}_annotation.png"
        picture = cv2.imread(path)
        picture[:2, :3] = colour[::-1]
        cv2.imwrite(path, picture)

    return spoil


def _jpeg_masks():
    for path in pathlib.Path("field/annotations").iterdir():
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        path.unlink()


def _text(name, text):
    return lambda: pathlib.Path(name).write_text(text)


_UNREADABLE = _text("field/annotations/003_annotation.png", "no picture")
LISTED = ("--masks", "annotations/{name}_annotation.*", *MAP)


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (
            _paint((250, 3, 0)),
            (*LISTED, *FIELD[5:]),
            r"colour #fa0300 \(0\.13 % of all pixels, in 1 mask, most in field/annotations/003_annotation\.png\): "
            r"not in --classes, whose nearest is #ff0000 \(weed, 6 away\).*--others ignore",
        ),
        (_jpeg_masks, (*LISTED, *FIELD[5:]), r"001_annotation\.jpg is a JPEG, whose values are not exact"),
        (
            lambda: None,
            (*LISTED, *FIELD[5:], "--palette", "voc"),
            r"--palette voc: expected it without --classes",
        ),
        (
            _text("map.txt", "#000000 soil\n255 0 0 weed\n#FF0000 crop\n"),
            (*LISTED[:2], "--classes", "map.txt"),
            r"map\.txt line 3: colour #ff0000 is class 'crop', and class 'weed' in map\.txt line 2; expected one class",
        ),
        (
            _text("map.txt", "soil: black\n"),
            (*LISTED[:2], "--classes", "map.txt"),
            r"map\.txt line 1 is 'soil: black'; expected",
        ),
        (
            _text("map.txt", "0 0 300 soil\n"),
            (*LISTED[:2], "--classes", "map.txt"),
            r"line 1 is '0 0 300 soil', with 300 in a colour; expected R, G and B from 0 to 255",
        ),
        (lambda: None, (*LISTED[:2], "--classes", "map.txt"), r"--classes map\.txt: no such file, and not KEY=NAME"),
        (
            lambda: None,
            (*LISTED[:2], "--classes", "0=soil", "255=x"),
            r"has the colour #00ff00, and --classes has values",
        ),
        (
            lambda: None,
            (*LISTED[:2], "--classes", "#000000=a", "7=x"),
            r"--classes 7=x: a value, and --classes #000000=a: a",
        ),
        (
            lambda: None,
            (*LISTED[:2], "--classes", "soil=a"),
            r"--classes soil=a: 'soil' is neither a colour nor a value of a mask",
        ),
        (
            lambda: None,
            LISTED[2:],
            r"001_annotation\.png and .*001_mask\.png are both masks.*--masks 'masks/\{name\}_mask\.png'",
        ),
        (
            lambda: None,
            ("--masks", "masks/{nam}.png"),
            r"--masks masks/\{nam\}\.png: has \{nam\}; expected \{name\} and \{split\}",
        ),
        (lambda: None, ("--masks", "gt"), r"--masks gt: .*field/gt is no folder; expected one, or a pattern"),
        (
            lambda: None,
            ("--masks", "gt/{name}.png"),
            r"--masks gt/\{name\}\.png: no file in field fits it; expected a pattern of its images: annota",
        ),
        (
            lambda: pathlib.Path("field/annotations/005_annotation.png").unlink(),
            LISTED,
            r"images/005_image\.png has no mask of the name 005; name the files by.*--skip_missing",
        ),
        (
            lambda: pathlib.Path("field/images/005_image.png").unlink(),
            LISTED,
            r"annotations/005_annotation\.png has no photo of the name 005;",
        ),
        (
            lambda: write_png(pathlib.Path("field/images/005_image.png"), photo(0, (20, 30))),
            LISTED,
            r"005_annotation\.png: the mask has 24 x 32 pixels .*005_image\.png has 20 x 30; expected one size",
        ),
        (
            _paint((0, 0, 255), "001"),
            (*LISTED, "#0000ff=sky", *FIELD[5:]),
            r"leaves class 'sky' out of train: it is in 1 photo of val alone, such as",
        ),
        (
            _text("s.yaml", "train: [1, 2]\nval: [2]\n"),
            (*LISTED, "--split", "s.yaml"),
            r"--split: '2' is in train and in val",
        ),
        (
            _text("s.yaml", "train: [1, 2]\nval: [77]\n"),
            (*LISTED, "--split", "s.yaml"),
            r"--split: '77' is the name of no photo",
        ),
        (
            _text("s.yaml", "train: [1, 2]\n"),
            (*LISTED, "--split", "s.yaml"),
            r"lists of train; expected train, and val or test",
        ),
        (_text("s.yaml", "a: {b"), (*LISTED, "--split", "s.yaml"), r"--split s\.yaml: not valid YAML"),
        (_text("s.yaml", "- 1"), (*LISTED, "--split", "s.yaml"), r"--split s\.yaml: \['1'\]; expected lists of names"),
        (
            _text("s.txt", "001"),
            (*LISTED, "--split", "s.txt"),
            r"--split s\.txt: expected a name with train, val or test in it",
        ),
        (
            lambda: os.mkdir("lists"),
            (*LISTED, "--split", "lists"),
            r"--split lists: a folder; expected files of it, as --split lists/train\.txt lists/val\.txt",
        ),
        (
            lambda: None,
            (*LISTED, "--split", "x.yaml", "--val", "0.1"),
            r"--val 0\.1: makes a split, and --split gives one",
        ),
        (lambda: None, (*LISTED, "--val", "1.5"), r"argument --val: 1\.5: expected a share between 0 and 1"),
        (lambda: None, (*LISTED, "--group", "{group}-*"), r"--group \{group\}-\*: 001 does not fit it"),
        (lambda: None, ("--masks", "images/{name}.*", "--images", "images"), "001_image.png"),
        (lambda: None, ("--form", "coco"), r"--form coco: no such annotations in field; expected a JSON with images"),
        (
            lambda: os.mkdir("out") or pathlib.Path("out/x").write_text(""),
            LISTED,
            r"--out out: not empty, and no import.*holds x",
        ),
        (lambda: pathlib.Path("out").write_text(""), LISTED, r"--out out: a file; expected a new folder"),
        # Before masks are read, of which one cannot be.
        (_UNREADABLE, ("--out", "field/annotations/003_annotation.png/out"), r"003_annotation.png: a file; expected"),
        (_UNREADABLE, ("--group", "{name}_*"), r"--group \{name\}_\*: has \{name\}; expected \{group\}"),
        (_UNREADABLE, ("--out", ""), r"--out: an empty text; expected a path"),
    ],
)
def test_bad_input(capsys, spoil, arguments, said):
    field(photos=6)
    spoil()
    there = set(pathlib.Path().iterdir())
    status, _, line = run(capsys, "field", "--out", "out", *arguments)
    assert status == 2
    assert re.search(said, line), line
    assert set(pathlib.Path().iterdir()) == there  # nothing was written


def test_what_becomes_of_other_colours(capsys):
    ids = field(photos=4)
    _paint((250, 3, 0))()
    assert run(capsys, *FIELD[:-2], *MAP, "--others", "ignore")[0] == 0
    ids["003"][:2, :3] = 255
    assert_labels(ids)


def test_smoothed_masks_are_refused(capsys):
    field(photos=3)
    path = "field/annotations/002_annotation.png"
    cv2.imwrite(path, cv2.resize(photo(5, (6, 8)), SIZE[::-1], interpolation=cv2.INTER_CUBIC))
    status, _, said = run(capsys, *FIELD[:-2])
    assert status == 2 and "colours; expected at most 256, one for each class" in said and "002_annotation.png" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"boxes": []}', r"set/a\.json is of another form; expected one of these: coco: a JSON with images"),
        ("a.xml", "<VOC/>", r"set/a\.xml is of another form"),
        ("a.json", "{", r"a\.json: not valid JSON"),
        ("a.txt", "", r"no annotations and no masks were recognised in it"),
    ],
)
def test_annotations_of_another_form(capsys, name, text, said):
    pathlib.Path("set").mkdir()
    pathlib.Path("set", name).write_text(text)
    status, _, line = run(capsys, "set", "--out", "out")
    assert status == 2 and re.search(said, line), line


def test_places_that_are_none(capsys):
    assert "no/where is missing; expected a folder or file of annotations" in run(capsys, "no/where", "--out", "o")[2]
    pathlib.Path("a.zip").write_bytes(b"")
    assert (
        "a.zip is an archive; expected the folder that is in it: unpack it first"
        in run(capsys, "a.zip", "--out", "o")[2]
    )


def test_two_forms_in_one_place(capsys):
    annotated.coco(pathlib.Path("set"))
    annotated.cvat(pathlib.Path("set"))
    status, _, said = run(capsys, "set", "--out", "out")
    assert status == 2 and "files of the forms coco and cvat; expected one: choose it with --form" in said
    assert run(capsys, "set", "--out", "out", "--form", "cvat", "--images", "images")[0] == 0
    assert run(capsys, "set/annotations.xml", "--out", "other", "--images", "images")[0] == 0


def test_coco_with_a_file_for_each_split(capsys):
    for split in ("train", "valid"):
        root = pathlib.Path("set", split)
        write_photos(root, [f"{i}.jpg" for i in range(3)], size=(12, 10) if split == "train" else (10, 12))
        image = {"height": 12, "width": 10} if split == "train" else {"height": 10, "width": 12}
        rows = [{"id": i, "file_name": f"{i}.jpg", **image} for i in range(3)]
        marks = [{"id": i, "image_id": i, "category_id": 0, "segmentation": [rectangle(1, 2, 5, 6)]} for i in range(3)]
        value = {"images": rows, "annotations": marks, "categories": [{"id": 0, "name": "fruit"}]}
        write_json(root / "_annotations.coco.json", value)
    status, _, said = run(capsys, "set", "--out", "out")
    assert status == 0, said
    rows = json.loads(pathlib.Path("out/import.json").read_text())
    assert rows["splits"] == {"train": 3, "val": 3}
    assert [label.shape for label in labels().values()].count((10, 12)) == 3
    assert check(capsys) == 0


def test_photos_that_are_not_there_are_passed_over_where_that_is_said(capsys):
    annotated.coco(pathlib.Path("set"))
    pathlib.Path("set/images/b.jpg").unlink()
    write_photos(pathlib.Path("set/images"), ["more.jpg"], (9, 9))
    status, _, said = run(capsys, "set", "--out", "out")
    assert status == 2 and "instances.json: describes b.jpg, which is not in set; name the folder" in said
    status, out, _ = run(capsys, "set", "--out", "out", "--skip_missing")
    assert status == 0
    assert "note: passed over: 1 of 3 described photos, not found (b.jpg)" in out
    assert "note: passed over: 1 photo without an annotation (set/images/more.jpg)" in out


@pytest.mark.parametrize("form", ["cvat", "masks"])
def test_options_of_another_form_are_refused(capsys, form):
    """Every option that some form reads and this one does not."""
    MAKERS["cvat"](pathlib.Path("set"))
    others = {option for one in FORMS.values() for option in one.takes} - {*FORMS[form].takes}
    assert others
    values = {"overlap": ["smaller"], "yes": []}
    for option in others:
        words = [f"--{option}", *values.get(option, ["x"])]
        status, _, said = run(capsys, "set", "--out", "out", "--form", form, *words)
        assert status == 2 and said.startswith(f"{' '.join(words)}: belongs to --form "), said
        assert f"and this is {form}; leave it out" in said


def test_folders_that_are_links_are_followed_and_never_in_a_circle(capsys):
    masks, ids = four(lambda m: m)
    pictures(masks, "set/masks/{}.png", "elsewhere/{}.jpg")
    pathlib.Path("set/images").symlink_to(pathlib.Path("elsewhere").absolute())
    pathlib.Path("set/masks/again").symlink_to(pathlib.Path("set").absolute())
    assert run(capsys, "set", "--out", "out", "--classes", "0=a", "1=b", "2=c")[0] == 0
    assert_labels(ids)
    pathlib.Path("out/images/train/again").symlink_to(pathlib.Path("out/images").absolute())
    assert_labels(ids)


def test_a_run_that_is_stopped_leaves_nothing(capsys, monkeypatch):
    field(photos=4)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mdp_jax.data.imported.splitting.by_share", stop)
    assert run(capsys, "field", "--out", "out", *FIELD[3:5], *MAP)[0] == 130
    assert {path.name for path in pathlib.Path().iterdir()} == {"field"}


def test_an_empty_folder_and_the_folder_of_a_link_are_filled(capsys):
    ids = field(photos=4)
    pathlib.Path("there").mkdir()
    pathlib.Path("out").symlink_to("there")
    assert run(capsys, "field", "--out", "out", *FIELD[3:5], *MAP)[0] == 0
    assert pathlib.Path("out").is_symlink() and pathlib.Path("there/import.json").exists()
    assert_labels(ids)
