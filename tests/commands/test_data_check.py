"""mdp data check: what is counted, what is named, and what the exit status says."""

import json
import pathlib
import re
import shutil
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from mdp_jax import cli
from mdp_jax.data.doctor import findings as check_findings
from mdp_jax.data.doctor import scan as check_scan
from mdp_jax.errors import UserError
from tests.data import official
from tests.data.fixtures import MemorySource, write_folder, write_jpeg, write_png

CONFIG = """
from mdp_jax import configs as base


def get_config():
    config = base.{loop}()
    {datasets}
    return config
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check(capsys, *arguments):
    """Exit status, stdout, stderr and the JSON of `mdp data check`."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "check", *arguments, "--json", "check.json"])
    out, err = capsys.readouterr()
    file = pathlib.Path("check.json")
    return exit_.value.code, out, err, json.loads(file.read_text()) if file.exists() else None


def write_config(loop: str, *names: str) -> str:
    folders = ", ".join(f'base.folder("{name}", root="{name}")' for name in names)
    datasets = f"config.sources = ({folders},)" if loop == "pretrain" else f"config.dataset = {folders}"
    pathlib.Path(f"{loop}.py").write_text(CONFIG.format(loop=loop, datasets=datasets))
    return f"{loop}.py"


def write_sample(root, split: str, name: str, mask: np.ndarray, seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3))
    write_jpeg(root / "images" / split / f"{name}.jpg", photo)
    write_png(root / "masks" / split / f"{name}.png", mask)


def test_counts_worked_out_by_hand(capsys):
    root = write_folder(pathlib.Path("set"), classes=("sky", "tree", "road", "moon"), photos=3)
    mask = np.zeros((10, 30), np.uint8)
    mask[:, 20:] = 2
    write_sample(root, "train", "p0", mask, 0)  # 200 of class 0, 100 of class 2
    write_sample(root, "train", "p1", np.full((40, 20), 255), 1)  # 800 ignored
    write_sample(root, "train", "p2", np.where(np.arange(400).reshape(20, 20) < 100, 255, 0), 2)  # 100 ignored, 300
    status, out, _, found = check(capsys, "set", "--data_dir", ".", "--splits", "train")
    (part,) = found["parts"]
    assert status == 0
    assert part["height"] == {"min": 10, "median": 20, "max": 40}
    assert part["width"] == {"min": 20, "median": 20, "max": 30}
    assert (part["photos"], part["unusable"], part["unlabelled"]) == (3, 0, 1)
    assert (part["pixels"], part["ignored_pixels"]) == (1500, 900)
    assert [(row["class"], row["pixels"], row["photos"]) for row in part["classes"]] == [
        ("sky", 500, 2),
        ("tree", 0, 0),
        ("road", 100, 1),
        ("moon", 0, 0),
    ]
    assert part["never_seen"] == ["tree", "moon"]
    assert found["failures"] == [] and len(found["warnings"]) == 2
    assert re.search(r"set +train +3 +0 +60\.00 +1 +2 of 4", out)
    assert re.search(r"0 +sky +83\.33 +2", out)
    assert "warning: set train: never seen: tree, moon" in out
    assert "warning: set train: masks without a pixel of any class: 1 of 3" in out


def test_every_sample_is_opened_once_and_counted_as_by_a_loop():
    rng = np.random.default_rng(0)
    labels = [rng.integers(-1, 5, rng.integers(3, 9, 2)).astype(np.int16) for _ in range(50)]
    opened = []

    class Watched(MemorySource):
        def __getitem__(self, index):
            opened.append(index)
            if index == 33:
                raise UserError("photo 33 is bad")
            return super().__getitem__(index)

    samples = [(rng.integers(0, 256, (*label.shape, 3)).astype(np.uint8), label) for label in labels]
    reported = []
    found = check_scan.scan(Watched("set", tuple("abcde"), samples), 3, reported.append)
    assert sorted(opened) == list(range(50)) and sum(reported) == 50
    labels.pop(33)
    for index in range(-1, 5):
        assert found.pixels[index + 1] == sum(int((label == index).sum()) for label in labels)
        assert found.photos[index + 1] == sum(bool((label == index).any()) for label in labels)
        both = [
            (bool((label == index).any()), [bool((label == other).any()) for other in range(5)]) for label in labels
        ]
        if index >= 0:
            for other in range(5):
                assert found.together[index, other] == sum(one and others[other] for one, others in both)
            shares = [(-float((label == index).mean()), photo + (photo >= 33)) for photo, label in enumerate(labels)]
            expected = sorted(share for share in shares if share[0])[: check_scan.EXAMPLES]
            assert found.best[index] == [(-share, photo) for share, photo in expected]
    assert found.sizes == [label.shape for label in labels]
    assert found.problems == [(33, "photo 33 is bad")]
    assert [index for index, _ in found.digests] == [i for i in range(50) if i != 33]


