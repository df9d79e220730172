"""Checkpoints: what is read is what was saved; damage is noticed and the step before taken."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.checkpoints import Checkpoints


def state(step):
    return {"step": jnp.int32(step), "params": {"kernel": jnp.arange(2000.0) * step, "half": jnp.ones(3, jnp.bfloat16)}}


TARGET = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=SingleDeviceSharding(jax.devices()[0])), state(0)
)


@pytest.fixture
def workdir(tmp_path):
    """A folder with checkpoints of the steps 1, 2 and 3."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {"next_batch": step})
    checkpoints.close()
    return tmp_path


def flip_a_bit(folder: pathlib.Path):
    """Changes one bit in the middle of the largest file under a checkpoint."""
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(folder):
    for file in (folder / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def change_meta(folder):
    file = folder / "meta" / "metadata"
    text = file.read_text()
    assert '"next_batch": 3' in text
    file.write_text(text.replace('"next_batch": 3', '"next_batch": 1'))


def without_state(folder):
    shutil.rmtree(folder / "state")


def without_a_file(folder):
    max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size).unlink()


def test_restores_the_newest_bit_for_bit(workdir):
    restored, meta = checkpoint.load(workdir)
    assert meta == {"next_batch": 3}
    jax.tree.map(np.testing.assert_array_equal, restored, state(3))
    assert restored["params"]["half"].dtype == jnp.bfloat16


@pytest.mark.parametrize("damage", [flip_a_bit, change_meta, truncate, empty, without_state, without_a_file])
def test_damage_falls_back_to_the_step_before(workdir, damage):
    damage(workdir / "checkpoints" / "3")
    said = []
    checkpoints = Checkpoints(workdir, keep=3)
    restored, meta = checkpoints.restore(TARGET, say=said.append)
    assert (int(restored["step"]), meta["next_batch"]) == (2, 2)
    assert len(said) == 1
    assert said[0].startswith(f"skipped {workdir / 'checkpoints' / '3'}: ")
    # The run goes on and saves step 3 again.
    checkpoints.save(3, state(30), {"next_batch": 3})
    checkpoints.close()
    np.testing.assert_array_equal(checkpoint.load(workdir)[0]["params"]["kernel"], state(30)["params"]["kernel"])


def test_a_checkpoint_of_another_version_is_not_taken_for_a_damaged_one(workdir):
    file = workdir / "checkpoints" / "3" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    del meta["format"], meta["digest"]
    file.write_text(json.dumps(meta))
    message = r"checkpoints/3: of another version of mdp_jax \(format None\); expected format 1 to 2"
    with pytest.raises(UserError, match=message):
        checkpoint.load(workdir)
    checkpoints = Checkpoints(workdir, keep=3)
    with pytest.raises(UserError, match=message):
        checkpoints.restore(TARGET)
    checkpoints.close()
    assert (workdir / "checkpoints" / "3").is_dir()


def test_a_changed_value_is_noticed_by_its_checksum(workdir, monkeypatch):
    genuine = checkpoint.ocp.CheckpointManager.restore

    def flipped(self, step, **arguments):
        restored = genuine(self, step, **arguments)
        if step == 3:
            restored["state"]["params"]["kernel"][7] += 1e-3
        return restored

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", flipped)
    said = []
    restored, _ = Checkpoints(workdir).restore(TARGET, say=said.append)
    assert int(restored["step"]) == 2
    assert "checksum of params/kernel" in said[0]


def test_a_split_state_goes_on_in_another_layout(tmp_path):
    """As when config.fsdp or config.devices change between the parts of a run."""

    def split(devices):
        mesh = Mesh(jax.devices()[:devices], "x")
        return NamedSharding(mesh, PartitionSpec("x"))

    kernel = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"kernel": jax.device_put(kernel, split(4))}, {})
    checkpoints.close()
    for layout in (split(2), split(8), SingleDeviceSharding(jax.devices()[3])):
        target = {"kernel": jax.ShapeDtypeStruct(kernel.shape, kernel.dtype, sharding=layout)}
        restored, _ = Checkpoints(tmp_path).restore(target)
        assert restored["kernel"].sharding == layout
        np.testing.assert_array_equal(restored["kernel"], kernel)
    np.testing.assert_array_equal(checkpoint.load(tmp_path)[0]["kernel"], kernel)


def test_nothing_readable_is_an_error(workdir):
    for step in ("1", "2", "3"):
        truncate(workdir / "checkpoints" / step)
    with pytest.raises(UserError, match=r"none of its checkpoints can be read"):
        checkpoint.load(workdir)
    with pytest.raises(UserError, match=r"none of the checkpoints of steps \[1, 2, 3\] can be read"):
        Checkpoints(workdir).restore(TARGET)


def test_a_half_written_step_is_not_a_step(workdir):
    shutil.copytree(workdir / "checkpoints" / "3", workdir / "checkpoints" / "4.orbax-checkpoint-tmp")
    said = []
    restored, _ = Checkpoints(workdir, keep=3).restore(TARGET, say=said.append)
    assert (int(restored["step"]), said) == (3, [])


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        checkpoint.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no folder checkpoints in it"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="empty; expected at least one checkpoint"):
        checkpoint.load(tmp_path)


def test_keeps_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 6):
        checkpoints.save(step, state(step), {})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "5"]
    assert json.dumps(checkpoint.load(tmp_path)[1]) == "{}"


def test_every_second_one_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_every=2)
    for step in range(1, 6):
        checkpoints.save(step, state(step), {})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]


def test_a_write_that_fails_is_said_and_earlier_checkpoints_stay(workdir):
    resource = pytest.importorskip("resource", reason="limits on file sizes are a matter of Unix")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(workdir, keep=3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))  # as a full disk does, for larger files
    try:
        with pytest.raises(UserError, match="a checkpoint could not be written"):
            checkpoints.save(4, state(4), {})
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load(workdir)[1] == {"next_batch": 3}
