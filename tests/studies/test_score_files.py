"""Scores that come from other workdirs: what is written, what is refused, what is still to be run."""

import dataclasses
import json

import pytest

from mdp_jax.errors import UserError
from mdp_jax.studies import runs, score_files
from tests.studies.test_results import SCORES
from tests.studies.tiny import suite


def every(seeds=2, **rest):
    return runs.of_suite(suite(seeds), **rest)


def names(found):
    return [run.name for run in found]


@pytest.fixture
def file(tmp_path):
    score_files.write(tmp_path / "scores.json", every(), SCORES)
    return tmp_path / "scores.json"


def change(file, **values):
    rows = json.loads(file.read_text())
    rows[0] |= values
    file.write_text(json.dumps(rows))


def test_rows_and_back(file):
    rows = json.loads(file.read_text())
    assert len(rows) == len(SCORES) == 9
    assert {key: rows[0][key] for key in list(rows[0])[:4]} == {
        "pretraining": "scratch",
        "target": "few",
        "seed": 0,
        "mIoU": 10.0,
    }
    assert score_files.read([str(file)], every()) == SCORES
    # Of less than all: what the suite does not have is passed over.
    assert set(score_files.read([str(file)], every(1))) == {key for key in SCORES if key[1] == 0}
    assert score_files.read([], every()) == {}


def test_two_files(file, tmp_path):
    one = {(("mdp", "few"), 0): SCORES[("mdp", "few"), 0], (("longer", "few"), 1): 16.0}
    score_files.write(tmp_path / "more.json", every(), one)
    assert score_files.read([str(file), str(tmp_path / "more.json")], every()) == SCORES | one
    score_files.write(tmp_path / "more.json", every(), {(("mdp", "few"), 0): 99.0})
    with pytest.raises(UserError, match=r"more.json: mdp/seed0/few has mIoU 99.0 and, before, 14.0; expected"):
        score_files.read([str(file), str(tmp_path / "more.json")], every())


def test_a_file_of_another_suite(file):
    renamed = [dataclasses.replace(row, name=f"x{row.name}", init="") for row in suite().pretrainings]
    other = dataclasses.replace(suite(), pretrainings=tuple(renamed), claims=())
    with pytest.raises(UserError, match=r"scores.json: no row of a fine-tuning of the suite; expected scores of this"):
        score_files.read([str(file)], runs.of_suite(other))


def test_nothing_is_lost_when_it_is_written_anew(file, tmp_path):
    score_files.require_kept(tmp_path / "none.json", [])
    score_files.require_kept(file, SCORES.keys() | {(("longer", "few"), 1)})
    with pytest.raises(UserError, match=r"scores.json: 1 of its scores would be lost, first longer/seed0/few"):
        score_files.require_kept(file, SCORES.keys() - {(("longer", "few"), 0)})


def test_weights_count_by_their_content(tmp_path):
    def written(folder, content):
        folder.mkdir(exist_ok=True)
        (folder / "w.safetensors").write_bytes(content)
        of = suite(1)
        rows = [dataclasses.replace(row, init=str(folder / "w.safetensors")) for row in of.pretrainings[1:2]]
        return runs.of_suite(dataclasses.replace(of, pretrainings=tuple(rows), claims=()))

    one = {(("mdp", "few"), 0): 14.0}
    score_files.write(tmp_path / "s.json", written(tmp_path / "a", b"1"), one)
    assert score_files.read([str(tmp_path / "s.json")], written(tmp_path / "b", b"1")) == one
    with pytest.raises(UserError, match="1 of 1 rows are of other settings"):
        score_files.read([str(tmp_path / "s.json")], written(tmp_path / "a", b"2"))


def test_settings_do_not_depend_on_the_machine(file):
    assert score_files.read([str(file)], every(data_dir="/photos/elsewhere")) == SCORES


def _with(name, key, value):
    """The suite with one value of a pretraining changed."""
    of = suite(2)
    rows = [
        dataclasses.replace(row, overrides=(*row.overrides, (key, value))) if row.name == name else row
        for row in of.pretrainings
    ]
    return runs.of_suite(dataclasses.replace(of, pretrainings=tuple(rows), claims=()))


def test_other_settings_are_refused(file):
    """Those of the pretraining that the first stage is, too; not those of a place or of what is printed."""
    with pytest.raises(UserError, match=r"scores.json: 5 of 9 rows are of other settings .*, first mdp/seed0/few"):
        score_files.read([str(file)], _with("mdp", "method.temperature", "0.2"))
    kept = [row for row in json.loads(file.read_text()) if row["pretraining"] != "mdp"]
    file.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"1 of 5 rows .*, first longer/seed0/few; expected none: remove"):
        score_files.read([str(file)], _with("mdp", "method.temperature", "0.2"))
    assert len(score_files.read([str(file)], _with("mdp", "log_every", "7"))) == len(kept)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "(No such file or directory); expected the scores.json of a workdir of mdp reproduce"),
        ("[", "not valid JSON"),
        ('{"a": 1}', "expected a list, as in the scores.json"),
        ("[1]", "[0] is 1; expected an object"),
        (
            json.dumps([{key: ["a"] for key in ("pretraining", "target", "seed", "mIoU", "settings")}]),
            "[0].pretraining is ",
        ),
        ('[{"pretraining": "mdp"}]', "[0] has no 'target'"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "f.json").write_text(text)
    with pytest.raises(UserError) as error:
        score_files.read([str(tmp_path / "f.json")], every())
    assert str(error.value).startswith(f"{tmp_path}/f.json")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, "31.2", True, 131.0, -1.0, float("nan")])
def test_scores_that_are_none(file, value):
    change(file, mIoU=value)
    with pytest.raises(UserError, match=r"scores.json: (\[0\].mIoU is |not valid JSON \(NaN)"):
        score_files.read([str(file)], every())


def test_what_is_still_needed():
    one = every(1)
    assert score_files.still_needed(one, {}) == one
    # longer starts from mdp: without a score of its own it needs both pretrainings, with it neither.
    without = {key: value for key, value in SCORES.items() if key[0] != ("longer", "few")}
    assert names(score_files.still_needed(one, without)) == [
        "mdp/seed0/pretrain",
        "longer/seed0/pretrain",
        "longer/seed0/few",
    ]
    assert score_files.still_needed(one, SCORES) == []
    part = {key: value for key, value in SCORES.items() if key[0] != ("mdp", "many")}
    assert names(score_files.still_needed(one, part)) == ["mdp/seed0/pretrain", "mdp/seed0/many"]


def test_a_pretraining_for_its_own_sake_is_kept():
    alone = [run for run in every(1) if run.name == "longer/seed0/pretrain"]
    assert score_files.still_needed(alone, SCORES) == alone