def test_the_page(capsys):
    """Bars, classes that come together, examples of each class, odd masks: of four classes, one of them never seen."""
    root = write_folder(pathlib.Path("set"), classes=("sky", "tree", "road & <rail>", "moon"), photos=12)
    for split in ("train", "val"):
        for i in range(12):
            mask = np.zeros((20, 24), np.uint8)
            mask[10:] = 1 + i % 2
            write_png(root / "masks" / split / f"p{i}.png", mask)
    write_png(root / "masks" / "train" / "p7.png", np.random.default_rng(0).integers(0, 3, (20, 24)))
    status, out, _, found = check(capsys, "set", "--data_dir", ".", "--html", "page.html")
    assert status == 0 and "page: page.html" in out
    assert re.search(r"0 +sky +48\.\d\d +12 +50\.00 +12 +█{16} +tree \(58 %\)", out)
    (part, _) = found["parts"]
    assert part["together"] == {"sky": {"tree": 7, "road & <rail>": 6}, "tree": {"road & <rail>": 1}}
    (odd,) = part["odd_masks"]
    assert odd["photo"] == "p7.jpg" and re.fullmatch(r"\d+\.\d times as many edges as most masks have", odd["why"])
    page = pathlib.Path("page.html").read_text()
    headings = ["What was found", "set: balance", "set: examples of each class", "set train: the oddest masks"]
    assert re.findall("<h2>(.*?)</h2>", page) == headings
    assert page.count("data:image/png;base64,") == 5 and "road &amp; &lt;rail&gt;: p" in page
    assert "warning: set train: never seen: moon" in page and f"1: {odd['why']}, p7.jpg" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_the_page_of_photos_without_labels_and_of_none(capsys):
    root = write_folder(pathlib.Path("set"), photos=2)
    shutil.rmtree(root / "masks")
    write_folder(pathlib.Path("labelled"))
    datasets = 'config.sources = (base.folder("labelled", root="labelled"), base.folder("set", root="set"))'
    datasets += '\n    config.sources[1].labels = "none"'
    pathlib.Path("pretrain.py").write_text(CONFIG.format(loop="pretrain", datasets=datasets))
    arguments = ("--config", "pretrain.py", "--data_dir", ".", "--splits", "train", "--html", "page.html")
    assert check(capsys, *arguments)[0] == 0
    assert "<h2>set: sizes</h2>" in pathlib.Path("page.html").read_text()
    pathlib.Path("page.html").unlink()
    assert check(capsys, "gone", "--data_dir", ".", "--html", "page.html")[0] == 2
    assert "problem: gone train:" in pathlib.Path("page.html").read_text()
    status, _, err, _ = check(capsys, "set", "--data_dir", ".", "--html", "no/page.html")
    assert status == 2 and "--html no/page.html: expected a file in a folder that exists" in err


