import json
import os
import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mdp_jax.errors import UserError
from mdp_jax.weights import files

STATE = {
    "conv.weight": np.random.RandomState(0).standard_normal((2, 3, 4, 5)).astype(np.float32).transpose(3, 2, 0, 1),
    "bn.running_var": np.array([1e-45, 3.4e38, -0.0], np.float32),  # not to be rounded or flushed to 0
    "bn.weight": np.array([1.0, 1 / 3], np.float64),
    "bn.num_batches_tracked": np.array(5, np.int64),
}


class Code:
    """Unpickling it makes a folder: code of a checkpoint that is run."""

    def __init__(self, marker: pathlib.Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def assert_bit_equal(have, want):
    assert have.keys() == want.keys()
    for key, array in want.items():
        assert (have[key].dtype, have[key].shape) == (array.dtype, array.shape)
        assert have[key].tobytes() == array.tobytes(), key


def refused(path, *words):
    with pytest.raises(UserError) as error:
        files.read(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert all(word in message for word in words), message


@pytest.fixture(params=["x.safetensors", "x.pth", "x.pt"])
def path(request, tmp_path):
    if not request.param.endswith(".safetensors"):
        pytest.importorskip("torch")
    return tmp_path / request.param


def test_what_is_written_is_read_bit_for_bit(path):
    files.require_writable(path)
    files.write(path, STATE)
    state, notes = files.read(path)
    assert_bit_equal(state, STATE)
    assert notes == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_precision_is_cast_and_said(tmp_path):
    values = [1.0, -2.5, 3.140625]  # exact in both
    arrays = {"a": np.array(values, jnp.bfloat16), "b": np.array(values, np.float16), "c": np.float32(values)}
    header, start = {}, 0
    for (key, array), dtype in zip(arrays.items(), ("BF16", "F16", "F32"), strict=True):
        header[key] = {"dtype": dtype, "shape": [3], "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(array.tobytes() for array in arrays.values())
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    state, notes = files.read(tmp_path / "x.safetensors")
    for array in state.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)
    assert notes == [
        "1 of 3 leaves are bfloat16; cast to float32",
        "1 of 3 leaves are float16; cast to float32",
    ]


@pytest.mark.parametrize("content", [b"", b"hello world, this is no checkpoint", bytes(range(256))])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_what_is_no_checkpoint_is_refused(tmp_path, name, content):
    if name == "x.pth":
        pytest.importorskip("torch")
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "not a")


def test_a_truncated_file_is_refused(path):
    files.write(path, STATE)
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "not a")


def test_names_that_are_no_files_of_weights(tmp_path):
    refused(tmp_path / "x.ckpt", ".pth", ".safetensors")
    refused(tmp_path / "x.safetensors", "no such file")
    (tmp_path / "y.safetensors").mkdir()
    refused(tmp_path / "y.safetensors", "a folder")


def test_an_empty_state_dict_and_other_types_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({}, path)
    refused(path, "no weights")
    safetensors.numpy.save_file({"conv.weight": np.zeros(3, np.uint32)}, path)
    refused(path, "conv.weight", "U32")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_never_executed(tmp_path, protocol):
    """With or without torch."""
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    path.write_bytes(pickle.dumps({"conv.weight": Code(marker)}, protocol))
    refused(path)
    assert not marker.exists()


def test_torch_refuses_code_and_objects_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    torch.save({"conv.weight": Code(marker)}, path)
    refused(path, "refused, nothing in it was run", ".mkdir")
    torch.save(torch.nn.Linear(2, 2), path)
    refused(path, "torch.nn.modules.linear.Linear")
    assert not marker.exists()


def test_torch_files_of_other_things(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch.save([torch.ones(2)], path)
    refused(path, "list")
    torch.save({"epoch": 3, "weights": torch.ones(2)}, path)
    refused(path, "epoch", "int")
    torch.save({"a": torch.ones(2, dtype=torch.float8_e4m3fn)}, path)
    refused(path, "a has the type torch.float8_e4m3fn")


def test_torch_state_dict_under_its_name_and_in_half_precision(tmp_path):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    torch.save({"meta": {"epoch": 3}, "state_dict": {"a": weight, "b": torch.ones(2)}}, tmp_path / "x.pth")
    state, notes = files.read(tmp_path / "x.pth")
    assert_bit_equal(state, {"a": np.float32([1.5, -2]), "b": np.ones(2, np.float32)})
    assert notes == ["1 of 2 leaves are bfloat16; cast to float32"]
    torch.save({"model": {"b": torch.ones(2)}, "optimizer": {}, "epoch": 3}, tmp_path / "y.pth")
    assert_bit_equal(files.read(tmp_path / "y.pth")[0], {"b": np.ones(2, np.float32)})


def test_other_weights_of_a_torch_file_are_named(tmp_path):
    torch = pytest.importorskip("torch")
    state, path = {"b": torch.ones(2)}, tmp_path / "x.pth"
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    average = {"b": torch.zeros(2)}
    torch.save({"state_dict": state, "state_dict_ema": average, "optimizer": optimizer, "epoch": 3}, path)
    found, notes = files.read(path)
    assert_bit_equal(found, {"b": np.ones(2, np.float32)})
    assert notes == ["the weights under state_dict are read; those under state_dict_ema are not"]
    torch.save({"model": state, "model_ema": average}, path)
    assert files.read(path)[1] == ["the weights under model are read; those under model_ema are not"]


def test_meta_is_where_mmsegmentation_looks(tmp_path):
    torch = pytest.importorskip("torch")
    files.write(tmp_path / "x.pth", STATE, meta={"dataset_meta": {"classes": ["sky", "road"]}})
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    assert content["meta"]["dataset_meta"]["classes"] == ["sky", "road"]
    assert content["state_dict"].keys() == STATE.keys()
    assert_bit_equal(files.read(tmp_path / "x.pth")[0], STATE)


@pytest.mark.parametrize("use", [files.read, files.require_writable])
def test_without_torch_the_extra_is_named(tmp_path, monkeypatch, use):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "x.pth"
    if use is files.read:
        path.touch()
    with pytest.raises(UserError, match="make venv EXTRA=torch"):
        use(path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.write(tmp_path / "x.safetensors", STATE)
    assert not list(tmp_path.iterdir())


def test_where_nothing_may_be_written(tmp_path):
    (tmp_path / "old.safetensors").touch()
    for name, message in [
        ("old.safetensors", "exists already"),
        ("x.npz", "expected a name that ends in"),
        ("x", "expected a name that ends in"),
        ("nowhere/x.safetensors", "no folder"),
    ]:
        with pytest.raises(UserError, match=message):
            files.require_writable(tmp_path / name)
