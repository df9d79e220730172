"""manifest.json: every value of another type is one line."""

import json

import pytest

from mdp_jax.data.prepared import manifest
from mdp_jax.errors import UserError

SHARD = {"file": "a", "records": 1, "bytes": 2, "sha256": "c", "source": "d"}
GOOD = {
    "version": manifest.VERSION,
    "name": "set",
    "kind": "folder",
    "complete": True,
    "classes": ["sky", "tree"],
    "palette": [[0, 0, 0], [1, 2, 3]],
    "splits": {"train": {"records": 1, "bytes": 2, "shards": [SHARD]}},
}


def test_a_whole_manifest(tmp_path):
    (tmp_path / manifest.FILE).write_text(json.dumps(GOOD))
    assert manifest.read_complete(tmp_path) == GOOD


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize("value", [[], {}, 3, None, "text", [[1]], {"train": []}, {"train": {"shards": [1]}}, 1e400])
def test_values_of_another_type(tmp_path, key, value):
    (tmp_path / manifest.FILE).write_text(json.dumps(GOOD | {key: value}))
    fine = {("palette", None), ("name", "text"), ("kind", "text"), ("version", "text"), ("splits", "{}")}
    if (key, value if isinstance(value, str | None) else str(value)) in fine:
        assert manifest.read(tmp_path)[key] == value
        return
    with pytest.raises(UserError, match=rf"manifest\.json: ({key}|not valid JSON \(Inf).*; run mdp data prepare again"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("value", [-1, True, 1.5, "12", None, []])
def test_a_short_side_that_is_none(tmp_path, value):
    (tmp_path / manifest.FILE).write_text(json.dumps(GOOD | {"short_side": value}))
    with pytest.raises(UserError, match=r"manifest\.json: short_side is .*; run mdp data prepare again"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", [b"", b"\xff", b"{", b"[" * 100_000, b"[]", b"{}", b"3"])
def test_what_is_no_manifest(tmp_path, text):
    (tmp_path / manifest.FILE).write_bytes(text)
    with pytest.raises(UserError, match=r"manifest\.json: (not valid JSON|the value ).*; run mdp data prepare again"):
        manifest.read(tmp_path)
