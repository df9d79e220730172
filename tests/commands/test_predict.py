"""mdp_jax/commands/predict.py: the command on a workdir of seeded weights."""

import errno

import cv2
import numpy as np
import pytest
from PIL import Image

from mdp_jax import cli
from mdp_jax.commands import predict, predict_files
from mdp_jax.data import images
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from tests.evaluation import finetuned


@pytest.fixture(autouse=True)
def quick_network(monkeypatch):
    monkeypatch.setattr(predict.network, "segmenter", lambda model_config, num_classes: finetuned.StridedNetwork())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of photos, workdir, config, variables)."""
    folder = tmp_path_factory.mktemp("predict")
    finetuned.write_dataset(folder / "noise")
    config, variables = finetuned.write_workdir(folder / "run", folder)
    return folder / "noise" / "images" / "val", folder / "run", config, variables


def test_labels_and_overlays_at_the_photos_own_size(made, tmp_path):
    photos, run, config, variables = made
    files = [str(photos / f"{name}.png") for name in "bac"]
    out = tmp_path / "deep" / "out"
    assert cli.run(["predict", "--checkpoint", str(run), "--out", str(out), "--config.data.short_side=16", *files]) == 0
    assert sorted(file.name for file in out.iterdir()) == sorted(
        f"{name}{suffix}" for name in "abc" for suffix in (".png", "_overlay.jpg")
    )
    for name in "abc":
        image = images.read_photo(photos / f"{name}.png")
        label = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert label.dtype == np.uint8
        small = images.resize_photo(image, *((16, 21) if image.shape[0] < image.shape[1] else (21, 16)))
        np.testing.assert_array_equal(label, finetuned.expected_labels(config, variables, small, image.shape[:2]))
        overlay = cv2.imread(str(out / f"{name}_overlay.jpg"))
        assert overlay.shape[0] > image.shape[0] and overlay.shape[1] >= image.shape[1]


def test_outputs_of_an_earlier_command_are_named(made, tmp_path, capsys):
    photos, run, _, _ = made
    words = ["predict", "--checkpoint", str(run), "--out", str(tmp_path), str(photos / "b.png")]
    cli.run([*words, "--contours", "--probabilities", "max"])
    assert "earlier command" not in capsys.readouterr().err
    cli.run(words)
    said = f"mdp: {tmp_path}/b_contours.png, and 1 more: of an earlier command, and not written again"
    assert said in capsys.readouterr().err


def test_the_views_of_mdp_evaluate(made, tmp_path):
    photos, run, config, variables = made
    arguments = ["--mode", "slide", "--crop", "16", "16", "--stride", "8", "8", "--scales", "1", "1.5", "--flip"]
    cli.run(["predict", "--checkpoint", str(run), "--out", str(tmp_path), *arguments, str(photos / "b.png")])
    image = images.read_photo(photos / "b.png")
    views = {"windows": ((16, 16), (8, 8)), "scales": (1.0, 1.5), "flips": (1, -1)}
    expected = finetuned.expected_labels(config, variables, image, image.shape[:2], **views)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED), expected)
    assert (expected != finetuned.expected_labels(config, variables, image, image.shape[:2])).any()


def wrong_use(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["predict", *map(str, arguments)])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("mdp: ") and "\n" not in message
    return message


@pytest.mark.parametrize("content", [b"", b"no photo", None])
def test_an_unreadable_photo_stops_everything_before_it_begins(made, tmp_path, capsys, content):
    photos, run, _, _ = made
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    message = wrong_use(["--checkpoint", run, "--out", tmp_path / "out", photos / "a.png", bad], capsys)
    assert str(bad) in message
    assert not (tmp_path / "out").exists()


def test_a_photo_too_wide_for_the_jpeg_of_its_overlay(made, tmp_path, capsys):
    photos, run, _, _ = made
    strip = tmp_path / "strip.png"
    cv2.imwrite(str(strip), np.zeros((2, 65_501, 3), np.uint8))
    message = wrong_use(["--checkpoint", run, "--out", tmp_path / "out", photos / "a.png", strip], capsys)
    assert message.endswith("strip.png: a side of 65501 pixels; expected at most 65500, as an overlay is a JPEG")
    assert not (tmp_path / "out").exists()


def test_views_that_cannot_be_are_one_line(made, tmp_path, capsys):
    photos, run, _, _ = made
    arguments = ["--checkpoint", run, "--out", tmp_path / "out", photos / "a.png", "--scales", "-1"]
    assert "--scales -1: expected factors above 0" in wrong_use(arguments, capsys)
    assert not (tmp_path / "out").exists()


def test_two_photos_of_one_name_are_refused(made, tmp_path, capsys):
    photos, run, _, _ = made
    twin = photos.parent / "train" / "a.png"
    message = wrong_use(["--checkpoint", run, "--out", tmp_path / "out", photos / "a.png", twin], capsys)
    assert str(twin) in message and str(photos / "a.png") in message
    assert not (tmp_path / "out").exists()


def test_a_photo_is_never_replaced_by_its_labels(made, capsys):
    photos, run, _, _ = made
    before = (photos / "a.png").read_bytes()
    message = wrong_use(["--checkpoint", run, "--out", photos, photos / "a.png"], capsys)
    assert "would replace a photo" in message
    assert (photos / "a.png").read_bytes() == before
    assert not list(photos.glob("*overlay*"))


def test_a_mask_beside_a_photo_is_never_replaced_by_its_labels(made, tmp_path, capsys):
    photo, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    cv2.imwrite(str(photo), cv2.imread(str(made[0] / "a.png")))
    mask.write_bytes(b"hours of work")
    words = ["--checkpoint", made[1], "--out", tmp_path]
    for named in (photo, f"{tmp_path}/*.jpg"):
        message = wrong_use([*words, named], capsys)
        assert f"{mask} would be replaced, and is none of mdp predict, as there is no a_overlay.jpg" in message
        assert mask.read_bytes() == b"hours of work"
    mask.unlink()
    for _ in range(2):  # its own label maps are replaced
        assert cli.run([str(word) for word in ("predict", *words, photo)]) == 0


def test_an_output_folder_that_is_a_file_is_one_line(made, tmp_path, capsys):
    photos, run, _, _ = made
    (tmp_path / "out").write_text("")
    assert str(tmp_path / "out") in wrong_use(
        ["--checkpoint", run, "--out", tmp_path / "out", photos / "a.png"], capsys
    )


def test_more_classes_than_8_bits_tell_apart_take_16(made, tmp_path, monkeypatch):
    photos, run, _, _ = made
    many = workdirs.load(run)._replace(label_space=LabelSpace((("many", tuple(map(str, range(342)))),)))
    monkeypatch.setattr(predict.workdirs, "load", lambda *args, **kwargs: many)
    label = np.array([[7, 341]], np.int32)
    monkeypatch.setattr(predict.Predictor, "__call__", lambda self, variables, image, size, *_: np.resize(label, size))
    cli.run(["predict", "--checkpoint", str(run), "--out", str(tmp_path), str(photos / "a.png")])
    found = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16 and set(np.unique(found)) == {7, 341}


def test_what_is_changed_of_photos_is_said(made, tmp_path, monkeypatch, capsys):
    """One line for each kind of change, whatever the number of photos. A telephone's second picture is no photo."""
    _, run, _, _ = made
    colours = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    picture.convert("L").save(tmp_path / "grey.png")
    picture.convert("L").save(tmp_path / "more.png")
    picture.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.fromarray(255 - colours)])
    picture.save(tmp_path / "telephone.jpg", "MPO", save_all=True, append_images=[picture])
    monkeypatch.setattr(
        predict.Predictor, "__call__", lambda self, variables, image, size, *_: np.zeros(size, np.int32)
    )
    names = [str(tmp_path / name) for name in ("grey.png", "more.png", "moving.gif", "telephone.jpg")]
    cli.run(["predict", "--checkpoint", str(run), "--out", str(tmp_path / "out"), *names])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mdp: /")]
    assert said == [
        f"mdp: {names[0]} and 1 more: The photo is grey; it was given three equal channels.",
        f"mdp: {names[2]}: The first of 2 pictures was taken.",
    ]


