"""The site builds without a warning, from any folder, and its pages ask no other host for anything."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

import mdp_jax
from mdp_jax import configs

ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))),
    reason="needs mkdocs-material and mkdocstrings: pip install 'mdp_jax[docs]'",
)


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built strictly: a warning ends the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    said = subprocess.run(
        [*command, "--site-dir", str(out)],
        cwd=out,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "WARNING" not in said.stderr
    return {file.relative_to(out).as_posix(): file.read_text() for file in out.rglob("*.html")}


def test_every_page_of_docs_is_there(site):
    missing = {f"{file.stem}.html" for file in (ROOT / "docs").glob("*.md")} - site.keys()
    assert not missing


def test_asks_no_other_host(site):
    """Scripts, styles, pictures and frames lie beside the pages."""
    for name, text in site.items():
        asked = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=[\"']?(https?://[^\"' >]*)", text)
        asked += re.findall(r"<link[^>]*\bhref=[\"']?(https?://[^\"' >]*)", text)
        assert not asked, (name, asked)


def test_the_api_has_every_public_name(site):
    assert all(f'id="mdp_jax.{name}"' in site["api.html"] for name in mdp_jax.__all__)


def test_every_config_key_has_its_row(site):
    text = site["config_keys.html"]
    for kind in vars(configs).values():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == configs.__name__:
            assert f'id="{kind.__name__.lower()}"' in text
            assert all(f"<code>{field.name}</code>" in text for field in dataclasses.fields(kind))
