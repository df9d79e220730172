"""The rules of the house that a machine can check."""

import ast
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "mdp_jax").rglob("*.py"))


# The same commands are the hooks of .pre-commit-config.yaml.
COMMANDS = {"ruff-check": ["ruff", "check", "."], "ruff-format": ["ruff", "format", "--check", "."], "mypy": ["mypy"]}


@pytest.mark.parametrize("name", COMMANDS)
def test_style_and_types(name):
    found = subprocess.run([sys.executable, "-m", *COMMANDS[name]], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_hooks_run_the_same_commands():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["id"]: shlex.split(hook["entry"]) for hook in hooks} == {
        name: ["python", "-m", *command] for name, command in COMMANDS.items()
    }
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks)


# The rooms of the house, from the top down: who imports whom runs downwards only (docs/architecture.md).
FLOORS = (
    ("__main__",),
    ("cli", "__init__"),
    ("commands",),
    ("reproduction",),
    ("studies",),
    ("benchmarks",),
    ("serving",),
    ("planning", "parity"),
    ("training",),
    ("exporting",),
    ("evaluation",),
    ("checks",),
    ("objectives",),
    ("weights",),
    ("data",),
    ("models",),
    ("reporting",),
    ("method",),
    ("config",),
    ("configs",),
    ("storage",),
    ("schema", "python_files", "distributed"),
    ("runtime",),
    ("errors", "words"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("package", "folders"), [("flax.linen", {"models"}), ("torch", {"parity", "weights"})])
def test_imported_in_one_place_alone(package, folders):
    users = {
        path.relative_to(ROOT / "mdp_jax").parts[0]
        for path in SOURCES
        if any(name == package or name.startswith(package + ".") for name in _imports(path))
    }
    assert users <= folders


def _room(module):
    """The room of mdp_jax that a module is in, or None."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mdp_jax" and len(parts) > 1 else None


def _statically_imported(path):
    """Modules of mdp_jax that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                [f"mdp_jax.{alias.name}" for alias in node.names] if node.module == "mdp_jax" else [node.module]
            )


def test_imports_run_downwards():
    upwards = []
    for path in SOURCES:
        room = path.relative_to(ROOT / "mdp_jax").with_suffix("").parts[0]
        for module in _statically_imported(path):
            other = _room(module)
            if other is not None and other != room and FLOOR_OF[other] <= FLOOR_OF[room]:
                upwards.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not upwards


def test_no_import_from_private_modules_of_libraries():
    private = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in SOURCES
        for module in _imports(path)
        if module.split(".")[0] != "mdp_jax"
        and any(part.startswith("_") for part in module.split("."))
        and not module.startswith("__future__")
    ]
    assert not private
