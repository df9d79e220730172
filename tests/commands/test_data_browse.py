"""mdp data browse: which pairs and photos are shown, and what is written."""

import html.parser
import pathlib

import cv2
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax.data.doctor import examples
from tests.data import official
from tests.data.fixtures import MemorySource, write_folder, write_png

CONFIG = """
from mdp_jax import configs as base


def get_config():
    config = base.{loop}()
    {datasets}
    config.model.backbone = "resnet18"
    config.model.width = 0.0625
    config.data.crop = (32, 32)
    config.batch = 8
    config.steps = 2
    return config
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Two folder datasets and a config of each loop in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_folder(pathlib.Path("streets"), size=(40, 50))
    write_folder(pathlib.Path("rooms"), classes=("bed", "lamp"), size=(40, 50))
    both = 'config.sources = tuple(base.folder(name, root=name) for name in ("streets", "rooms"))'
    one = 'config.dataset = base.folder("streets", root="streets")'
    pathlib.Path("pretrain.py").write_text(CONFIG.format(loop="pretrain", datasets=both))
    pathlib.Path("finetune.py").write_text(CONFIG.format(loop="finetune", datasets=one))


def run(capsys, *arguments):
    """Exit status and stderr of `mdp data browse`."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", "browse", *arguments])
    return exit_.value.code, capsys.readouterr().err


class Page(html.parser.HTMLParser):
    """Pictures and words of a page."""

    def __init__(self, file: str):
        super().__init__()
        self.images, self.words = [], ""
        self.feed(pathlib.Path(file).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.words += data


def batches_of(kinds: list[list[int]]) -> list[dict]:
    """Batches with these kinds of mixing; sample i of the run is all i."""
    batches, first = [], 0
    for row in kinds:
        numbers = np.arange(first, first + 2 * len(row), dtype=np.int32)
        first += 2 * len(row)
        image = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (len(numbers), 2, 2, 3))
        batches.append({"image": image, "dataset": numbers, "mix_kind": np.array(row), "lam": np.ones(len(row))})
    return batches


def test_pairs_of_each_kind_in_the_order_of_the_run():
    shares = {"plain": 0.5, "region": 0.25, "pixel": 0.25}
    endless = iter(batches_of([[0, 0, 1], [0, 1, 0], [1, 2, 2], [2, 2, 2]]))
    chosen = examples.pairs_of_each_kind(endless, 4, shares)
    assert chosen["mix_kind"].tolist() == [0, 0, 1, 2]
    assert chosen["dataset"].tolist() == [0, 1, 2, 3, 4, 5, 14, 15]
    assert chosen["image"][:, 0, 0, 0].tolist() == chosen["dataset"].tolist()
    assert len(list(endless)) == 1


def test_every_kind_of_mixing_is_shown_once_and_none_that_does_not_exist():
    batches = batches_of([[0, 0, 2, 1, 0, 2]])
    chosen = examples.pairs_of_each_kind(iter(batches), 1, {"plain": 0.8, "region": 0.1, "pixel": 0.1})
    assert chosen["mix_kind"].tolist() == [0, 2, 1]
    plain = examples.pairs_of_each_kind(iter(batches_of([[0, 0, 0]])), 2, {"plain": 1.0, "region": 0.0, "pixel": 0.0})
    assert plain["mix_kind"].tolist() == [0, 0]


def test_a_kind_that_does_not_come_is_not_waited_for_for_ever():
    def endless():
        while True:
            yield batches_of([[0, 0]])[0]

    chosen = examples.pairs_of_each_kind(endless(), 4, {"plain": 0.75, "region": 0.25, "pixel": 0.0})
    assert chosen["mix_kind"].tolist() == [0, 0, 0]


def test_photos_that_a_class_fills_most_of():
    labels = [np.full((4, 5), -1, np.int16) for _ in range(4)]
    labels[0][0] = 0  # a quarter
    labels[2][:3] = 0
    labels[3][:2] = 0
    labels[3][2:] = 1
    samples = [(np.zeros((4, 5, 3), np.uint8), label) for label in labels]
    source, done = MemorySource("set", ("sky", "tree", "road"), samples), []
    best = examples.photos_of_each_class(source, [0, 1, 2, 3], 2, done.append)
    assert best == {"sky": [2, 3], "tree": [3], "road": []} and done == [1, 2, 3, 4]
    best = examples.photos_of_each_class(source, [0, 3], 2, done.append)
    assert best == {"sky": [3, 0], "tree": [3], "road": []}


