"""Every `mdp` command of the pages is one that the parts of `mdp` understand; nothing is run here.

Some pages have their commands run as well: README.md in test_readme.py, docs/import.md in commands/test_import_page.py,
and the pages about a trained network in test_page_commands.py.
"""

import contextlib
import functools
import importlib
import io
import pathlib
import re
import shlex
import tomllib

import pytest

from mdp_jax import cli, configs
from mdp_jax import config as config_files
from mdp_jax.commands import data
from mdp_jax.data.kinds import DEFAULT_KIND, KINDS

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "launch/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
OF_THE_READER = re.compile(r"my_\w+\.py|runs/.*|gs://.*")  # configs and studies that a page tells to write
LOOPS = {"pretrain": configs.pretrain, "edit-bank": configs.pretrain}
LOOPS |= dict.fromkeys(("finetune", "adopt", "evaluate", "predict"), configs.finetune)
EXAMPLES = ("--help", "where")  # `mdp` itself, and a part that docs/architecture.md adds as an example


def lines(text):
    """The lines of the bash blocks of a page; one that goes on behind a backslash is one line."""
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def commands(text):
    """The commands in the bash blocks of a page, as lists of words without `mdp`; those that launch/ starts too."""
    for line in lines(text):
        if line.startswith("mdp "):
            yield shlex.split(line, comments=True)[1:]
        elif line.startswith("launch/") and re.search(f" -- ({'|'.join(cli.PARTS)}) ", line):
            yield shlex.split(line.split(" -- ", 1)[1])


COMMANDS = [(page, words) for page, text in TEXTS.items() for words in commands(text)]
# Commands in the middle of a sentence are often a part of one, such as `mdp predict --tile 1024`.
MENTIONED = sorted(
    {
        (page, said)
        for page, text in TEXTS.items()
        for said in re.findall(r"`mdp ([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    }
)


@pytest.fixture
def understood(monkeypatch):
    """Gives a function that parses a command as `mdp` does: its arguments and its config values."""

    def parsed(words):
        found = []
        module = importlib.import_module(f"mdp_jax.commands.{words[0].replace('-', '_')}")
        monkeypatch.setattr(module, "run", lambda args, overrides: found.append((args, overrides)))
        assert cli.run(words) == 0
        return found[0]

    return parsed


def config_of(words, args):
    """The config that a command's values belong to."""
    file = getattr(args, "config", None)
    if file and not OF_THE_READER.fullmatch(file):
        return config_files.load(file)
    if words[0] == "data":
        return KINDS[args.kind or (args.name if args.name in KINDS else DEFAULT_KIND)].config(args.name)
    return LOOPS[words[0]]()


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}"[:70] for page, words in COMMANDS]
)
def test_command_is_understood(page, words, understood):
    """Its part takes the arguments, its config exists, and the config has the keys with values of these types."""
    args, overrides = understood(words)
    if overrides:
        config_files.apply_overrides(config_of(words, args), overrides)
    for named in (value for value in vars(args).values() if isinstance(value, str) and value.startswith("configs/")):
        assert config_files.load(named)


@functools.cache
def help_of(part, command=""):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        cli.run([part, *([command] if command else []), "--help"])
    return said.getvalue()


@pytest.mark.parametrize(("page", "said"), MENTIONED, ids=[f"{page}: {said}"[:70] for page, said in MENTIONED])
def test_options_exist(page, said):
    part, *rest = said.split()
    if part in EXAMPLES:
        return
    assert part in cli.PARTS
    command = rest[0] if part == "data" and rest and rest[0] in data.COMMANDS else ""
    for option in re.findall(r"(?<![\w-])--[a-z]\w*(?![\w.])", " ".join(rest)):
        assert re.search(rf"{option}\b", help_of(part, command)), option


@pytest.mark.parametrize("page", TEXTS)
def test_other_commands_and_extras_exist(page):
    """Targets of make, extras, scripts of launch/ and modules of the tests."""
    text = TEXTS[page]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"mdp_jax\[([\w,]+)\]", text) + re.findall(r"EXTRA=(\w+)", text)
    assert {name for found in extras for name in found.split(",")} <= project["optional-dependencies"].keys()
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"(?:^|`)make (\w+)", text, flags=re.MULTILINE))
    for line in lines(text):
        if found := re.match(r"launch/\S+", line):
            assert (ROOT / found[0]).is_file()
        if found := re.match(r"python -m (tests\.\S+)", line):
            assert (ROOT / found[1].replace(".", "/")).with_suffix(".py").is_file()


def test_every_page_was_read():
    assert len(TEXTS) > 10 and len(COMMANDS) > 50 and len(MENTIONED) > 50