def test_a_legend_that_is_too_long_for_a_jpeg_is_cut_off(made, tmp_path, monkeypatch):
    photos, run, _, _ = made
    monkeypatch.setattr(predict, "MOST_PIXELS", 60)
    cli.run(["predict", "--checkpoint", str(run), "--out", str(tmp_path), str(photos / "a.png")])
    photo, shown = cv2.imread(str(photos / "a.png")), cv2.imread(str(tmp_path / "a_overlay.jpg"))
    assert photo.shape[0] < 60 == shown.shape[0]


def test_a_write_that_fails_leaves_no_half_file(tmp_path, monkeypatch):
    target = tmp_path / "label.png"
    target.write_bytes(b"as it was")

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(UserError, match=r"label\.png: No space left on device; expected a file that can be written"):
        predict.write_picture(target, np.zeros((4, 4), np.uint8))
    assert target.read_bytes() == b"as it was"


@pytest.fixture
def tree(made, tmp_path):
    """A folder with photos at two depths, a hidden one and a text."""
    photos = made[0]
    for name in ("day/b.png", "day/two/a.JPG", "night/b.png", ".hidden/b.png"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((photos / "b.png").read_bytes())
    (tmp_path / "tree" / "notes.txt").write_text("no photo")
    return tmp_path / "tree"


def written(out):
    return sorted(str(file.relative_to(out)) for file in out.rglob("*.png"))


def test_folders_and_patterns_keep_their_paths(made, tree, tmp_path):
    run, out = str(made[1]), tmp_path / "out"
    cli.run(["predict", "--checkpoint", run, "--out", str(out), str(tree)])
    assert written(out) == ["day/b.png", "day/two/a.png", "night/b.png"]
    assert (out / "day" / "two" / "a_overlay.jpg").exists()
    cli.run(["predict", "--checkpoint", run, "--out", str(tmp_path / "p"), f"{tree}/*/b.png", str(made[0] / "a.png")])
    assert written(tmp_path / "p") == ["a.png", "day/b.png", "night/b.png"]
    # What was written below the folder is not taken for photos the next time.
    for _ in range(2):
        cli.run(["predict", "--checkpoint", run, "--out", str(tree / "out"), f"{tree}/**/*"])
    assert written(tree / "out") == ["day/b.png", "day/two/a.png", "night/b.png"]


@pytest.mark.parametrize("pattern", ["day/b.*", "*/b.png", "day"])
def test_the_outputs_may_lie_above_the_photos(tree, monkeypatch, pattern):
    monkeypatch.chdir(tree)
    found = predict_files.find([pattern], ".")
    assert "day/b.png" in [photo.path for photo in found]
    assert found == predict_files.find([pattern], "elsewhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tree}/empty"], "empty: no photo in this folder or below it; expected files such as .jpg or .png"),
        (["{tree}/*.tif"], r"\*\.tif: no photo has such a path; expected a pattern such as"),
        (
            ["{tree}/day/b.png", "{tree}/night/b.png"],
            r"night/b\.png: .*has the same name as .*day/b\.png, so both would be written to .*out/b\.png",
        ),
        (["{tree}/day/b.png", "{tree}/day/b.png"], r"day/b\.png: given twice; expected each photo once"),
        (["--step", "best", "{tree}"], "no best checkpoint in it; expected a fine-tuning with config.keep_best"),
    ],
)
def test_nothing_is_written_where_the_photos_are_not_clear(made, tree, tmp_path, words, message):
    (tree / "empty").mkdir()
    words = [word.format(tree=tree) for word in words]
    with pytest.raises(UserError, match=message):
        cli.run(["predict", "--checkpoint", str(made[1]), "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_patterns_and_folders_that_cannot_be_are_named_before_weights_are_read(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    with pytest.raises(UserError, match=r"^\*\.tif: no photo has such a path; .* such as 'photos/\*\*/\*\.jpg'$"):
        cli.run(["predict", "--checkpoint", "nowhere", "--out", str(tmp_path / "out"), "*.tif"])
    with pytest.raises(UserError, match=r"--out .*b\.png: a file; expected a folder"):
        cli.run(["predict", "--checkpoint", "nowhere", "--out", "day/b.png", "night"])


def test_probabilities_contours_and_palette(made, tmp_path):
    photos, run, config, variables = made
    image, out = images.read_photo(photos / "b.png"), tmp_path / "out"
    common = ["predict", "--checkpoint", str(run), "--out", str(out), "--palette", "--contours"]
    for kind in ("classes", "max"):
        cli.run([*common, "--probabilities", kind, str(photos / "b.png")])
    colours = (image[::8, ::8] - np.array(config.data.mean)) / np.array(config.data.std)
    logits = colours @ variables["params"]["kernel"] + variables["batch_stats"]["mean"]
    odds = np.exp(finetuned.interpolated(logits, image.shape[:2]))
    expected = 255 * odds / odds.sum(axis=-1, keepdims=True)
    found = np.load(out / "b_probabilities.npz")
    assert found["classes"].tolist() == list(finetuned.CLASSES) and found["probabilities"].dtype == np.uint8
    np.testing.assert_allclose(found["probabilities"], expected, atol=0.51)
    most = cv2.imread(str(out / "b_probability.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(most, found["probabilities"].max(axis=-1))
    label = Image.open(out / "b.png")
    assert label.mode == "P"
    np.testing.assert_array_equal(
        np.asarray(label), finetuned.expected_labels(config, variables, image, image.shape[:2])
    )
    outlined = images.read_photo(out / "b_contours.png")
    changed = np.any(outlined != image, axis=-1)
    assert changed.any() and not changed.all()
    of_classes = np.array(label.getpalette()).reshape(-1, 3)[np.asarray(label)]
    np.testing.assert_array_equal(outlined[changed], of_classes[changed])
