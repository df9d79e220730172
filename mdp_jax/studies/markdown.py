"""Markdown: tables, and parts of a file that are written anew."""

from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, text_of


def table_of(table: Table) -> str:
    """A table in Markdown, without its caption; numbers to the right."""

    def line(cells) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    rules = ["---:" if table.is_number(column) else "---" for column in range(len(table.columns))]
    return "\n".join([line(table.columns), line(rules), *(line(map(text_of, row)) for row in table.rows)])


def replace_part(text: str, begin: str, end: str, part: str) -> str:
    """A page with one part written anew.

    Args:
      text: the page; the part stands between the lines `<!-- BEGIN -->` and `<!-- END -->`.
      begin, end: as in "reproduce mini-real" and "end mini-real".
      part: what is to stand between them; it is appended, with both lines, where the page does not have them.

    Raises:
      UserError: one of the two lines without the other, or in the wrong order.
    """
    first, last = f"<!-- {begin} -->", f"<!-- {end} -->"
    block = f"{first}\n\n{part.strip()}\n\n{last}"
    if first not in text and last not in text:
        return f"{text.rstrip()}\n\n{block}\n"
    before, found, rest = text.partition(first)
    _, closed, after = rest.partition(last)
    if not found or not closed:
        raise UserError(f"expected a line {first} and after it a line {last}")
    return before + block + after