def test_a_pretraining_config(capsys):
    status, _ = run(capsys, "--config", "pretrain.py", "--out", "sheets/here", "--count", "16")
    assert status == 0
    page, picture = Page("sheets/here/pretrain.html"), cv2.imread("sheets/here/pretrain.png")
    assert len(page.images) == 4 and all(source.startswith("data:image/png;base64,") for source in page.images)
    for words in ("streets", "rooms", "Pairs 1 to 2", "Pairs 7 to 8", "region 25.0 %"):
        assert words in page.words
    assert picture.shape[0] > 2000 and picture.shape[1] > 1000


def test_a_finetuning_config_shows_as_many_samples_as_asked_for(capsys):
    status, _ = run(capsys, "--config", "finetune.py", "--count", "11")  # more than a batch
    assert status == 0
    page = Page("contact_sheet/finetune.html")
    assert len(page.images) == 3 and "Samples 9 to 11" in page.words


def test_a_dataset_by_name(capsys):
    for file in pathlib.Path("streets/masks/val").iterdir():
        write_png(file, np.ones((40, 50)))
    write_png(pathlib.Path("streets/masks/val/p2.png"), np.zeros((40, 50)))
    status, _ = run(capsys, "streets", "--data_dir", ".", "--split", "val", "--count", "2")
    assert status == 0
    page = Page("contact_sheet/streets.html")
    assert len(page.images) == 1
    assert "sky: p2.jpg; tree: p0.jpg, p1.jpg." in page.words and "In none of them: road." in page.words
    assert cv2.imread("contact_sheet/streets.png").shape[1] > 500


@pytest.mark.parametrize("name", ["streets/", "../{}/streets"])
def test_a_name_with_folders_in_it(capsys, name):
    status, _ = run(capsys, name.format(pathlib.Path().resolve().name), "--data_dir", ".", "--count", "1")
    assert status == 0
    assert {path.name for path in pathlib.Path("contact_sheet").iterdir()} == {"streets.png", "streets.html"}


@pytest.mark.parametrize("name", [".", "images/.."])
def test_a_name_without_a_last_part(capsys, name):
    assert run(capsys, name, "--data_dir", "streets", "--count", "1")[0] == 0
    assert {path.name for path in pathlib.Path("contact_sheet").iterdir()} == {"streets.png", "streets.html"}


def test_the_colours_of_an_official_dataset(capsys):
    official.make_voc(pathlib.Path("data"))
    status, _ = run(capsys, "voc", "--data_dir", "data", "--count", "1")
    assert status == 0
    picture = cv2.cvtColor(cv2.imread("contact_sheet/voc.png"), cv2.COLOR_BGR2RGB).reshape(-1, 3)
    for index in (1, 15, 20):
        assert np.all(picture == official.voc_colours()[index], axis=-1).sum() > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "pretrain.py", "--count", "0"), "--count: 0: expected a whole number from 1"),
        (("--config", "finetune.py", "--count", "9" * 12), "--count 999999999999: expected at most 1000"),
        (("--config", "pretrain.py", "--split", "val"), "--split val: belongs to NAME"),
        (("--config", "pretrain.py", "--out", "pretrain.py"), "--out pretrain.py: a file; expected a folder"),
        (("--config", "pretrain.py", "--config.data.crop=(30,32)"), "config.data.crop=(30, 32): expected height"),
        (("--config", "finetune.py", "--config.dataset.root=x"), "x of dataset 'streets' is no folder"),
        (("streets", "--data_dir", ".", "--split", "test"), "streets/images/test is no folder"),
        ((), "mdp data browse: expected NAME or --config FILE, one of them"),
    ],
)
def test_wrong_use_writes_nothing(capsys, arguments, message):
    status, err = run(capsys, *arguments)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not pathlib.Path("contact_sheet").exists()


def test_a_bad_photo_is_one_line(capsys):
    for file in pathlib.Path("rooms/images/train").iterdir():
        file.write_text("no photo")
    status, err = run(capsys, "--config", "pretrain.py")
    assert status == 2 and err.splitlines()[-1].startswith("mdp: rooms/images/train/")
    assert "Traceback" not in err and not pathlib.Path("contact_sheet").exists()
