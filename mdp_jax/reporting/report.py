"""One self-contained HTML page: text, tables and figures, nothing loaded from elsewhere."""

import base64
import html as escaping
from collections.abc import Sequence
from dataclasses import dataclass

from mdp_jax.reporting.figures import DENSITY
from mdp_jax.reporting.tables import Table, text_of

_LEAST = 640  # pixels of a page below which, and below 7 tenths of its own, no picture is shrunk: it scrolls in a box
_LONG = 60  # characters of a cell that goes on in further lines
STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --page: #ffffff; --line: #d5d8dc; --soft: #f4f5f7; --note: #5b6168; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --page: #16181b; --line: #3a3f45; --soft: #202327; --note: #a2a9b1; }
}
body { margin: 0 auto; max-width: 1080px; padding: 1.5rem 1.2rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0.5rem 0 1.5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.6rem; padding-bottom: 0.25rem; border-bottom: 1px solid var(--line); }
p { margin: 0.6rem 0; max-width: 46rem; white-space: pre-line; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 0.4rem; font-weight: 600; }
th, td { padding: 0.28rem 0.9rem 0.28rem 0.5rem; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
th { background: var(--soft); font-weight: 600; }
.sortable th { cursor: pointer; }
.sortable th[aria-sort]::after { content: " \\2191"; }
.sortable th[aria-sort="descending"]::after { content: " \\2193"; }
.long { white-space: normal; min-width: 20rem; }
.number { text-align: right; padding: 0.28rem 0.5rem 0.28rem 1.4rem; }
nav { margin: 1rem 0 0; }
nav a { display: inline-block; margin: 0 1rem 0.3rem 0; color: inherit; }
figure { margin: 1.2rem 0; }
.picture { overflow-x: auto; background: #ffffff; padding: 8px; border: 1px solid var(--line); border-radius: 4px;
  width: fit-content; max-width: 100%; box-sizing: border-box; }
.picture img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: 0.4rem; color: var(--note); font-size: 0.9rem; max-width: 46rem; }
"""

_SORTED_FROM = 4  # rows of a table from which on a click on a heading sorts it
# Numbers from the largest, words from A. The second click turns the order, the third gives back the first one. Cells
# without a value stay below.
_SCRIPT = """
for (const table of document.querySelectorAll(".sortable")) {
  const body = table.tBodies[0], first = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const number = text => Number(text.replaceAll(",", "").replace("\u2212", "-"));
  heads.forEach((head, column) => {
    const values = new Map(first.map(row => [row, row.cells[column].textContent.trim()]));
    const given = [...values.values()].filter(text => !["", "\u2013", "-"].includes(text));
    const numeric = given.every(text => !Number.isNaN(number(text)));
    const compare = (a, b) => numeric ? number(b) - number(a) : a.localeCompare(b);
    const sort = () => {
      const before = head.getAttribute("aria-sort"), start = numeric ? "descending" : "ascending";
      const now = !before ? start : before === start ? (numeric ? "ascending" : "descending") : null;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (now) head.setAttribute("aria-sort", now);
      const there = row => given.includes(values.get(row)), sign = now === start ? 1 : -1;
      const order = (a, b) => there(b) - there(a) || (there(a) && sign * compare(values.get(a), values.get(b)));
      body.append(...(now ? [...first].sort(order) : first));
    };
    head.tabIndex = 0;
    head.title = "sort";
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
"""


@dataclass(frozen=True)
class Figure:
    """A picture, as the bytes of a PNG file, and the text below it."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order.

    Attributes:
        heading: plain text.
        text: plain text; an empty line begins a new paragraph.
        tables: reporting.tables.Table.
        figures: Figure.
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def html(title: str, sections: Sequence[Section]) -> str:
    """The page as one string, to be written as UTF-8. All text is escaped; nothing else is loaded."""
    body = "\n".join(_section(section, number) for number, section in enumerate(sections, start=1))
    links = (f'<a href="#s{number}">{escaping.escape(s.heading)}</a>' for number, s in enumerate(sections, start=1))
    contents = f"<nav>{' '.join(links)}</nav>" if len(sections) > 1 else ""
    name = escaping.escape(title)
    script = f"<script>{_SCRIPT}</script>\n" if any(_sorts(table) for s in sections for table in s.tables) else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{contents}\n{body}\n{script}</body>\n</html>\n"
    )


def _section(section: Section, number: int) -> str:
    paragraphs = [part.strip() for part in section.text.split("\n\n") if part.strip()]
    parts = [f"<h2>{escaping.escape(section.heading)}</h2>"]
    parts += [f"<p>{escaping.escape(paragraph)}</p>" for paragraph in paragraphs]
    parts += [_table(table) for table in section.tables]
    parts += [_figure(figure) for figure in section.figures]
    return f'<section id="s{number}">\n' + "\n".join(parts) + "\n</section>"


def _sorts(table: Table) -> bool:
    return any(table.columns) and len(table.rows) >= _SORTED_FROM


def _table(table: Table) -> str:
    def row(cells: Sequence, tag: str) -> str:
        inside = []
        for number, text in enumerate(map(text_of, cells)):
            kind = "number" if table.is_number(number) else "long" if len(text) > _LONG else ""
            mark = f' class="{kind}"' if kind else ""
            inside.append(f"<{tag}{mark}>{escaping.escape(text)}</{tag}>")
        return f"<tr>{''.join(inside)}</tr>"

    caption = f"<caption>{escaping.escape(table.caption)}</caption>" if table.caption else ""
    body = "\n".join(row(cells, "td") for cells in table.rows)
    head = f"<thead>{row(table.columns, 'th')}</thead>\n" if any(table.columns) else ""
    sorts = ' class="sortable"' if _sorts(table) else ""
    return f'<div class="scroll"><table{sorts}>{caption}\n{head}<tbody>\n{body}\n</tbody></table></div>'


def _figure(figure: Figure) -> str:
    data, caption = base64.b64encode(figure.png).decode(), escaping.escape(figure.caption)
    width = int.from_bytes(figure.png[16:20], "big") // DENSITY  # of a PNG: the first field of its header
    # A picture wider than the column of text is given the width of the window, as far as it needs it.
    margin = f"margin-inline: min(0px, calc(50% - min(48vw, {width // 2 + 10}px)))"
    size = f'width="{width}" style="min-width: {min(width, max(_LEAST, 7 * width // 10))}px"'
    image = f'<img alt="{caption}" {size} src="data:image/png;base64,{data}">'
    return f'<figure style="{margin}"><div class="picture">{image}</div><figcaption>{caption}</figcaption></figure>'