def test_a_split_without_photos_is_a_reason_to_fail(capsys):
    official.make_voc(pathlib.Path("data"))
    (pathlib.Path("data") / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
    arguments = ("voc", "--data_dir", "data", "--config.train_list=train", "--splits", "train,val")
    status, out, _, found = check(capsys, *arguments)
    assert status == 2
    assert found["failures"] == ["dataset 'voc': no photo in its split 'val'; expected at least one"]
    assert "problem: voc val: dataset 'voc': no photo" in out


def test_photos_that_exif_turns(capsys):
    root = write_folder(pathlib.Path("set"), photos=3)
    for name, orientation in (("p0", 3), ("p1", 6)):
        file = root / "images" / "train" / f"{name}.jpg"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(file).save(file, exif=exif)
    status, out, _, found = check(capsys, "set", "--data_dir", ".", "--splits", "train")
    assert status == 2  # the second one lies on its side, its mask does not
    assert "p1.png is 20 x 24 pixels (height x width); expected 24 x 20 as its photo (turned by its EXIF" in out
    (warning,) = found["warnings"]
    assert warning.startswith(
        "set train: photos with an EXIF orientation, which turns them and not their masks: 1 of 2"
    )


def test_prepared_records_have_the_warnings_of_their_files(capsys):
    """Of a photo that EXIF turns, one of 16 bits, and one whose JPEG is damaged."""
    photos = write_folder(pathlib.Path("set"), photos=4) / "images" / "train"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(photos / "p0.jpg").save(photos / "p0.jpg", exif=exif)
    (photos / "p1.jpg").unlink()
    Image.fromarray(np.full((20, 24), 40000, np.uint16)).save(photos / "p1.png")
    data = (photos / "p2.jpg").read_bytes()
    (photos / "p2.jpg").write_bytes(data[:-30] + bytes(28) + data[-2:])
    of_files = check(capsys, "set", "--data_dir", ".")[3]
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "prepare", "set", "--data_dir", "."])
    assert exit_.value.code == 0
    found = check(capsys, "set", "--data_dir", ".", "--kind", "array_record")[3]
    assert len(found["warnings"]) == 3 and found["warnings"] == of_files["warnings"]
    assert [part["damaged"] for part in found["parts"]] == [part["damaged"] for part in of_files["parts"]]


def test_palettes_that_number_the_colours_anew_in_each_file(capsys):
    """Value 1 is red in three masks and green in the last one; the second mask's palette leaves out what it lacks."""
    root = write_folder(pathlib.Path("set"), classes=("sky", "tree", "road"), photos=4)
    (root / "palette.txt").write_text("0 0 0\n255 0 0\n0 255 0\n")
    red, green = [0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 0, 0, 0, 255, 0, 255, 0, 0]

    def paint(palettes) -> list[str]:
        for number, palette in enumerate(palettes):
            ids = np.zeros((20, 24), np.uint8)
            ids[:4], ids[4:6] = 1, len(palette) // 3 - 1
            picture = Image.fromarray(ids)
            picture.putpalette(palette)
            picture.save(root / "masks" / "train" / f"p{number}.png")
        status, _, _, found = check(capsys, "set", "--data_dir", ".", "--splits", "train")
        assert status == 0
        return [line for line in found["warnings"] if "palettes" in line]

    files = sorted((root / "images" / "train").iterdir())
    assert [file.stem for file in files] == ["p0", "p1", "p2", "p3"]
    assert paint([red, red[:6], red, red]) == []
    (line,) = paint([red, red[:6], red, green])
    assert line.startswith(
        "set train: the palettes of masks have other colours for the same values, as those of p0.jpg and p3.jpg; "
    )


def test_photos_of_other_formats_are_named(capsys):
    root = write_folder(pathlib.Path("set"), photos=2)
    shutil.rmtree(root / "masks")
    for name in ("b.HEIC", "a.heic", "c.jxl", "notes.txt"):
        (root / "images" / "train" / name).write_bytes(b"")
    write_folder(pathlib.Path("labelled"))
    datasets = 'config.sources = (base.folder("labelled", root="labelled"), base.folder("set", root="set"))'
    datasets += '\n    config.sources[1].labels = "none"'
    pathlib.Path("pretrain.py").write_text(CONFIG.format(loop="pretrain", datasets=datasets))
    status, _, _, found = check(capsys, "--config", "pretrain.py", "--data_dir", ".", "--splits", "train")
    assert status == 0
    first = pathlib.Path("set", "images", "train", "a.heic")
    (warning,) = found["warnings"]
    because = "2 in the format .heic, which is not read; 1 in the format .jxl, which is not read"
    assert warning == f"set train: passed over: 3 files ({first} and 2 more): {because}"
    assert found["parts"][1]["passed_over_because"][str(first)] == "in the format .heic, which is not read"


def test_a_huge_mask_is_not_opened_again_to_explain_it(capsys):
    root = write_folder(pathlib.Path("set"), photos=2)
    file = root / "masks" / "train" / "p0.png"
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)
    file.write_bytes(data)
    status, out, _, _ = check(capsys, "set", "--data_dir", ".", "--splits", "train")
    assert status == 2 and "p0.png has 40000 x 40000 pixels" in out


