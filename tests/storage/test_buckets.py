"""Objects of buckets on two emulators: whole, made once, tried again, listed, refused in one line."""

import contextlib
import os
import pathlib
import pickle
import threading
import time

import numpy as np
import pytest

from mdp_jax import configs
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.kinds.folder import FolderSource
from mdp_jax.data.prepared.preparation import prepare
from mdp_jax.data.sources import photos_of
from mdp_jax.errors import TransientError, UserError
from mdp_jax.storage import buckets, checkpoints, leases, photo_cache
from mdp_jax.storage.bucket_checkpoints import open_checkpoints
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.locks import locked
from mdp_jax.storage.metrics_file import Rows, read_metrics
from mdp_jax.storage.paths import as_path, expanded, joined, make_folder
from mdp_jax.training.monitor import BucketBoard
from tests.data import official
from tests.data.fixtures import write_folder
from tests.storage.emulators import copied, started


@pytest.fixture(scope="module")
def storages():
    with started("s3") as s3, started("gs") as gs:
        yield {"s3": s3, "gs": gs}


@pytest.fixture(params=["s3", "gs"])
def storage(storages, request):
    return storages[request.param]


@pytest.fixture
def s3(storages):
    """S3 alone, for what does not depend on the storage; with nothing in it."""
    found = storages["s3"]
    buckets.delete_folder(found.url)
    found.requests.clear()
    return found


def test_objects_are_whole_and_made_once(storage, tmp_path):
    place = f"{storage.url}/objects"
    assert buckets.entry(place) is None and buckets.entries(place) == {} and buckets.nested(place) == {}
    with pytest.raises(FileNotFoundError):
        buckets.read(f"{place}/a.txt")
    buckets.write(f"{place}/a.txt", b"one")
    first = buckets.entry(f"{place}/a.txt")
    buckets.write(f"{place}/a.txt", b"two!")
    assert buckets.read(f"{place}/a.txt") == b"two!"
    assert buckets.entry(f"{place}/a.txt").size == 4 and buckets.entry(f"{place}/a.txt").version != first.version
    assert buckets.entry(place).folder and not buckets.entry(f"{place}/a.txt").folder
    assert buckets.entry(f"{place}/a") is None, "the beginning of a name is no folder"
    assert [buckets.create(f"{place}/lock", content) for content in (b"x", b"y", b"x")] == [True, False, True]
    assert buckets.read(f"{place}/lock") == b"x"
    for content in (b"", b"\0", b"a\r", b"\r\n", b"\n\n--", bytes(range(256))):
        buckets.write(f"{place}/b c", content)
        assert buckets.read(f"{place}/b c") == content
    buckets.delete([f"{place}/b c"])
    (tmp_path / "up" / "in").mkdir(parents=True)
    (tmp_path / "up" / "in" / "b").write_bytes(bytes(range(256)) * 100)
    buckets.upload_folder(tmp_path / "up", f"{place}/up")
    buckets.download_folder(f"{place}/up", tmp_path / "down")
    assert (tmp_path / "down" / "in" / "b").read_bytes() == (tmp_path / "up" / "in" / "b").read_bytes()
    assert set(buckets.entries(place)) == {"a.txt", "lock", "up"}
    assert set(buckets.nested(place)) == {"a.txt", "lock", "up/in/b"}
    buckets.delete([f"{place}/lock", f"{place}/was never there"])
    buckets.delete_folder(place)
    assert buckets.entries(place) == {}


@pytest.mark.parametrize("faults", [["503", "503"], ["cut"], ["slow"]])
def test_what_fails_for_a_moment_is_tried_again(storage, faults):
    url = f"{storage.url}/faults/{faults[0]}"
    buckets.write(url, b"0123456789" * 50)
    storage.faults[:] = faults
    assert buckets.read(url) == b"0123456789" * 50
    assert not storage.faults
    storage.faults[:] = [fault for fault in faults if fault == "503"]
    buckets.write(url, b"again")
    assert buckets.read(url) == b"again"


def test_a_lock_whose_answer_was_lost_is_ours(storage):
    storage.faults[:] = ["lost"]
    assert buckets.create(f"{storage.url}/lost/lock", b"mine")
    assert not buckets.create(f"{storage.url}/lost/lock", b"theirs")


