"""The site builds without a warning, from any folder, and its pages ask no other host for anything."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

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
    def names(config, group=""):
        for key, value in config.items():
            yield from names(value, f"{group}{key}.") if isinstance(value, ConfigDict) and len(value) else [group + key]

    for config in (configs.pretrain(), configs.finetune()):
        assert not [name for name in names(config) if f">{name}</code>" not in site["config_keys.html"]]


def test_lists_are_lists(site):
    """Items behind a block of code or a table need an empty line before them, which GitHub does not ask for."""
    for name, text in site.items():
        text = re.sub(r"<(pre|script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", text, flags=re.DOTALL):
            assert not re.search(r"^\s*- ", paragraph, flags=re.MULTILINE), (name, paragraph[:200])


def test_short_code_does_not_break(pages):
    assert pages.on_page_content("<p><code>--as</code></p>") == '<p><code class="short">--as</code></p>'
    longer = f"<p><code>mdp pretrain {'x' * 40}</code></p>"
    assert pages.on_page_content(longer) == longer


def test_comments_of_config_keys(pages):
    """Behind the key; above it, in two lines; and that of the parent where the child changes the default alone."""
    lines = pages.config_keys_page().splitlines()
    assert "| `data.flip` | `0.5` | probability of a horizontal flip |" in lines
    assert any(line.startswith("| `model.remat` | `'none'` | What the backward pass computes again") for line in lines)
    assert "| `data.crop` | `(224, 224)` | height, width in pixels |" in lines
    assert "| `model.decoder.dropout` | `0.1` | in front of the classifier |" in lines  # the value of fine-tuning alone
    assert not [line for line in lines if line.endswith("|  |")]  # a key without a comment
    (backbone,) = {line for line in lines if line.startswith("| `model.backbone` ")}
    assert r"convnext\_tiny, \_small, \_base." in backbone and "by `lr_rule`" in "".join(lines)


def test_readme_is_cut_at_its_headings(pages, monkeypatch):
    text = "# Name\n\nLead.\n\n## One\n\n```bash\n## no heading\n```\n\n### Inside\n\n## Two\n\nEnd.\n"
    assert pages.sections(text) == [
        ("", "# Name\n\nLead.\n\n"),
        ("One", "## One\n\n```bash\n## no heading\n```\n\n### Inside\n\n"),
        ("Two", "## Two\n\nEnd.\n"),
    ]
    assert pages.headings_up(pages.sections(text)[1][1]) == "# One\n\n```bash\n## no heading\n```\n\n## Inside\n\n"
    made = pages.readme_pages()
    assert made["index.md"].startswith("# mdp_jax\n") and "## The commands" not in made["index.md"]
    assert made["commands.md"].startswith("# The commands\n")
    monkeypatch.setitem(pages.README_PAGES, "own_data.md", "No such section")
    with pytest.raises(ValueError, match="No such section"):
        pages.readme_pages()


@pytest.mark.parametrize(
    ("origin", "link", "target"),
    [
        ("README.md", "docs/data.md", "data.md"),
        ("README.md", "#three-uses", "three_uses.md"),
        ("README.md", "mdp_jax/configs.py", "config_keys.md"),
        ("README.md", "configs/mini", None),
        ("docs/data.md", "../CONTRIBUTING.md", "contributing.md"),
        ("docs/data.md", "../README.md#a-single-gpu-or-a-laptop", "three_uses.md#a-single-gpu-or-a-laptop"),
        ("docs/data.md", "METHOD.md#3-prototypes", "METHOD.md#3-prototypes"),
        ("docs/notes/search.md", "../results.md", "results.md"),
        ("docs/notes/search.md", "../results", None),
    ],
)
def test_links_lead_to_pages(pages, origin, link, target):
    assert pages.target_on_site(origin, link) == target


def test_words_of_links(pages):
    def shown(text):
        return pages.with_links_of_site(text, "index.md", "README.md", {"data.md": "Datasets"})

    assert shown("See [docs/data.md](docs/data.md).") == "See [Datasets](data.md)."
    assert shown("See [the kinds](docs/data.md#voc).") == "See [the kinds](data.md#voc)."
    assert shown("See [configs/mini](configs/mini).") == "See `configs/mini`."
    assert shown("See [suites](configs/studies).") == "See suites."
    assert shown("See [gone](docs/gone.md).") == "See [gone](docs/gone.md)."  # of which mkdocs warns
    assert shown("[`voc`](docs/data.md)") == "[`voc`](data.md)"
    picture = "images/quickstart.png"
    assert shown(f"![Scenes](docs/{picture})") == f"[![Scenes]({picture})]({picture})"
    for text in ("[paper](https://a.org)", "`[docs/data.md](docs/data.md)`"):
        assert shown(text) == text
    assert shown("```\n[docs/data.md](docs/data.md)\n```\n") == "```\n[docs/data.md](docs/data.md)\n```\n"
