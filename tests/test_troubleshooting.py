"""Each message of docs/troubleshooting.md is one that the code can say."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = [line for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
HOLE = "\0"
LEAST = 6  # letters of a string that is worth looking for
VALUES = {
    "mdp",
    "warning",
    "perhaps",
    "streets",
    "rooms",
    "roads",
    "train",
    "val",
    "tram",
    "tunnel",
    "cpu",
    "gpu",
    "nan",
}
VALUES |= {"images", "masks", "classes"}


def text_of(node):
    """The text of a string, with a sign where a value goes in; "" of other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{[\w!:.]*\}", HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    return ""


def letters(text):
    return len(re.findall(r"[a-z]", text))


@pytest.fixture(scope="module")
def templates():
    """(longest piece, pattern) of the strings of the package; a group for each piece between two values."""
    found = set()
    for file in (ROOT / "mdp_jax").rglob("*.py"):
        found |= {text_of(node) for node in ast.walk(ast.parse(file.read_text()))}
    words = [text for text in found if letters(text) >= LEAST and " " in text and "\n" not in text]
    pieces = [text.split(HOLE) for text in words]
    return [(max(each, key=len), re.compile(".*?".join(f"({re.escape(piece)})" for piece in each))) for each in pieces]


def share_said(message, templates):
    """The share of a message's words that strings of the code have; paths, numbers and names are no words."""
    words = [found for found in re.finditer(r"(?<![^\s(])[A-Za-z]+(?=[\s,;:.?)]|$)", message) if found[0] not in VALUES]
    said = {at for found in words for at in range(*found.span())}
    in_code = set()
    for longest, pattern in templates:  # looking for the longest piece first saves most of the time
        if longest in message and (found := pattern.search(message)):
            for group in range(1, pattern.groups + 1):
                in_code |= set(range(*found.span(group)))
    return len(said & in_code) / len(said)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[:40])
def test_message_is_in_the_code(message, templates):
    assert share_said(message, templates) > 0.7


def test_other_words_are_noticed(templates):
    """A message whose words changed is not found."""
    changed = "data/streets/images/train/0001.jpg lacks its mask; wanted is data/streets/masks/train/0001.png"
    assert share_said(changed, templates) < 0.5


def test_every_symptom_has_a_message_or_says_that_there_is_none():
    for section in PAGE.split("\n### ")[1:]:
        heading = section.split("\n", 1)[0]
        assert "```text" in section or heading in (
            "Scores are low, and there is no message",
            "The first step takes minutes",
        )
