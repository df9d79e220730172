"""mdp_jax/reporting/report.py and tables.py."""

import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from rich.console import Console

from mdp_jax.reporting import figures, report, tables


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and all text, of a page whose tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._open = [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


PNG = figures.encode_png(np.zeros((4, 6, 3), np.uint8))
TABLE = tables.Table(["class", "IoU (%)", "photos"], [["<sky>", 81.234, 3], ["road", None, 4]], "Scores & counts")
TEXT = 'First paragraph, <script>alert("1")</script>.\n\nSecond & last.'


def page():
    sections = [report.Section("A < B", TEXT, [TABLE], [report.Figure(PNG, 'a "grid"')]), report.Section("Empty")]
    return report.html("Runs <of> today", sections)


def test_the_page_is_well_formed_and_escapes_all_text():
    parsed = Page(page())
    text = "".join(parsed.words)
    for words in (
        "Runs <of> today",
        "A < B",
        '<script>alert("1")</script>',
        "Second & last.",
        "<sky>",
        "Scores & counts",
    ):
        assert words in text
    assert [tag for tag, _ in parsed.tags].count("p") == 2
    assert "script" not in [tag for tag, _ in parsed.tags]


def test_the_page_needs_nothing_from_elsewhere():
    text = page()
    assert "http" not in text and "url(" not in text and "@import" not in text
    parsed = Page(text)
    sources = [attributes["src"] for _, attributes in parsed.tags if "src" in attributes]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,iVBOR")
    links = [attributes["href"] for _, attributes in parsed.tags if "href" in attributes]
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert links == [f"#{name}" for name in ids] and len(links) == 2
    assert "prefers-color-scheme: dark" in text


def test_numbers_belong_to_the_right_and_text_to_the_left():
    cells = re.findall(r"<t[hd]( class=\"number\")?>([^<]*)<", page())
    assert [(bool(number), text) for number, text in cells] == [
        (False, "class"),
        (True, "IoU (%)"),
        (True, "photos"),
        (False, "&lt;sky&gt;"),
        (True, "81.23"),
        (True, "3"),
        (False, "road"),
        (True, "–"),
        (True, "4"),
    ]


def test_long_cells_go_on_in_further_lines():
    table = tables.Table(["class", "near"], [["sky", "a, " * 30]])
    text = report.html("t", [report.Section("s", tables=[table])])
    assert re.findall(r"<td([^>]*)>", text) == ["", ' class="long"']


def test_wide_things_scroll_in_their_own_box():
    text = page()
    assert text.count('<div class="scroll"><table>') == text.count("<table>") == 1
    assert text.count('<div class="picture"><img') == text.count("<img") == 1
    wide = report.Figure(figures.encode_png(np.zeros((4, 2000, 3), np.uint8)), "wide")
    text = report.html("t", [report.Section("s", figures=[wide])])
    assert 'width="1000" style="min-width: 700px"' in text  # half of its pixels, and never squeezed


def test_a_table_without_headings_has_no_head():
    table = tables.Table(["", ""], [["seed", "0"]])
    assert "<thead>" not in report.html("t", [report.Section("s", tables=[table])])


def printed(table, width=100, **options):
    console = Console(file=io.StringIO(), width=width)
    console.print(tables.for_terminal(table, **options))
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_terminal_shows_the_same_cells_aligned():
    lines = printed(
        tables.Table(["class", "IoU (%)"], [["[bold]sky", 81.234], ["road", None], ["mIoU", 7.0]], "valley")
    )
    assert lines[0].startswith("valley")
    assert [line.split() for line in lines[3:]] == [["[bold]sky", "81.23"], ["road", "–"], ["mIoU", "7.00"]]
    assert len({len(line) for line in lines[3:]}) == 1


def test_a_narrow_terminal_breaks_names_and_no_numbers():
    lines = printed(tables.Table(["class", "IoU (%)"], [["a very long name of a class " * 3, 81.234]]), width=40)
    text = " ".join(lines)
    assert "IoU (%)" in text and "81.23" in text and "…" not in text


def test_scores_of_two_networks_as_a_table():
    scores = {"mIoU": 50.0, "mAcc": 60.0, "aAcc": 70.0, "per_class": {"sky": 50.0, "car": None}, "images": 2}
    table = tables.scores_table({"scratch": scores, "pretrained": scores | {"mIoU": 51.0}}, "valley")
    assert table.columns == ["class", "scratch", "pretrained"]
    assert table.rows == [
        ["sky", 50.0, 50.0],
        ["car", None, None],
        ["mIoU", 50.0, 51.0],
        ["mAcc", 60.0, 60.0],
        ["aAcc", 70.0, 70.0],
    ]


def test_means_stand_under_their_own_names():
    scores = {"mIoU": 50.0, "mAcc": 60.0, "aAcc": None, "per_class": {"sky": 50.0}, "images": 2}
    assert tables.means_table({"": scores}).rows == [["", 50.0, 60.0, None]]
    assert tables.means_table({"": scores}).columns == ["", "mIoU (%)", "mAcc (%)", "aAcc (%)"]
    assert tables.classes_table({"IoU (%)": scores}).rows == [["sky", 50.0]]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")
@pytest.mark.parametrize(
    ("column", "clicks", "names"),
    [
        (1, 1, ["wall", "sky", "car", "road", "tree"]),  # numbers from the largest, a dash below
        (1, 2, ["car", "sky", "wall", "road", "tree"]),
        (1, 3, ["road", "sky", "car", "tree", "wall"]),  # as it was
        (0, 1, ["car", "road", "sky", "tree", "wall"]),
        (0, 2, ["wall", "tree", "sky", "road", "car"]),
    ],
)
def test_a_click_on_a_heading_sorts(tmp_path, column, clicks, names):
    rows = [["road", None], ["sky", 9.5], ["car", 1.25], ["tree", None], ["wall", 81.0]]
    text = report.html("Sorted", [report.Section("Classes", tables=[tables.Table(["class", "IoU"], rows)])])
    click = f'<script>for (let i = 0; i < {clicks}; i++) document.querySelectorAll("th")[{column}].click();</script>'
    file = tmp_path / "page.html"
    file.write_text(text.replace("</body>", f"{click}</body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user", "--dump-dom"]
    found = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.findall(r'<td(?: class="")?>([a-z]+)</td>', found) == names


def test_small_tables_do_not_sort():
    assert 'class="sortable"' not in page()
