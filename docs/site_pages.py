"""What the site has besides the pages of docs/: pages made of files elsewhere, and links that lead to the right page.

mkdocs calls `on_files` and `on_page_markdown` (mkdocs.yml, `hooks`). README.md, CONTRIBUTING.md and others stay where
people look for them first. The site shows them, and nothing is written twice.
"""

import ast
import dataclasses
import json
import pathlib
import posixpath
import re

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The pages that README.md is cut into, with the headings of its sections; the first has what stands above them too.
README_PAGES = {
    "index.md": ("Two commands", "Changing it", "Licence"),
    "own_data.md": ("Your own data in five minutes",),
    "commands.md": ("The commands",),
    "three_uses.md": ("Three uses",),
    "studies.md": ("Does it hold?",),
}
WHOLE_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "launch.md": "launch/README.md"}
NOTEBOOK = "docs/python_api.ipynb"
FENCED = re.compile(r"(^ *```.*?^ *```[ \t]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sections(text: str) -> list[tuple[str, str]]:
    """Cuts a page at its headings of the second level: (heading, text with the heading); the first has no heading."""
    parts: list[tuple[str, str]] = [("", "")]
    for piece in FENCED.split(text):
        if piece.lstrip().startswith("```"):
            parts[-1] = (parts[-1][0], parts[-1][1] + piece)
            continue
        for line in piece.splitlines(keepends=True):
            if line.startswith("## "):
                parts.append((line[3:].strip(), ""))
            parts[-1] = (parts[-1][0], parts[-1][1] + line)
    return parts


def headings_up(text: str) -> str:
    """Each heading one level up; comments in code stay as they are."""
    pieces = [
        piece if piece.lstrip().startswith("```") else re.sub(r"^##", "#", piece, flags=re.MULTILINE)
        for piece in FENCED.split(text)
    ]
    return "".join(pieces)


def readme_pages() -> dict[str, str]:
    """{page: Markdown} of the sections of README.md.

    Raises:
      ValueError: a section has no page here, or a page names a section that README.md lacks.
    """
    (_, lead), *rest = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    texts = dict(rest)
    named = [heading for headings in README_PAGES.values() for heading in headings]
    if sorted(named) != sorted(texts):
        raise ValueError(f"README_PAGES has {sorted(named)}; README.md has {sorted(texts)}")
    pages = {page: "".join(texts[heading] for heading in headings) for page, headings in README_PAGES.items()}
    return {page: lead + text if page == "index.md" else headings_up(text) for page, text in pages.items()}


def notebook_page(file: pathlib.Path) -> str:
    """A notebook without outputs as Markdown."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in zip(kinds, texts, strict=True)
    )


def config_keys_page() -> str:
    """Every config key with its default and its comment, from the source of mdp_jax/configs.py."""
    source = (ROOT / "mdp_jax" / "configs.py").read_text(encoding="utf-8")
    lines, tree = source.splitlines(), ast.parse(source)
    text = [
        "# Config keys\n",
        "A config file sets these values, and so does the command line, as in `--config.optim.lr=0.05`. "
        "`PretrainConfig` is the config of `mdp pretrain`, and `FinetuneConfig` is that of `mdp finetune`. "
        "Both have the keys of `RunConfig` too. A key whose default is another table's name is a group: "
        "`config.data.flip` is the key `flip` of the group `data`.\n",
    ]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    order = ["PretrainConfig", "FinetuneConfig", "RunConfig"]
    for node in sorted(classes, key=lambda node: order.index(node.name) if node.name in order else len(order)):
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        text.append(f"## {node.name}\n\n{ast.get_docstring(node)}\n")
        if bases:
            text.append(f"It has the keys of [`{bases[0]}`](#{bases[0].lower()}) too.\n")
        text.append("| key | default | meaning |\n| --- | --- | --- |")
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                text.append(f"| `{item.target.id}` | {_default(item)} | {_comment(lines, item)} |")
        text.append("")
    return "\n".join(text)


def _default(item: ast.AnnAssign) -> str:
    """The default as the source has it; a link where it is a group of keys."""
    value = item.value
    if value is None:
        return "must be set"
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "key":
        value = value.args[0]
    if isinstance(value, ast.Call):
        group = ast.unparse(item.annotation)
        return f"[`{group}`](#{group.lower()})"
    return f"`{ast.unparse(value)}`"


def _comment(lines: list[str], item: ast.AnnAssign) -> str:
    """The comment behind a key, or the lines of comment above it."""
    assert item.end_lineno is not None
    behind = lines[item.end_lineno - 1].encode()[item.end_col_offset :].decode()
    if "#" in behind:
        return behind.split("#", 1)[1].strip().replace("|", r"\|")
    above: list[str] = []
    for line in reversed(lines[: item.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("# "))
    return " ".join(above).replace("|", r"\|")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A page of the site and the file of the repository that its text comes from."""

    page: str
    origin: str


def made_pages() -> dict[_Place, str]:
    """The pages that are not files of docs/."""
    pages = {_Place(page, "README.md"): text for page, text in readme_pages().items()}
    for page, origin in WHOLE_PAGES.items():
        pages[_Place(page, origin)] = (ROOT / origin).read_text(encoding="utf-8")
    pages[_Place("python_api.md", NOTEBOOK)] = notebook_page(ROOT / NOTEBOOK)
    pages[_Place("config_keys.md", "mdp_jax/configs.py")] = config_keys_page()
    return pages


def target_on_site(origin: str, link: str) -> str | None:
    """Where a link of a file leads to on the site: a page and perhaps an anchor; None where the site lacks its target.

    Args:
      origin: the file that has the link, from the root of the repository.
      link: relative to this file, as GitHub reads it.
    """
    path, _, anchor = link.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)) if path else origin
    if file == "README.md":
        pages = [page for page, headings in README_PAGES.items() if anchor in map(slug, headings)]
        page = pages[0] if pages else "index.md"
        return page if not anchor or anchor == slug(README_PAGES[page][0]) else f"{page}#{anchor}"
    shown = {origin: page for page, origin in WHOLE_PAGES.items()}
    shown |= {NOTEBOOK: "python_api.md", "mdp_jax/configs.py": "config_keys.md"}
    if file in shown:
        page = shown[file]
    elif file.startswith("docs/") and (ROOT / file).is_file() and not file.endswith(".py"):
        page = file.removeprefix("docs/")
    else:
        return None
    return f"{page}#{anchor}" if anchor else page


