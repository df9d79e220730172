"""A photo that becomes unreadable after the checks at the start of a run."""

import contextlib
import itertools
import threading

import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data.batches.bad_images import SkippingSource, bad_images
from mdp_jax.data.batches.pipeline import finetune_batches, pretrain_batches
from mdp_jax.data.label_space import build
from mdp_jax.data.sources import check_source, open_source, photos_of
from mdp_jax.errors import UserError
from tests.data.fixtures import numbered_source, write_folder, write_jpeg

GREY = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


class Damaged:
    """Photo i is of grey i; those in `broken` cannot be read. `reads` counts how often each was asked for."""

    def __init__(self, photos: int, broken):
        self._source, self.name, self.classes = numbered_source("set", 2, photos), "set", ("class0", "class1")
        self.broken, self.reads = set(broken), []

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        self.reads.append(index)
        if index in self.broken:
            raise UserError(f"p{index}.jpg is truncated; expected a whole file")
        return self._source[index]

    def describe(self, index: int) -> str:
        return f"p{index}.jpg"


def _grey(sample) -> int:
    return int(sample["image"][0, 0, 0])


def test_a_bad_photo_is_replaced_named_once_and_counted(capsys):
    inner = Damaged(200, [7])
    source = SkippingSource(inner, 0.01)
    assert bad_images(source) == 0
    first = source[7]
    assert _grey(first) != 7 and _grey(source[7]) == _grey(first)
    assert [_grey(source[i]) for i in (6, 8)] == [6, 8]
    assert inner.reads.count(7) == 1 and bad_images(source) == 1
    assert capsys.readouterr().err == (
        "mdp: skipped: p7.jpg is truncated; expected a whole file "
        "(bad photo 1 of dataset 'set', at most 2 are skipped)\n"
    )
    assert (source.name, source.classes, len(source)) == ("set", ("class0", "class1"), 200)
    assert source.describe(7) == "p7.jpg"
    assert bad_images(inner) == 0


def test_substitutes_depend_on_the_photo_and_on_what_is_bad_alone():
    one, other = SkippingSource(Damaged(50, [3, 9]), 0.1), SkippingSource(Damaged(50, [3, 9]), 0.1)
    greys = {i: _grey(one[i]) for i in (3, 9)}
    assert {i: _grey(other[i]) for i in (9, 3)} == greys
    also_bad = SkippingSource(Damaged(50, [3, 9, greys[3]]), 0.1)  # the substitute too: the next one takes its place
    assert _grey(also_bad[3]) not in (3, 9, greys[3])
    assert _grey(also_bad[9]) == greys[9] or greys[9] == greys[3]
    many = SkippingSource(Damaged(50, range(20)), 0.5)
    assert len({_grey(many[i]) for i in range(20)}) > 5  # not one photo for all of them


def test_more_bad_photos_than_the_share_stop_the_run():
    source = SkippingSource(Damaged(200, range(10, 20)), 0.015)
    for i in (10, 11, 12):
        source[i]
    with pytest.raises(UserError) as error:
        source[13]
    assert str(error.value) == (
        "dataset 'set': 4 of 200 photos are bad, the last one: p13.jpg is truncated; expected a whole file; "
        "expected at most 3, as config.data.bad_image_share=0.015 says"
    )
    with pytest.raises(UserError, match="4 of 200"):
        source[10]  # and it goes on stopping: other threads may have met the fourth


def test_one_bad_photo_is_allowed_in_the_smallest_set_and_none_where_no_other_is_left():
    source = SkippingSource(Damaged(2, [0]), 0.0)
    assert _grey(source[0]) == 1
    with pytest.raises(UserError, match=r"every photo is bad, as p0\.jpg is truncated"):
        SkippingSource(Damaged(1, [0]), 0.0)[0]


def test_threads_count_a_photo_once(capsys):
    source = SkippingSource(Damaged(100, [5]), 0.01)
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        source[5]

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad_images(source) == 1 and capsys.readouterr().err.count("p5.jpg") == 1


def _config(make, **changes):
    config = make()
    config.data.crop, config.data.photometric, config.batch = (8, 8), GREY, 8
    config.update_from_flattened_dict({"data.on_bad_image": "skip", **changes})
    return config


def _folder(tmp_path, name: str, first: int):
    """Photo i is of one grey, 10 i + first."""
    folder = write_folder(tmp_path / name, photos=8)
    for i in range(8):
        write_jpeg(folder / "images" / "train" / f"p{i}.jpg", np.full((20, 24, 3), 10 * i + first))
    return folder