def test_digest_is_of_the_pixels_and_their_shape():
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    other = image.copy()
    other[3, 5, 2] += 1
    digests = [check_scan.digest(x) for x in (image, image[::-1][::-1], image.reshape(6, 4, 3), other)]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def spoil(root) -> list[str]:
    """Spoils 11 of the 12 training samples; returns what each line must hold."""
    masks, photos = root / "masks" / "train", root / "images" / "train"
    write_png(masks / "a.png", np.zeros((20, 24, 3)))
    write_png(masks / "b.png", np.full((20, 24), 300), dtype=np.uint16)
    write_png(masks / "c.png", np.full((20, 25), 1))
    for name in "defgh":
        write_png(masks / f"{name}.png", np.full((20, 24), 77))
    photos.joinpath("i.jpg").write_bytes(photos.joinpath("i.jpg").read_bytes()[:-30])
    photos.joinpath("j.jpg").write_text("no photo")
    official.write_palette_png(masks / "k.png", np.full((20, 24), 1))
    return [
        r"a\.png is a RGB PNG of 8 bits",
        r"b\.png is a grey PNG of 16 bits",
        r"c\.png is 20 x 25 pixels .* expected 20 x 24",
        *(rf"{name}\.png holds id 77; expected 0 to 2" for name in "defgh"),
        r"i\.jpg is truncated",
        r"j\.jpg is unreadable",
        r"k\.png is a palette PNG of 8 bits",
    ]


def test_all_problems_are_found_and_the_first_of_each_kind_are_shown(capsys):
    root = write_folder(pathlib.Path("set"), photos=12)
    for kind in ("images", "masks"):
        for i, file in enumerate(sorted((root / kind / "train").iterdir(), key=lambda f: int(f.stem[1:]))):
            file.rename(file.with_stem("abcdefghijkl"[i]))
    expected = spoil(root)
    status, out, err, found = check(capsys, "set", "--data_dir", ".")
    assert status == 2
    problems = found["parts"][0]["problems"]
    assert [row["photo"] for row in problems] == [f"{name}.jpg" for name in "abcdefghijk"]
    for row, words in zip(problems, expected, strict=True):
        assert re.search(words, row["problem"]), row
    shown = [bool(re.search(words, out)) for words in expected]
    assert shown == [True] * 6 + [False] * 2 + [True] * 3
    assert "problem: set train: 5 of 12 photos:" in out and "and 2 more" in out
    assert re.search(r"set +train +12 +11 ", out)
    last = err.splitlines()[-1]
    assert last.startswith(
        "mdp: training would fail: 11 of 12 photos of set train cannot be used; the first: set/masks"
    )
    assert found["parts"][1]["unusable"] == 0 and len(found["failures"]) == 1


def test_bad_photos_are_found_where_a_run_skips_them(capsys):
    root = write_folder(pathlib.Path("set"), photos=8)
    for index in range(8):  # all of them different
        write_sample(root, "train", f"p{index}", np.zeros((20, 24)), index)
    (root / "images" / "train" / "p3.jpg").write_text("no photo")
    config = write_config("pretrain", "set")
    status, out, _, found = check(capsys, "--config", config, "--config.data.on_bad_image=skip")
    part = found["parts"][0]
    assert status == 0 and found["failures"] == [] and part["unusable"] == 1 and part["photos"] == 8
    assert part["classes"][0]["photos"] == 7 and "p3.jpg is unreadable" in out and found["doubles"] == []
    (root / "images" / "train" / "p4.jpg").write_text("no photo")
    status, _, err, _ = check(capsys, "--config", config, "--config.data.on_bad_image=skip")
    assert status == 2 and "2 of 8 photos of set train cannot be used, 1 at most are skipped; the first: " in err


def test_a_set_that_is_missing_is_one_reason(capsys):
    status, _, err, found = check(capsys, "set", "--data_dir", ".", "--splits", "train")
    assert status == 2 and len(found["failures"]) == 1 and "more)" not in err