def with_links_of_site(text: str, page: str, origin: str) -> str:
    """Leads relative links to pages of the site. A link to a file that the site lacks becomes the file's name.

    Args:
      text: Markdown; code blocks stay as they are.
      page: where the text stands on the site.
      origin: the file that it comes from.
    """

    def replaced(found: re.Match[str]) -> str:
        picture, words, link = found.groups()
        if re.match(r"[a-z]+:", link):
            return found[0]
        target = target_on_site(origin, link)
        if target is None:
            file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
            return words if posixpath.basename(words) != posixpath.basename(file) else f"`{file}`"
        name, _, anchor = target.partition("#")
        if name == page and anchor and not link.partition("#")[0]:
            return f"{picture}[{words}](#{anchor})"
        relative = posixpath.relpath(name, posixpath.dirname(page) or ".")
        return f"{picture}[{words}]({relative}{'#' if anchor else ''}{anchor})"

    pieces = [piece if piece.lstrip().startswith("```") else LINK.sub(replaced, piece) for piece in FENCED.split(text)]
    return "".join(pieces)


def on_files(files: Files, config, **_) -> Files:
    """Adds the pages that are made here."""
    for place, text in made_pages().items():
        files.append(File.generated(config, place.page, content=text, inclusion=InclusionLevel.INCLUDED))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Leads the links of each page to pages of the site."""
    origins = {place.page: place.origin for place in made_pages()}
    name = page.file.src_uri
    return with_links_of_site(markdown, name, origins.get(name, f"docs/{name}"))
