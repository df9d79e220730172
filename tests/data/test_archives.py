import io
import os
import shutil
import tarfile
import zipfile

import pytest

from mdp_jax.data.prepared import archives
from mdp_jax.errors import UserError

FILES = {"images/a.jpg": b"photo a", "images/deep/b.jpg": b"photo b" * 1000, "classes.txt": b"sky\n"}


def write_zip(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("images")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files=FILES, mode="w", **changes):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def extract(data_dir, *paths, root="set", others=()):
    done = []
    found = archives.extract([str(path) for path in paths], data_dir, root, lambda *counts: done.append(counts))
    assert found == [data_dir / name for name in others]
    return done


def there(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_unpacks_zip_and_tar(name, tmp_path):
    archive = write_zip(tmp_path / name) if name == "a.zip" else write_tar(tmp_path / name, mode="w:" + name[6:])
    assert extract(tmp_path / "d", archive) == [(1, 3), (2, 3), (3, 3)]
    assert there(tmp_path / "d") == FILES


def test_official_archives_go_to_their_places(tmp_path):
    one = {"x/1.jpg": b"1"}
    for name, root, place in (
        ("VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012", ""),
        ("ADEChallengeData2016.zip", "ade/ADEChallengeData2016", "ade"),
        ("train2017.zip", "coco_stuff164k", "coco_stuff164k/images"),
        ("stuffthingmaps_trainval2017.zip", "coco_stuff164k", "coco_stuff164k/annotations"),
        ("gtFine_trainvaltest.zip", "cityscapes", "cityscapes"),
        ("mine.zip", "cityscapes", ""),
    ):
        write = write_tar if name.endswith(".tar") else write_zip
        extract(tmp_path / name[:4], write(tmp_path / name, one), root=root)
        assert there(tmp_path / name[:4]) == {os.path.join(place, "x", "1.jpg"): b"1"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_goes_on_with_what_is_missing_or_short(name, tmp_path):
    archive = write_zip(tmp_path / name) if name == "a.zip" else write_tar(tmp_path / name, mode="w:gz")
    extract(tmp_path / "d", archive)
    (tmp_path / "d" / "images" / "a.jpg").unlink()
    (tmp_path / "d" / "images" / "deep" / "b.jpg").write_bytes(b"photo")
    (tmp_path / "d" / "classes.txt").write_bytes(b"mine")
    assert extract(tmp_path / "d", archive, others=["classes.txt"]) == [(1, 2), (2, 2)]
    assert there(tmp_path / "d") == FILES | {"classes.txt": b"mine"}  # of the same size


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "images/../../evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_entries_outside_the_folder_are_refused_before_anything_is_written(name, write, tmp_path):
    archive = write(tmp_path / "bad", FILES | {name: b"x"})
    with pytest.raises(UserError, match=r"--archive .*bad: entry .*evil\.txt' leads out of .*/d; nothing was") as error:
        extract(tmp_path / "d", write_zip(tmp_path / "good.zip"), archive)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"bad", "good.zip"}


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "x"), (tarfile.CHRTYPE, "")])
def test_links_and_devices_are_refused(kind, target, tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"images": b""}, type=kind, linkname=target)
    with pytest.raises(UserError, match="entry 'images' is a link or device; expected files alone"):
        extract(tmp_path / "d", archive)
    assert not (tmp_path / "d").exists()


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    write_zip(tmp_path / "inner.zip")
    write_tar(tmp_path / "set.tar", {"set/inner.zip": (tmp_path / "inner.zip").read_bytes()})
    extract(tmp_path / "data", tmp_path / "set.tar")
    assert list(there(tmp_path / "data")) == ["set/inner.zip"]


def test_damaged_archives(tmp_path):
    whole = write_zip(tmp_path / "a.zip").read_bytes()
    at = whole.index(b"classes.txt") + len("classes.txt")
    (tmp_path / "a.zip").write_bytes(whole[: at + 1] + bytes([whole[at + 1] ^ 255]) + whole[at + 2 :])
    with pytest.raises(UserError, match=r"a\.zip: .*classes\.txt cannot be unpacked"):
        extract(tmp_path / "d", tmp_path / "a.zip")
    assert not list((tmp_path / "d").rglob("classes.txt*"))
    cut = write_tar(tmp_path / "a.tar.gz", {"a": os.urandom(100_000)}, mode="w:gz")
    cut.write_bytes(cut.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"a\.tar\.gz is damaged"):
        extract(tmp_path / "e", cut)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match=r"a\.txt: neither zip nor tar, or damaged; expected an archive"):
        extract(tmp_path / "e", tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"--archive .*none\.zip.*No such file.*; expected a zip or tar file"):
        extract(tmp_path / "e", tmp_path / "none.zip")
    assert not (tmp_path / "e").exists()


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_flipped_byte_in_the_middle(name, tmp_path):
    """Noise does not compress: the byte lies in the content of a file, which keeps its size."""
    files = {"1.jpg": os.urandom(5000), "2.jpg": os.urandom(5000)}
    archive = tmp_path / name
    if name == "a.zip":
        write_zip(archive, files)
    else:
        write_tar(archive, files, mode=f"w:{archive.suffix[1:]}")
    flip(archive, 4000)
    with pytest.raises(UserError, match=r"--archive .*a\..*(damaged|cannot be unpacked)"):
        extract(tmp_path / "d", archive)
    assert not any((tmp_path / "d").rglob("1.jpg*"))


def test_a_damaged_stream_in_a_zip(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.txt": bytes(range(256)) * 200})
    with zipfile.ZipFile(archive) as of:
        start = of.getinfo("a.txt").header_offset + 30 + len("a.txt")
    data = bytearray(archive.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip: .*a\.txt cannot be unpacked"):
        extract(tmp_path / "d", archive)


def test_an_official_archive_that_belongs_above_data_dir(tmp_path):
    archive = write_tar(tmp_path / "VOCtrainval_11-May-2012.tar")
    with pytest.raises(UserError, match=r"--root voc: expected at least 2 folders, one in the other, for --archive"):
        extract(tmp_path / "d" / "data", archive, root="voc")
    assert not (tmp_path / "d").exists()


def test_no_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=65 << 20))
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(2 << 20)})
    with pytest.raises(UserError, match="unpacking needs about 66 MiB, of which 65 MiB are free there; nothing was"):
        extract(tmp_path / "d", archive)
    assert not (tmp_path / "d").exists()
