"""Files of JSON: one reader, which names the file and the value."""

import json

import jax
import numpy as np
import pytest

from mdp_jax import config as config_files
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.data.prepared import manifest
from mdp_jax.errors import UserError
from mdp_jax.evaluation.scores import read_scores
from mdp_jax.reporting import runs
from mdp_jax.storage import checkpoints
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.storage.json_files import read_json
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.studies import score_files
from tests import tiny

READERS = {
    "config.json": config_files.load_json,
    "label_space.json": LabelSpace.load,
    "manifest.json": lambda file: manifest.read(file.parent),
    "evaluation.json": read_scores,
    "transfer.json": runs.read_origins,
    "edited.json": lambda file: runs.read_edited(file.parent),
    "scores.json": score_files._rows,
}
BAD = {
    "nothing": b"",
    "half": b'{"a": [1, 2',
    "NaN": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "401 digits": b'{"a": ' + b"9" * 401 + b"}",
    "5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "huge": b'{"a": 1e999}',
    "deep": b"[" * 100_000,
    "latin-1": '{"é": 1}'.encode("latin-1"),
    "half a UTF-16": '{"a": 1}'.encode("utf-16")[:-3],
    "null": b"null",
    "text": b'"x"',
    "list of lists": b"[[1]]",
    "two values": b"{} {}",
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_record_is_one_line_with_the_file(name, bad, tmp_path):
    (tmp_path / name).write_bytes(BAD[bad])
    with pytest.raises(UserError, match=rf"{name.replace('.', chr(92) + '.')}: ") as error:
        READERS[name](tmp_path / name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize(
    "form", [lambda path: path.mkdir(), lambda path: __import__("os").mkfifo(path)], ids=["folder", "FIFO"]
)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file(name, form, tmp_path):
    form(tmp_path / name)
    with pytest.raises(UserError, match=r"\.json is a (folder|FIFO); expected"):
        READERS[name](tmp_path / name)


FORM = {"n": int, "x": (None, float), "rows": [{"name": str}], "by": {str: bool}}
GOOD = {"n": 1, "x": None, "rows": [{"name": "a", "more": 3}], "by": {"k": True}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 1.5}, "n is 1.5; expected a whole number, as in a test"),
        ({"n": True}, "n is true; expected a whole number"),
        ({"x": "1"}, 'x is "1"; expected null or a number'),
        ({"rows": {}}, "rows is {}; expected a list"),
        ({"rows": [{"name": "a"}, {}]}, "rows[1] has no 'name'; expected one"),
        ({"rows": [{"name": None}]}, "rows[0].name is null; expected text"),
        ({"by": {"k": 1}}, "by.k is 1; expected true or false"),
        ({"by": {"k": "x" * 500}}, "expected true or false"),
    ],
)
def test_the_value_is_named(change, message, tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps(GOOD))
    assert read_json(file, "a test", FORM) == GOOD
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(UserError) as error:
        read_json(file, "a test", FORM)
    assert str(error.value).startswith(f"{file}: ") and message in str(error.value)
    assert len(str(error.value)) < len(str(file)) + 200


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_files_that_an_editor_saved_in_another_way(encoding, tmp_path):
    (tmp_path / "r.json").write_text('{"é": "中"}', encoding=encoding)
    assert read_json(tmp_path / "r.json", "a test") == {"é": "中"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"loss": 1}', "line 2: the value has no 'step'"),
        (b'{"step": "2"}', 'line 2: step is "2"; expected a whole number'),
        (b'{"step": 2, "loss": "x"}', 'line 2: loss is "x"; expected null or a number or a list'),
        (b'{"step": 2, "d": [1, "x"]}', 'line 2: d[1] is "x"; expected null or a number'),
        (b'{"step": 2', "line 2: not valid JSON"),
        (b"\xff\xfe", "line 2: not valid JSON"),
        (b"[]", "line 2: the value is []; expected an object"),
    ],
)
def test_metrics(line, message, tmp_path):
    file = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "loss": 0.5, "d": [1, null]}\n'
    file.write_bytes(good + line + b"\n" + good)
    with pytest.raises(UserError) as error:
        read_metrics(tmp_path)
    assert message in str(error.value) and "remove that line" in str(error.value)
    file.write_bytes(good + b"\n" + good + line)  # cut off by the end of the process
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 1]


METADATA = [
    b'"../.."',
    b"[]",
    b'{"commit_timestamp_nsecs": "x"}',
    b'{"custom_metadata": 3}',
    b"{",
    b"",
    b"\xff",
    b"null",
]


@pytest.mark.parametrize("content", METADATA)
def test_what_the_library_notes_of_a_step(content, tmp_path):
    """The step before it is taken, or the step itself, whose values have checksums of their own."""
    made = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        made.save(step, {"step": np.int32(step)}, {"n": step})
    made.close()
    (tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA").write_bytes(content)
    said = []
    assert checkpoints.load(tmp_path, said.append).meta["n"] == 2 - len(said)
    again, said = Checkpoints(tmp_path, keep=3), []
    found = again.restore({"step": jax.ShapeDtypeStruct((), np.int32)}, said.append)
    assert found.meta["n"] == int(found.state["step"]) == 2 - len(said)
    again.save(3, {"step": np.int32(3)}, {"n": 3})
    again.close()
    assert checkpoints.load(tmp_path).meta["n"] == 3


def test_values_of_the_command_line():
    for text in ("{[]:1}", "9" * 401, "-" + "1" * 5000, "[" * 300, "{1:[]}", "(,)"):
        with pytest.raises(UserError, match=r"--config\.steps="):
            config_files.apply_overrides(tiny.finetune_config(), [("steps", text)])