def test_the_same_photo_in_splits_and_sets(capsys):
    one, two = (write_folder(pathlib.Path(name), photos=5) for name in ("one", "two"))
    for split in ("train", "val"):
        for i in range(5):
            write_sample(one, split, f"p{i}", np.zeros((20, 24)), 10 + i + 5 * (split == "val"))
            write_sample(two, split, f"p{i}", np.zeros((20, 24)), 30 + i + 5 * (split == "val"))

    def copy(source, target):
        target.write_bytes(source.read_bytes())

    copy(one / "images/train/p0.jpg", one / "images/train/p3.jpg")
    copy(one / "images/train/p1.jpg", one / "images/val/p4.jpg")
    copy(one / "images/train/p2.jpg", two / "images/val/p0.jpg")
    config = write_config("pretrain", "one", "two")
    for option in ("--data_dir", "--config.data_dir"):
        status, out, _, found = check(capsys, "--config", config, option, str(pathlib.Path.cwd()))
        assert status == 0
    assert found["doubles"] == [
        {"first": "one train", "second": "one train", "photos": [["p0.jpg", "p3.jpg"]]},
        {"first": "one train", "second": "one val", "photos": [["p1.jpg", "p4.jpg"]]},
        {"first": "one train", "second": "two val", "photos": [["p2.jpg", "p0.jpg"]]},
    ]
    for words in ("twice in one train: 1", "in one train and one val: 1", "in one train and two val: 1"):
        assert f"warning: the same photo {words}" in out


def test_what_a_loop_does_not_need_does_not_fail(capsys):
    root = write_folder(pathlib.Path("set"))
    (root / "images" / "val" / "p1.jpg").write_text("no photo")
    pretrain, finetune = write_config("pretrain", "set"), write_config("finetune", "set")
    status, out, _, found = check(capsys, "--config", pretrain)
    assert status == 0 and "p1.jpg is unreadable" in out and found["failures"] == []
    assert check(capsys, "--config", finetune)[0] == 2
    (root / "images" / "val").rename(root / "images" / "other")
    status, _, _, found = check(capsys, "--config", pretrain)
    assert status == 0 and [part["split"] for part in found["parts"]] == ["train"]
    status, out, err, found = check(capsys, "--config", finetune)
    assert status == 2 and "set/images/val is no folder" in err.splitlines()[-1]
    assert found["parts"][0]["photos"] == 4 and "set/images/val" in found["parts"][1]["refused"]
    assert re.search(r"set +train +4 ", out)


def test_limit_and_dropped_classes_of_a_config(capsys):
    root = write_folder(pathlib.Path("set"))
    write_png(root / "masks" / "train" / "p0.png", np.full((20, 24), 1))
    overrides = ["--config.sources.set.limit=3", "--config.sources.set.drop_classes=('tree',)"]
    _, _, _, found = check(capsys, "--config", write_config("pretrain", "set"), *overrides, "--splits", "train")
    assert found["parts"][0]["photos"] == 3
    assert [row["class"] for row in found["parts"][0]["classes"]] == ["sky", "road"]
    assert found["parts"][0]["ignored_pixels"] > 0


def test_nothing_to_learn_from_is_a_failure(capsys):
    root = write_folder(pathlib.Path("set"), photos=2)
    for i in range(2):
        write_png(root / "masks" / "train" / f"p{i}.png", np.full((20, 24), 255))
    status, _, err, _ = check(capsys, "set", "--data_dir", ".")
    assert status == 2
    assert "set train: no pixel of any class in 2 masks" in err.splitlines()[-1]


def test_two_sets_of_one_name(capsys):
    write_folder(pathlib.Path("one"))
    write_folder(pathlib.Path("two"), classes=("bed",))
    config = write_config("pretrain", "one", "two")
    status, _, err, _ = check(capsys, "--config", config, "--config.sources.two.name=one")
    assert status == 2 and "two datasets are named 'one'" in err.splitlines()[-1]


@pytest.mark.parametrize(("last", "dropped"), [(3, ()), (3, ("sky",)), (2, ("sky",))])
def test_ids_from_1_are_those_of_the_whole_set(capsys, last, dropped):
    """With a dropped class too. Ids from 1 to 2 may be right in a set of three; another mask is of a wrong size."""
    root = write_folder(pathlib.Path("set"))
    for i in range(4):
        write_png(root / "masks" / "train" / f"p{i}.png", np.arange(480).reshape(20, 24) % last + 1)
    write_png(root / "masks" / "train" / "p0.png", np.arange(480).reshape(24, 20) % last + 1)
    status, out, _, _ = check(capsys, "set", "--data_dir", ".", f"--config.drop_classes={dropped!r}")
    assert status == 2
    assert ("perhaps: ids run from 1 to" in out) == (last == 3)