def test_what_fails_for_longer_is_one_line(s3, monkeypatch):
    monkeypatch.setenv(buckets.PATIENCE, "0.5")
    s3.faults[:] = ["503"] * 30
    with pytest.raises(TransientError, match=r"s3://mdp-tests/x: the storage does not answer \(status 503; tried for"):
        buckets.write(f"{s3.url}/x", b"")
    s3.faults.clear()
    monkeypatch.setenv(buckets.PATIENCE, "soon")
    s3.faults[:] = ["503"] * 3
    with pytest.raises(UserError, match="expected a number of seconds"):
        buckets.write(f"{s3.url}/x", b"")


def test_rights_buckets_and_credentials_are_checked_before(storage, monkeypatch):
    with pytest.raises(UserError, match=r"--workdir .*/run: no such bucket 'no-such-bucket'; expected one that exists"):
        buckets.require_usable(f"{storage.scheme}://no-such-bucket/run", "--workdir")
    storage.refuses = {"PUT", "POST"}
    try:
        with pytest.raises(UserError, match=r"^--workdir \S+/run: these credentials have no right to write there"):
            buckets.require_usable(f"{storage.url}/run", "--workdir")
        storage.refusal = 401
        with pytest.raises(
            UserError, match=rf"^--workdir \S+/run: no credentials for {storage.scheme}://.*; expected "
        ):
            buckets.require_usable(f"{storage.url}/run", "--workdir")
    finally:
        storage.refuses, storage.refusal = set(), 403
    buckets.require_usable(f"{storage.url}/run", "--workdir")
    assert buckets.entries(f"{storage.url}/run") == {}, "nothing is left behind"
    if storage.scheme == "s3":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        buckets.forget()
        with pytest.raises(UserError, match=r"no credentials for s3://.*expected AWS_ACCESS_KEY_ID"):
            buckets.require_usable(f"{storage.url}/run", "--workdir")
        buckets.forget()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hdfs://name/x", "paths of hdfs:// are not read; expected a path of this machine, or one of a bucket"),
        ("http://host/x", "paths of http://"),
        ("file:///x", "paths of file://"),
        ("s3:///x", "names no bucket; expected s3://BUCKET/FOLDER"),
        ("gs:/bucket/x", "expected two slashes, as in gs://BUCKET/FOLDER"),
    ],
)
def test_other_schemes_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        expanded(text)


def test_names_that_only_look_like_a_scheme_are_of_this_machine():
    for text in ("c:/x", "a:b", "run:/x/y", "x/s3://y"):
        assert not isinstance(expanded(text), BucketPath)


def test_paths_of_buckets_have_the_form_of_pathlib():
    path = expanded("s3://bucket/runs/one.tar.gz")
    assert isinstance(path, BucketPath) and str(path) == os.fspath(path) == "s3://bucket/runs/one.tar.gz"
    assert str(path / "a" / "b") == "s3://bucket/runs/one.tar.gz/a/b" and str(path.parent) == "s3://bucket/runs"
    assert (path.name, path.suffix, path.stem) == ("one.tar.gz", ".gz", "one.tar")
    assert str(path.with_name("x.png")) == "s3://bucket/runs/x.png" and str(path.absolute()) == str(path)
    assert path.relative_to(BucketPath("s3://bucket")) == pathlib.Path("runs/one.tar.gz")
    assert pickle.loads(pickle.dumps(path)) == path == as_path(str(path)) and expanded(path) is path
    assert str(joined("gs://b/data", "voc")) == "gs://b/data/voc"
    assert joined("gs://b/data", "/disk") == pathlib.Path("/disk") and str(joined("/disk", "gs://b")) == "gs://b"
    with pytest.raises(NotImplementedError, match="rename of a path of a bucket"):
        path.rename("x")
    refused = [name for name in vars(pathlib.Path) if not name.startswith("_") and name not in vars(pathlib.PurePath)]
    assert all(name in vars(BucketPath) for name in refused), "pathlib's own would look on this machine"
    assert make_folder(path, "--out") is path


