"""What the site has besides the pages of docs/: pages made of files elsewhere, and links that lead to the right page.

mkdocs calls `on_files`, `on_page_markdown` and `on_page_content` (mkdocs.yml, `hooks`). README.md, CONTRIBUTING.md and
others stay where people look for them first. The site shows them, and nothing is written twice.
"""

import ast
import dataclasses
import itertools
import json
import pathlib
import posixpath
import re
from collections.abc import Mapping

from mkdocs.structure.files import File, Files, InclusionLevel

from mdp_jax import configs

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The pages that have a section of README.md alone, with its heading; index.md has the rest.
README_PAGES = {
    "own_data.md": "Your own data in five minutes",
    "commands.md": "The commands",
    "three_uses.md": "Three uses",
    "studies.md": "Does it hold?",
}
WHOLE_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "launch.md": "launch/README.md"}
NOTEBOOK, CONFIGS = "docs/python_api.ipynb", "mdp_jax/configs.py"
# The file of the repository that each of these pages comes from; its links are relative to it.
ORIGINS = dict.fromkeys(("index.md", *README_PAGES), "README.md") | WHOLE_PAGES
ORIGINS |= {"python_api.md": NOTEBOOK, "config_keys.md": CONFIGS}
FENCED = re.compile(r"(^ *```.*?^ *```[ \t]*$)", re.MULTILINE | re.DOTALL)
# Code within a line, which stays as it is; or a link or picture.
LINK = re.compile(r"`[^`\n]+`|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
SHORT_CODE = re.compile(r"<code>([^<\n]{1,32})</code>")


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
      ValueError: README.md lacks a section that a page is for.
    """
    texts = dict(sections((ROOT / "README.md").read_text(encoding="utf-8")))
    missing = set(README_PAGES.values()) - texts.keys()
    if missing:
        raise ValueError(f"README.md has no section {min(missing)!r}; expected one, or another in README_PAGES")
    pages = {page: headings_up(texts.pop(heading)) for page, heading in README_PAGES.items()}
    return {"index.md": "".join(texts.values())} | pages


def notebook_page(file: pathlib.Path) -> str:
    """A notebook without outputs as Markdown."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in zip(kinds, texts, strict=True)
    )


def config_keys_page() -> str:
    """Every config key with its default and with the comment that it has in mdp_jax/configs.py."""
    comments = _comments()
    text = [
        "# Config keys\n",
        "A config file sets these keys, and so does the command line: `--config.optim.lr=0.05`. A key that is marked "
        "with * changes nothing of what a run computes; it may differ when a run goes on.\n",
    ]
    pretraining, finetuning = configs.PretrainConfig(), configs.FinetuneConfig()
    dataset = configs.SourceConfig(name="", kind="")
    for title, part in (("mdp pretrain", pretraining), ("mdp finetune", finetuning), ("A dataset", dataset)):
        text.append(f"## {title}\n\n{type(part).__doc__}\n")
        for group, rows in _tables(part, "", comments).items():
            heading = f"### {title}: {group}\n\n" if group else ""
            text.append(f"{heading}| key | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    text.append("[Datasets](../docs/data.md) says which keys a kind of dataset has besides.\n")
    return "\n".join(text)


def _tables(part: object, group: str, comments: dict[tuple[str, str], str]) -> dict[str, list[str]]:
    """{group of keys: rows}; the groups inside one come after its own keys."""
    own, inside = [], {}
    declared = vars(type(part)).get("__annotations__", {})
    for field in sorted(dataclasses.fields(part), key=lambda field: field.name not in declared):  # its own keys first
        value, name = getattr(part, field.name), f"{group}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            inside |= _tables(value, name, comments)
            continue
        known = (comments.get((kind.__name__, field.name)) for kind in type(part).__mro__)
        mark = r"\*" if field.metadata.get("free") else ""
        default = "must be set" if field.default is field.default_factory is dataclasses.MISSING else f"`{value!r}`"
        own.append(f"| `{name}`{mark} | {default} | {next(filter(None, known), '')} |")
    return {group: own} | inside


def _comments() -> dict[tuple[str, str], str]:
    """{(dataclass, key): comment} of mdp_jax/configs.py: the comment behind a key, or the lines of comment above it."""
    source = (ROOT / CONFIGS).read_text(encoding="utf-8")
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                behind = lines[item.end_lineno - 1].encode()[item.end_col_offset :].decode()
                above = itertools.takewhile(lambda line: line.startswith("    #"), reversed(lines[: item.lineno - 1]))
                whole = [behind] if "#" in behind else list(above)[::-1]
                comment = " ".join(line.strip().lstrip("# ") for line in whole)
                found[node.name, item.target.id] = _plain(comment)
    return found


def _plain(comment: str) -> str:
    """A comment in a cell of a table: outside of code, names such as _small are no emphasis."""
    pieces = comment.replace("|", r"\|").split("`")
    pieces[::2] = [re.sub(r"[_*]", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def made_pages() -> dict[str, str]:
    """{page: Markdown} of the pages that are not files of docs/."""
    whole = {page: (ROOT / origin).read_text(encoding="utf-8") for page, origin in WHOLE_PAGES.items()}
    made = {"python_api.md": notebook_page(ROOT / NOTEBOOK), "config_keys.md": config_keys_page()}
    return readme_pages() | whole | made


def target_on_site(origin: str, link: str) -> str | None:
    """Where a link of a file leads to on the site: a page and perhaps an anchor; None where the site lacks its target.

    Args:
      origin: the file that has the link, from the root of the repository.
      link: relative to this file, as GitHub reads it.
    """
    path, _, anchor = link.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)) if path else origin
    if file == "README.md":
        for page, text in readme_pages().items():
            first, *others = (slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE))
            if anchor in others:
                return f"{page}#{anchor}"
            if anchor == first:
                return page
        return "index.md"
    shown = {found: page for page, found in ORIGINS.items()}
    if file in shown:
        page = shown[file]
    elif file.startswith("docs/") and (ROOT / file).is_file() and not file.endswith(".py"):
        page = file.removeprefix("docs/")
    else:
        return None
    return f"{page}#{anchor}" if anchor else page


