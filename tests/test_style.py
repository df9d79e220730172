"""The rules of the house that a machine can check."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "mdp_jax").rglob("*.py"))
LOOPS = {("pretrain.py", "train"), ("finetune.py", "train")}


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments):
    found = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_files_stay_under_400_lines():
    long = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) >= 400}
    assert not long


def test_functions_stay_under_50_lines():
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > (150 if (path.name, node.name) in LOOPS else 50):
                    long[f"{path.name}:{node.name}"] = lines
    assert not long


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


def test_public_functions_have_docstrings():
    missing = [
        f"{path.name}:{node.name}"
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not missing