def test_metrics_are_parts_that_are_read_as_one(storage, monkeypatch):
    monkeypatch.setattr("mdp_jax.storage.metrics_file._LONG", 60)
    folder = BucketPath(f"{storage.url}/metrics-run")
    assert read_metrics(folder) == []
    (folder / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n')  # of a workdir that was copied
    assert [row["step"] for row in read_metrics(folder)] == [1, 2]
    rows = Rows(folder, [{"step": 1}])
    for step in range(2, 9):
        rows.append({"step": step, "loss": 0.5})
    assert [row["step"] for row in read_metrics(folder)] == list(range(1, 9))
    assert len(buckets.entries(str(folder / "metrics"))) > 2
    # Killed between the new generation's first part and the end of the old one: the new one counts.
    with monkeypatch.context() as patch:
        patch.setattr(buckets, "delete", lambda urls: None)
        Rows(folder, [{"step": 1}]).append({"step": 2})
    assert [row["step"] for row in read_metrics(folder)] == [1, 2]
    Rows(folder, [{"step": 1}])
    assert len(buckets.entries(str(folder / "metrics"))) == 1


def test_events_are_files_that_are_whole(s3, monkeypatch):
    monkeypatch.setattr("mdp_jax.training.monitor._LONG", 500)
    board = BucketBoard(BucketPath(f"{s3.url}/run"), 1)
    for step in range(1, 31):
        board.add("loss", 0.5, step)
        board.flush()
    board.close()
    names = sorted(buckets.entries(f"{s3.url}/run"))
    assert len(names) > 2
    found = []
    for name in names:
        data = buckets.read(f"{s3.url}/run/{name}")
        while data:  # a record: its length, a checksum, the event, a checksum
            length = int.from_bytes(data[:8], "little")
            found.append(data[12 : 12 + length])
            data = data[16 + length :]
    assert sum(b"loss" in event for event in found) == 30
    assert sum(b"brain.Event:2" in event for event in found) == len(names)


def test_one_run_holds_a_folder(storage, monkeypatch, capsys):
    monkeypatch.setattr(leases, "_RENEWED", 0.1)
    folder = BucketPath(f"{storage.url}/held")
    lock = lambda: locked(folder, "run.lock", "--workdir", "another run of mdp")  # noqa: E731
    with lock():
        with pytest.raises(UserError, match=r"--workdir \S+/held: in use by another run of mdp"), lock():
            pass
        assert "was not given back" in capsys.readouterr().err
    assert buckets.entries(str(folder)) == {}, "given back"
    # Killed elsewhere: after a while without a renewal the next one takes it.
    monkeypatch.setattr(leases, "_SILENT", 1.0)
    buckets.write(
        f"{folder}/run.lock.0", b'{"token": "t", "host": "h", "pid": 1, "of": "another machine", "renewals": 5}'
    )
    with lock():
        assert set(buckets.entries(str(folder))) == {"run.lock.1"}
        # This process stood still: another one has taken the next number.
        buckets.create(f"{folder}/run.lock.2", b"{}")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                leases.require_held(str(folder))
            except UserError as error:
                assert "another run went on in this folder" in str(error)
                break
            time.sleep(0.05)
        else:
            pytest.fail("nobody noticed")
    # Killed here: at once.
    buckets.delete([f"{folder}/run.lock.2"])
    dead = {"token": "t", "host": "h", "pid": 2**22 + 5, "of": leases._machine(), "renewals": 5}
    buckets.write(f"{folder}/run.lock.7", str(dead).replace("'", '"').encode())
    began = time.monotonic()
    monkeypatch.setattr(leases, "_SILENT", 60.0)
    with lock():
        assert time.monotonic() - began < 30


def test_checkpoints_in_a_bucket(storage, tmp_path):
    folder = BucketPath(f"{storage.url}/checkpoints-run")
    kept = open_checkpoints(folder, keep=2, keep_every=4)
    states = {step: {"step": np.int32(step), "params": {"w": np.full(8, step, np.float32)}} for step in (2, 4, 5, 6)}
    for step in (2, 4, 5, 6):
        kept.save(step, states[step], {"is": step})
    kept.close()
    assert checkpoints.steps_in(folder / "checkpoints") == [4, 5, 6]
    found = checkpoints.load(folder)
    assert found.meta == {"is": 6}
    np.testing.assert_array_equal(found.state["params"]["w"], states[6]["params"]["w"])
    # Copied to a disk it is a workdir, and the other way round.
    buckets.download_folder(str(folder), tmp_path / "run")
    assert checkpoints.load(tmp_path / "run").meta == {"is": 6}
    copied(tmp_path / "run", f"{storage.url}/copied-run")
    assert checkpoints.choose(f"{storage.url}/copied-run", 5).step == 5
    # An upload that was cut off is no checkpoint; one with a flipped bit is passed over.
    buckets.delete([f"{folder}/checkpoints/6/{checkpoints.COMMITTED}"])
    data = next(name for name in buckets.nested(f"{folder}/checkpoints/5/state") if "/d/" in name)
    url = f"{folder}/checkpoints/5/state/{data}"
    content = bytearray(buckets.read(url))
    content[len(content) // 2] ^= 1
    buckets.write(url, bytes(content))
    said: list[str] = []
    assert checkpoints.load(folder, said.append).meta == {"is": 4} or not said
    again = open_checkpoints(folder, keep=2)
    assert checkpoints.steps_in(folder / "checkpoints") == [4, 5]
    again.save(6, states[6], {"is": 6})  # over what is left of the upload
    again.close()
    assert checkpoints.load(folder).meta == {"is": 6}


class Killed(BaseException):
    """In place of the end of a process: nothing catches it."""


@pytest.mark.parametrize("at", [1, 6, 11, "first of the last", "last"])
def test_a_kill_at_any_request_leaves_a_checkpoint(s3, at, monkeypatch):
    """A save writes about 15 objects, by a library; then it deletes the older step: what commits it, then the rest."""
    folder = BucketPath(f"{s3.url}/killed-{at}")
    states = [{"step": np.int32(step), "params": {"w": np.full(8, step, np.float32)}} for step in range(4)]
    kept = open_checkpoints(folder, keep=1)
    kept.save(1, states[1], {"is": 1})
    kept.close()
    asked: list[str] = []

    def dying(name, request):
        def method(*args, **options):
            asked.append(name)
            deletes = asked[asked.index("upload") :].count("delete") if "upload" in asked else 0
            if "killed" in asked or at in (len(asked), {1: "first of the last", 2: "last"}.get(deletes)):
                asked.append("killed")
                raise Killed(name)
            return request(*args, **options)

        return method

    with monkeypatch.context() as patch:
        patch.setattr(buckets, "together", lambda function, items: [function(item) for item in items])
        for name in ("upload", "delete"):
            patch.setattr(buckets, name, dying(name, getattr(buckets, name)))
        dead = open_checkpoints(folder, keep=1)
        dead.save(2, states[2], {"is": 2})
        with contextlib.suppress(Killed):
            dead.close()
    assert "killed" in asked
    found = checkpoints.load(folder)
    assert found.meta["is"] in (1, 2) and found.state["params"]["w"][0] == found.meta["is"]
    again = open_checkpoints(folder, keep=1)
    for step in range(found.meta["is"] + 1, 4):
        again.save(step, states[step], {"is": step})
    again.close()
    assert checkpoints.steps_in(folder / "checkpoints") == [3] and checkpoints.load(folder).meta == {"is": 3}
    assert set(buckets.entries(f"{folder}/checkpoints")) == {"3"}, "nothing is left of what was cut off"


def test_an_epoch_reads_the_network_once(storage, tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", photos=5)
    copied(root, f"{storage.url}/data/set")
    photo_cache.choose(str(tmp_path / "cache"), 1.0)
    config = configs.folder("set", root="set")
    ours = FolderSource(config, f"{storage.url}/data", "train")
    theirs = FolderSource(config, str(tmp_path), "train")
    for index in range(5):
        np.testing.assert_array_equal(ours[index]["image"], theirs[index]["image"])
        np.testing.assert_array_equal(ours[index]["label"], theirs[index]["label"])
    assert photos_of(ours) == photos_of(theirs), "a run may go on with a copy of its photos in a bucket"
    storage.requests.clear()
    for index in range(5):
        ours[index]
    assert not storage.requests, "the second epoch reads copies"
    assert [ours.describe(index) for index in range(5)] == [theirs.describe(index) for index in range(5)]
    with pytest.raises(UserError, match=r"/data/none of dataset 'set' is no folder"):
        FolderSource(configs.folder("set", root="none"), f"{storage.url}/data", "train")


def test_the_cache_is_bounded_and_sees_what_is_written_again(s3, tmp_path):
    for index in range(6):
        buckets.write(f"{s3.url}/photos/{index}.jpg", bytes([index]) * 1000)
    folder = tmp_path / "cache"
    cache = photo_cache.Cache(folder, 4000)
    held = lambda: sum(file.stat().st_size for file in folder.rglob("*.jpg"))  # noqa: E731
    for index in range(6):
        url = f"{s3.url}/photos/{index}.jpg"
        assert cache.local(url, buckets.entry(url)).read_bytes() == bytes([index]) * 1000
        assert held() <= 4000
    s3.requests.clear()
    cache.local(url, buckets.Entry(False, 1000, buckets.entry(url).version))
    assert [method for method, _ in s3.requests] == ["HEAD"], "only what this test has asked"
    buckets.write(url, b"n" * 1000)
    assert cache.local(url, buckets.entry(url)).read_bytes() == b"n" * 1000
    assert cache.local(url, buckets.Entry(False, 3900, "x")) is None, "too large to be kept"
    assert photo_cache.Cache(folder, 1500)._held <= 1500
    with pytest.raises(UserError, match=r"shards: 9\.31 GiB.*expected config\.data\.cache_gb of at least 11"):
        cache.require_room(10**10, "shards")
    (tmp_path / "file").write_text("")
    photo_cache.choose(str(tmp_path / "file"), 1.0)
    with pytest.raises(UserError, match=r"config\.data\.cache_dir.*expected a folder to write to"):
        photo_cache.in_use()
    photo_cache.choose(f"{s3.url}/cache", 1.0)
    with pytest.raises(UserError, match="in a bucket; expected a path of this machine"):
        photo_cache.in_use()


MADE = {"voc": official.make_voc, "ade20k": official.make_ade20k, "coco_stuff": official.make_coco_stuff}
MADE |= {"cityscapes": official.make_cityscapes}


def test_official_directories_and_shards(s3, tmp_path):
    for make in MADE.values():
        make(tmp_path / "data")
    raw = {"train": FolderSource(configs.folder("set", str(write_folder(tmp_path / "raw"))), "", "train")}
    prepare("set", "folder", raw, tmp_path / "data" / "prepared" / "set", 1, 10**6)
    copied(tmp_path / "data", f"{s3.url}/data")
    photo_cache.choose(str(tmp_path / "cache"), 1.0)
    every = {name: getattr(configs, name)() for name in MADE} | {"array_record": configs.array_record("set")}
    for name, config in every.items():
        ours, theirs = (
            KINDS[name].source(config, folder, "train") for folder in (f"{s3.url}/data", f"{tmp_path}/data")
        )
        assert len(ours) == len(theirs) > 1 and ours.passed_over.keys() == {
            path.replace(str(tmp_path), s3.url) for path in theirs.passed_over
        }
        for index in (0, len(ours) - 1):
            assert ours.describe(index) == theirs.describe(index)
            np.testing.assert_array_equal(ours[index]["image"], theirs[index]["image"])
            np.testing.assert_array_equal(ours[index]["label"], theirs[index]["label"])
    photo_cache.choose(str(tmp_path / "small"), 1e-6)
    with pytest.raises(UserError, match=r"the shards of train: .*cache_gb of at least"):
        KINDS["array_record"].source(every["array_record"], f"{s3.url}/data", "train")
    with pytest.raises(UserError, match="in a bucket, where TensorFlow Datasets is not read"):
        KINDS["tfds"].source(configs.tfds("set", classes=("a",)), f"{s3.url}/data", "train")


def test_many_threads_share_a_cache(s3, tmp_path):
    for index in range(8):
        buckets.write(f"{s3.url}/many/{index}.jpg", bytes([index]) * 3000)
    photo_cache.choose(str(tmp_path / "cache"), 12000 / 2**30)
    wrong: list[str] = []

    def read(start):
        for step in range(24):
            index = (start + step) % 8
            if photo_cache.read_bytes(f"{s3.url}/many/{index}.jpg", "a photo") != bytes([index]) * 3000:
                wrong.append(str(index))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
