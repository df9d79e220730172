"""`mdp bench --against`: which rows are slower than those of a stored run, whatever the machine."""

import json

import pytest

from mdp_jax import cli
from mdp_jax.benchmarks import against
from mdp_jax.benchmarks.measure import Row
from mdp_jax.commands import bench
from mdp_jax.errors import UserError


def rows(*found):
    return [Row(case, float(ours), torch).columns() for case, ours, torch in found]


def changes(stored, now):
    return {found.case: found.change for found in against.compare(rows(*stored), rows(*now))}


def test_ratios_to_pytorch_leave_the_machine_out():
    before = [("step: a", 10, 10.0), ("step: b", 8, 4.0)]
    now = [("step: a", 5, 5.0), ("step: b", 3, 2.0)]  # a machine of half the speed, and b a quarter slower
    assert changes(before, now) == {"step: a": 1.0, "step: b": 0.75}


def test_ratios_by_processor_time_come_first():
    """By the clock the first row looks slower, as where another program took a core."""
    before = [Row("step: a", 8.0, 8.0, {"by processor": 1.0}), Row("step: b", 8.0, 8.0, {"by processor": None})]
    now = [Row("step: a", 4.0, 8.0, {"by processor": 0.9}), Row("step: b", 4.0, 8.0, {"by processor": 0.9})]
    found = against.compare(*([row.columns() for row in some] for some in (before, now)))
    assert [one.change for one in found] == [0.9, 0.5]
    assert found[0].line == "step: a: ratio by processor time 0.90, 1.00 before: 10 % slower"


def test_a_row_without_pytorch_beside_rows_that_have_it():
    before = [("step: a", 10, 10.0), ("data: b", 8, None)]
    now = [("step: a", 4, 5.0), ("data: b", 4, None)]
    assert changes(before, now) == {"step: a": 0.8, "data: b": 1.0}


def test_without_pytorch_the_row_in_the_middle_is_the_machine():
    before = [("data: a", 10, None), ("data: b", 10, None), ("data: c", 10, None)]
    now = [("data: a", 20, None), ("data: b", 20, None), ("data: c", 10, None)]
    assert changes(before, now) == {"data: a": 1.0, "data: b": 1.0, "data: c": 0.5}


def test_of_two_rows_the_slower_one_is_seen():
    before = [("data: a", 10, None), ("data: b", 10, None)]
    assert changes(before, [("data: a", 5, None), ("data: b", 4, None)]) == {"data: a": 1.0, "data: b": 0.8}


def test_what_is_missing_and_what_stands_alone_fails():
    before, now = [("step: a", 1, None), ("step: b", 1, None)], [("step: a", 1, None), ("step: c", 1, None)]
    found = against.compare(rows(*before), rows(*now))
    assert [one.change for one in found] == [None, None]
    assert found[0].line == "step: a: no other row and no PyTorch beside it, to tell the machine's speed"
    assert found[1].line == "step: b: missing; it is in the stored run"
    assert all(one.fails(0.99) for one in found)


@pytest.mark.parametrize(
    ("now", "margin", "lines"),
    [
        (8.0, "0.3", []),
        (12.0, "0.1", []),
        (8.0, "0.1", ["loss: a: ratio 0.80, 1.00 before: 20 % slower"]),
        (None, "0.1", ["loss: a: missing; it is in the stored run"]),
    ],
)
def test_the_command(now, margin, lines, tmp_path, monkeypatch, capsys):
    class Case:
        @staticmethod
        def measure(args, overrides):
            return [Row("loss: a", now, 10.0) if now else Row("loss: new", 1.0, None)], ""

    file = tmp_path / "stored.json"
    before = json.dumps(rows(("loss: a", 10, 10.0), ("step: of another case", 1, None)))
    file.write_text(before)
    monkeypatch.setattr(bench.importlib, "import_module", lambda name: Case if "benchmarks" in name else bench)
    words = ["--against", str(file), "--margin", margin, "--json", str(file)]
    assert cli.run(["bench", "loss", *words]) == bool(lines)
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.startswith("mdp: ")] == [
        f"mdp: {file}: {line}" for line in lines
    ]
    assert ("1 row is as fast as" in said) == (not lines)
    # Otherwise the next run would be compared with the slower one, and pass.
    assert (file.read_text() == before) == bool(lines)
    if not lines:
        assert [row["case"] for row in json.loads(file.read_text())] == ["loss: a"]


def test_the_stored_file_under_another_name(tmp_path, monkeypatch):
    """A slower run does not replace it, however it is named."""

    class Case:
        @staticmethod
        def measure(args, overrides):
            return [Row("loss: a", 5.0, 10.0)], ""

    monkeypatch.chdir(tmp_path)
    file, link = tmp_path / "stored.json", tmp_path / "link.json"
    file.write_text(before := json.dumps(rows(("loss: a", 10, 10.0))))
    link.symlink_to(file)
    monkeypatch.setattr(bench.importlib, "import_module", lambda name: Case if "benchmarks" in name else bench)
    for stored, written in ((file, "stored.json"), (link, file)):
        assert cli.run(["bench", "loss", "--against", str(stored), "--json", str(written)]) == 1
        assert file.read_text() == before


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({}, r"the value is \{\}; expected a list"),
        ([{"case": "loss: a"}], r"has no 'ours'; expected one"),
        ([{"case": "loss: a", "ours": 0.0, "torch": None, "ratio": None}], r"\[0\]\.ours is 0.0; expected more than 0"),
        (
            [{"case": "loss: a", "ours": 1.0, "torch": None, "ratio": None, "by processor": "x"}],
            "by processor is x; exp",
        ),
        ([{"case": "step: a", "ours": 1.0, "torch": None, "ratio": None}], "no row of loss; expected some"),
        ([{"case": "loss: a", "ours": 1.0, "torch": None, "ratio": None}] * 2, "'loss: a' is there twice"),
    ],
)
def test_a_file_of_something_else(stored, message, tmp_path):
    file = tmp_path / "stored.json"
    file.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=message) as error:
        against.read(file, ["loss"])
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)