def _greys(batches, count: int, key: str = "image") -> np.ndarray:
    with contextlib.closing(batches):
        return np.array([batch[key][:, 0, 0, 0] for batch in itertools.islice(batches, count)])


def test_a_photo_that_breaks_after_the_checks_is_skipped_whatever_the_threads(tmp_path, capsys):
    folder = _folder(tmp_path, "set", first=0)

    def open_one(**changes):
        config = _config(base.finetune, **changes)
        return config, open_source(base.folder("set", str(folder)), config.data, "", "train", 0)

    # Its threads may still read ahead when the photo breaks; this way they say nothing.
    config, source = open_one(**{"data.on_bad_image": "stop"})
    check_source(source, 5000)
    whole = _greys(finetune_batches(config, source, start_batch=0), 4)
    (folder / "images" / "train" / "p3.jpg").write_bytes(b"\xff\xd8 broken")
    assert (whole == 30).sum() == 4  # in each of the four epochs once
    runs = []
    for threads, start in ((1, 0), (4, 0), (2, 2)):
        config, source = open_one(**{"data.threads": threads})
        check_source(source, 5000)  # does not stop on what is within the share
        runs.append(_greys(finetune_batches(config, source, start_batch=start), 4 - start))
        assert bad_images(source) == 1
    substitute = runs[0][whole == 30]
    assert len(set(substitute.tolist())) == 1 and substitute[0] != 30
    np.testing.assert_array_equal(runs[0], np.where(whole == 30, substitute[0], whole))
    np.testing.assert_array_equal(runs[1], runs[0])
    np.testing.assert_array_equal(runs[2], runs[0][2:])
    assert capsys.readouterr().err.count("p3.jpg is truncated") == 3  # once in each run


def _webp(folder):
    (folder / "images" / "train" / "p3.jpg").unlink()
    (folder / "images" / "train" / "p3.webp").write_bytes(b"no photo")


def _gone(place):
    def break_it(folder):
        (file,) = (folder / place / "train").glob("p3.*")
        file.unlink()
        file.symlink_to(folder / "nowhere")

    return break_it


def _cut(folder):
    file = folder / "images" / "train" / "p3.jpg"
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize("break_it", [_webp, _gone("images"), _gone("masks"), _cut])
def test_the_start_of_a_run_skips_whatever_is_bad(tmp_path, break_it):
    folder, said = _folder(tmp_path, "set", first=0), []
    break_it(folder)

    def open_one(how):
        data = _config(base.finetune, **{"data.on_bad_image": how}).data
        return open_source(base.folder("set", str(folder)), data, "", "train", 0)

    source = open_one("skip")
    check_source(source, 5000, said.append)
    assert bad_images(source) == 1 and said == []
    assert photos_of(source)["count"] == 8 and photos_of(source) == photos_of(open_one("skip"))
    with pytest.raises(UserError, match="p3"):
        check_source(open_one("stop"), 5000)


def test_two_bad_photos_of_eight_stop_the_pretraining(tmp_path):
    folders = [_folder(tmp_path, name, first) for name, first in (("one", 0), ("two", 5))]
    config = _config(base.pretrain)
    opened = [open_source(base.folder(f.name, str(f)), config.data, "", "train", 0) for f in folders]
    batches = pretrain_batches(config, opened, build(opened), start_batch=0)
    with contextlib.closing(batches):
        next(batches)
        for name in ("p2", "p6"):
            (folders[1] / "images" / "train" / f"{name}.jpg").write_bytes(b"?")
        with pytest.raises(UserError, match=r"dataset 'two': 2 of 8 photos are bad.*p[26]\.jpg is unreadable") as error:
            for _ in range(20):
                next(batches)
    assert "\n" not in str(error.value)


def test_the_default_stops_at_the_photo_and_evaluation_never_skips(tmp_path):
    folder = _folder(tmp_path, "set", first=0)
    config = _config(base.finetune, **{"data.on_bad_image": "stop"})
    source = open_source(base.folder("set", str(folder)), config.data, "", "train", 0)
    for split in ("train", "val"):
        (folder / "images" / split / "p3.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UserError, match=r"p3\.jpg is truncated"):
        _greys(finetune_batches(config, source, start_batch=0), 4)
    config = _config(base.finetune)
    photos = open_source(base.folder("set", str(folder)), config.data, "", "val", 0)
    with pytest.raises(UserError, match=r"p3\.jpg is truncated"):
        check_source(photos, 5000)
