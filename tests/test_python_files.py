"""Functions of the user's own Python files, and their mistakes in one line; test_config.py has those of configs."""

import concurrent.futures
import sys

import pytest

from mdp_jax import config as configs
from mdp_jax import python_files
from mdp_jax.errors import UserError


def written(folder, text, name="mine.py"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def answer(folder, text):
    return python_files.call(written(folder, text), "answer", "--config mine.py")


@pytest.mark.parametrize(
    ("lines", "value", "expected"),
    [
        ("from configs import base", "base.pretrain().method.temperature", 0.1),
        ("import configs.base as b", "b.voc().train_list", "train_aug"),
        ("from configs.base import folder, pretrain", "(folder('a', 'b').root, pretrain().steps)", ("b", 0)),
        (
            "from configs import base\nfrom configs.mini import common",
            "common.shrink(base.finetune()).model.width",
            0.25,
        ),
        ("from configs.mini import pretrain", "pretrain.get_config().steps", 3000),
        ("from configs.mini.finetune import finetune", "finetune('a', limit=3).dataset.limit", 3),
        ("from configs.pretrain import voc_ade", "voc_ade.get_config().batch", 256),
        ("", "__import__('configs.base').base.finetune().batch", 16),
    ],
)
def test_what_files_for_earlier_versions_import(tmp_path, lines, value, expected):
    known = set(sys.modules)
    assert answer(tmp_path, f"{lines}\n\n\ndef answer():\n    return {value}\n") == expected
    assert not [name for name in sys.modules.keys() - known if name.startswith(("configs", "mdp_jax_file"))]


def test_a_package_named_configs_of_ones_own(tmp_path):
    written(tmp_path, "", "configs/__init__.py")
    written(tmp_path, "RATE = 3.0\n", "configs/mine.py")
    written(tmp_path, "", "configs/mini/__init__.py")
    written(tmp_path, "SIZE = 7\n", "configs/mini/own.py")
    text = "from configs import base, mine\nfrom configs.mini import own, pretrain\n\n\ndef answer():\n"
    text += "    return mine.RATE, own.SIZE, base.finetune().batch, pretrain.get_config().batch\n"
    assert answer(tmp_path, text) == (3.0, 7, 16, 16)


def test_a_package_named_configs_that_was_imported_before(tmp_path, monkeypatch):
    written(tmp_path / "lib", "", "configs/__init__.py")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    import configs as own

    assert answer(tmp_path, "from configs import base\n\n\ndef answer():\n    return base.finetune().batch\n") == 16
    assert not hasattr(own, "base")
    monkeypatch.delitem(sys.modules, "configs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("answer = 1 / 0\n", "--config mine.py, line 1: ZeroDivisionError: division by zero"),
        ("def answer():\n    raise ValueError\n", "--config mine.py, line 2: ValueError: no message"),
        ("def other():\n    return 1\n", "--config mine.py: expected a function answer() in the file"),
        ("def answer():\n    raise ValueError('one\\ntwo')\n", "--config mine.py, line 2: ValueError: one"),
        (
            "def answer():\n    exit(3)\n",
            "--config mine.py, line 2: sys.exit(3) was called; expected the file to return",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_python_as_it_was(tmp_path, text, message):
    before = list(sys.path), list(sys.meta_path), set(sys.modules)
    with pytest.raises(UserError) as error:
        answer(tmp_path, text)
    assert str(error.value) == message
    assert (sys.path, sys.meta_path, set(sys.modules)) == before


def test_ctrl_c_is_no_mistake_of_the_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        answer(tmp_path, "def answer():\n    raise KeyboardInterrupt\n")


def test_dataclasses_and_postponed_annotations(tmp_path):
    text = "from __future__ import annotations\nimport dataclasses\nimport typing\n\n\n@dataclasses.dataclass\n"
    text += "class Size:\n    side: int = 3\n    more: typing.ClassVar[int] = 4\n\n\ndef answer():\n"
    text += "    return Size(5).side, typing.get_type_hints(Size)['side']\n"
    assert answer(tmp_path, text) == (5, int)


def test_a_file_may_import_what_lies_beside_it_in_each_folder(tmp_path):
    for folder, value in (("a", 3), ("b", 4)):
        written(tmp_path / folder, f"VALUE = {value}\n", "mdp_jax_beside.py")
        text = "import mdp_jax_beside\n\n\ndef answer():\n    return mdp_jax_beside.VALUE\n"
        assert answer(tmp_path / folder, text) == value


def test_a_config_made_from_another(tmp_path):
    first = written(
        tmp_path, "from mdp_jax import configs\n\n\ndef get_config():\n    return configs.finetune()\n", "a.py"
    )
    text = f"from mdp_jax.config import load\n\n\ndef get_config():\n    config = load({str(first)!r})\n"
    assert configs.load(str(written(tmp_path, f"{text}    config.batch = 3\n    return config\n"))).batch == 3
    wrong = written(tmp_path, f"{text}    config.bacth = 3\n    return config\n", "wrong.py")
    with pytest.raises(UserError, match=r"wrong\.py, line 6: no such key: bacth; the nearest is batch$"):
        configs.load(str(wrong))


def test_a_relative_path_has_lines_too(tmp_path, monkeypatch):
    file = written(tmp_path, "answer = 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"mine\.py, line 1: ZeroDivisionError"):
        python_files.call(file.relative_to(tmp_path), "answer", "--config mine.py")


def test_nearest():
    assert python_files.nearest(["batch", "beta"]) == "; the nearest is batch"
    assert python_files.nearest([]) == ""


def test_threads_do_not_take_each_others_modules(tmp_path):
    """Each file has a module of the same name beside it, as configs of several studies have."""
    text = "import time\ntime.sleep(0.002)\nfrom configs import base\nimport beside\ntime.sleep(0.002)\n\n\n"
    text += "def answer():\n    import beside as again\n\n    return beside.value, again.value, base.pretrain().batch\n"
    for number in range(8):
        written(tmp_path, f"value = {number}\n", f"{number}/beside.py")
        written(tmp_path, text, f"{number}/mine.py")

    def call(number):
        return python_files.call(tmp_path / str(number) / "mine.py", "answer", "--config mine.py")

    before = list(sys.path), list(sys.meta_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [(number, number, 256) for number in range(8)]
    assert (sys.path, sys.meta_path) == before
    assert not [name for name in sys.modules if name == "beside" or name.startswith("mdp_jax_file")]


def test_a_file_may_call_another(tmp_path):
    written(tmp_path, "def get_config():\n    return 3\n", "other.py")
    text = f"from mdp_jax import python_files\nimport pathlib\n\n\ndef answer():\n    other = {str(tmp_path)!r}\n"
    text += "    return python_files.call(pathlib.Path(other, 'other.py'), 'get_config', 'other.py')\n"
    assert answer(tmp_path, text) == 3