def with_links_of_site(text: str, page: str, origin: str, titles: Mapping[str, str]) -> str:
    """Leads relative links to pages of the site. A link to a file that the site lacks becomes the file's name.

    Args:
      text: Markdown; code blocks stay as they are.
      page: where the text stands on the site.
      origin: the file that it comes from.
      titles: page -> the title that a link shows in place of the name of its file.
    """

    def replaced(found: re.Match[str]) -> str:
        picture, words, link = found.groups()
        if link is None or re.match(r"[a-z]+:", link):
            return found[0]
        target = target_on_site(origin, link)
        if target is None:
            file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link.partition("#")[0]))
            if not (ROOT / file).exists():
                return found[0]  # mkdocs warns of it
            return words if posixpath.basename(words) != posixpath.basename(file) else f"`{file}`"
        name, _, anchor = target.partition("#")
        if name == page and anchor and not link.partition("#")[0]:
            return f"[{words}](#{anchor})"
        relative = posixpath.relpath(name, posixpath.dirname(page) or ".")
        if picture:  # which a click shows at its own size
            return f"[![{words}]({relative})]({relative})"
        words = titles.get(name, words) if words in (link, posixpath.basename(link)) else words
        return f"[{words}]({relative}{'#' if anchor else ''}{anchor})"

    pieces = [piece if piece.lstrip().startswith("```") else LINK.sub(replaced, piece) for piece in FENCED.split(text)]
    return "".join(pieces)


def on_files(files: Files, config, **_) -> Files:
    """Adds the pages that are made here."""
    for page, text in made_pages().items():
        files.append(File.generated(config, page, content=text, inclusion=InclusionLevel.INCLUDED))
    return files


def on_page_content(html: str, **_) -> str:
    """Marks short code within a line, such as `--as`, which would break behind its hyphens (site.css)."""
    return SHORT_CODE.sub(r'<code class="short">\1</code>', html)


def on_page_markdown(markdown: str, page, config, **_) -> str:
    """Leads the links of each page to pages of the site."""
    name = page.file.src_uri
    titles = {
        file: title
        for section in config.nav
        for pages in section.values()
        for entry in pages
        for title, file in entry.items()
    }
    return with_links_of_site(markdown, name, ORIGINS.get(name, f"docs/{name}"), titles)