@pytest.mark.parametrize("rounding", [np.floor, np.rint])
def test_colour_masks_turned_to_grey(capsys, rounding):
    root = write_folder(pathlib.Path("set"), classes=tuple(f"class{i}" for i in range(21)))
    greys = rounding(official.voc_colours() @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    for i in range(4):
        write_png(root / "masks" / "train" / f"p{i}.png", greys[np.random.default_rng(i).integers(0, 21, (20, 24))])
    status, out, _, _ = check(capsys, "set", "--data_dir", ".")
    assert status == 2
    assert "perhaps: all ids are greys of the colours of voc" in out


def test_greys_that_are_ids_of_classes_are_a_warning(capsys):
    root = write_folder(pathlib.Path("set"), classes=tuple(f"class{i}" for i in range(200)))
    cityscapes = np.array([(128, 64, 128), (244, 35, 232), (70, 70, 70), (107, 142, 35), (0, 0, 142)], np.uint8)
    greys = cv2.cvtColor(cityscapes[None], cv2.COLOR_RGB2GRAY)[0]
    for i in range(4):
        mask = greys[np.random.default_rng(i).integers(0, 5, (20, 24))]
        write_png(root / "masks" / "train" / f"p{i}.png", mask)
    status, out, _, _ = check(capsys, "set", "--data_dir", ".")
    assert status == 0
    assert "warning: set train: all ids are greys of the colours of cityscapes" in out


@pytest.mark.parametrize(
    ("values", "classes", "words"),
    [
        ([0, 80, 160, 240], 4, "multiples of 80"),
        ([0, 50], 2, ""),
        ([1, 2, 3], 3, "ids run from 1 to 3"),
        ([0, 1, 3], 3, ""),
        ([0, 1, 2], 3, ""),
        ([], 3, ""),
    ],
)
def test_explanations_of_values(values, classes, words):
    explanation = check_findings.explain(np.array(values, np.int64), classes)
    assert words in explanation if words else explanation == ""


def test_masks_of_0_and_255(capsys):
    root = write_folder(pathlib.Path("set"), classes=("ground", "person"))
    for split in ("train", "val"):
        for i in range(4):
            mask = 255 * np.random.default_rng(i).integers(0, 2, (20, 24))
            write_png(root / "masks" / split / f"p{i}.png", mask)
    status, out, _, _ = check(capsys, "set", "--data_dir", ".")
    assert status == 0
    assert "warning: set train: the masks hold nothing but class 0 and ignored pixels; is 255 meant" in out


@pytest.mark.parametrize("kind", ["voc", "ade20k", "coco_stuff", "cityscapes"])
def test_official_layouts(capsys, kind):
    getattr(official, f"make_{kind}")(pathlib.Path("data"))
    status, out, _, found = check(capsys, kind, "--data_dir", "data")
    assert status == 0, out
    assert [part["unusable"] for part in found["parts"]] == [0, 0]
    ids = {"voc": official.VOC_IDS, "ade20k": official.ADE20K_IDS, "coco_stuff": official.COCO_STUFF_IDS}
    expected = sorted(set(ids.get(kind, official.CITYSCAPES_IDS).values()) - {255})
    assert [row["id"] for row in found["parts"][0]["classes"] if row["photos"]] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected NAME or --config FILE, one of them"),
        (("set", "--config", "x.py"), "expected NAME or --config FILE, one of them"),
        (("--config", "pretrain.py", "--kind", "voc"), "--kind voc: belongs to NAME"),
        (("set", "--splits", "train,eval"), "--splits train,eval: 'eval'; expected some of train,val,test"),
        (("set", "--splits", "val,val"), "--splits val,val: 'val'; expected some of"),
        (("set", "--workers", "0"), "--workers: 0: expected a whole number from 1"),
        (("set", "--json", "nowhere/x.json"), "--json nowhere/x.json: expected a file in a folder that exists"),
        (("set", "--data_dir", "nowhere"), "nowhere/set of dataset 'set' is no folder"),
        (("--config", "pretrain.py", "--config.seeed=1"), "--config.seeed: no such key; the nearest is seed"),
    ],
)
def test_wrong_use(capsys, arguments, message):
    write_config("pretrain", "set")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "check", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_real_photos(capsys, shared_data):
    status, _, _, found = check(capsys, "msrc_v2", "--data_dir", str(shared_data), "--splits", "val")
    assert status == 0 and found["parts"][0]["photos"] == 114 and found["parts"][0]["never_seen"] == []
