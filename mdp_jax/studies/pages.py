"""Writes about a suite: its claims and rules, tables, a page in its workdir, a page and files under docs."""

import pathlib
from collections.abc import Sequence

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.reporting import report
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.reporting.tables import Table, text_of
from mdp_jax.storage.json_files import write_bytes, write_json, write_text
from mdp_jax.storage.paths import make_folder, require_possible
from mdp_jax.studies import figures
from mdp_jax.studies.experiments import EQUIVALENT, Cell, Contrast, Overrides, Suite, Target
from mdp_jax.studies.results import Outcome, Results, json_row
from mdp_jax.studies.statistics import MARGIN
from mdp_jax.words import counted

ABLATIONS = "Ablations: measured in the same way, nothing is claimed of them"
RULES = f"""\
Each claim compares two sides. A side is a pretraining and the set that it is fine-tuned on, or scored on by heads in
closed form; or it is the mean of several of these. The two sides of a pair have the same seed. The seed decides the
weights, the order of the photos where both sides have the same ones, and the choice of the labelled photos. The
statistic is the mean of the paired differences in mIoU on the validation photos, with its 95 % Student interval. The
verdict:

- *greater*: `holds` if the interval lies above 0, `contradicted` if it lies below 0, otherwise `undecided`;
- *equivalent*: `holds` if the whole interval lies within -{MARGIN:g} .. {MARGIN:g} mIoU, `contradicted` if it lies
  wholly outside, otherwise `undecided`;
- one seed, or runs of a claim that are missing: `undecided`.

Each interval stands alone: of twenty comparisons of equals, about one has an interval without 0. The interval is over
seeds, with the same validation photos. It says nothing about other photos. With five seeds it reaches 1.24 standard
deviations of the differences to each side, with three seeds 2.48. So `undecided` is no evidence that two are equal, and
with three seeds *equivalent* can hold only if that deviation is 0.4 mIoU or less. `--seeds N` judges by the first N
seeds. The interval is not made for a study that is looked at after each seed and stopped at will.

Ablations are measured in the same way, and nothing is claimed of them. All runs are reported."""

_CURVES = "Lines: means over the seeds that are there; dots: these seeds."
_SCORES = "mIoU by pretraining and target; lines: means over the seeds that are there, numbers: these seeds."


Rows = list[list[str | int | float | None]]


def markdown_table(table: Table) -> str:
    """Gives a table as Markdown, without its caption; numbers are aligned to the right.

    Args:
      table: of text and numbers.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    rules = ["---:" if table.is_number(column) else "---" for column in range(len(table.columns))]
    return "\n".join([line(table.columns), line(rules), *(line([*map(text_of, row)]) for row in table.rows)])


def _side(cells: tuple[Cell, ...], mean: bool = False) -> str:
    """A side of a contrast in words: "mdp / camvid11", or one minus another, or the mean of several."""
    names = [" / ".join(cell) for cell in cells]
    if mean and len(names) > 1:
        return f"mean of {len(names)}: {names[0]} to {names[-1]}"
    return " − ".join(names)


def outcomes_table(outcomes: Sequence[Outcome], caption: str = "") -> Table:
    """Makes a table with a row for each claim or ablation.

    Args:
      outcomes: of a suite.
      caption: above the table.
    """
    rows: Rows = []
    for outcome in outcomes:
        count, missing = len(outcome.seeds), len(outcome.missing) or None
        rows.append([outcome.contrast.key, *outcome.found, count, outcome.verdict, missing])
    return Table(["claim", "difference", "low", "high", "seeds", "verdict", "missing"], rows, caption)


def outcome_table(outcome: Outcome) -> Table:
    """Makes a table of both sides and the difference for each seed, and their means.

    Args:
      outcome: of a claim or ablation.
    """
    rows: Rows = [
        [str(seed), *values]
        for seed, *values in zip(outcome.seeds, outcome.left, outcome.right, outcome.differences, strict=True)
    ]
    if rows:
        rows.append(["mean", *(float(np.mean(of)) for of in (outcome.left, outcome.right, outcome.differences))])
    contrast = outcome.contrast
    sides = (_side(cells, contrast.mean) for cells in (contrast.left, contrast.right))
    return Table(["seed", *sides, "difference"], rows)


def scores_table(results: Results, caption: str = "") -> Table:
    """Makes a table of mean, standard deviation and number of runs of every pretraining on every target.

    Args:
      results: of a suite.
      caption: above the table.
    """
    suite = results.suite
    rows: Rows = []
    by_cell: dict[Cell, list[float]] = {}  # in the order of the seeds
    for (cell, _), value in sorted(results.scores.items()):
        by_cell.setdefault(cell, []).append(value)
    for target in (name for of in suite.targets for name in of.scores):
        for row in suite.pretrainings:
            if values := by_cell.get((row.name, target)):
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                each = ", ".join(f"{value:.2f}" for value in values)
                rows.append([target, row.name, float(np.mean(values)), deviation, len(values), each])
    return Table(["target", "pretraining", "mIoU (%)", "sd", "n", "each seed"], rows, caption)


def claims_of(suite: Suite) -> str:
    """Gives the claims, ablations, pretrainings and targets of a suite as Markdown.

    Args:
      suite: its data.
    """

    def code(text: str) -> str:
        return f"`{text}`" if text else "–"

    def values(overrides: Overrides) -> str:
        return " ".join(code(f"{key}={value}") for key, value in overrides) or "–"

    parts = [f"## {suite.name}\n\n{suite.what}"]
    for heading, contrasts in (("Claims", suite.claims), ("Ablations", suite.ablations)):
        rows: Rows = [
            [
                row.key,
                row.sentence,
                *(_side(cells, row.mean) for cells in (row.left, row.right)),
                row.kind,
                len(suite.seeds_of(row)),
            ]
            for row in contrasts
        ]
        if rows:
            table = Table(["key", "sentence", "left", "right", "kind", "seeds"], rows)
            parts += [f"### {heading}\n\n{markdown_table(table)}", *_notes(contrasts)]
    pretrainings: Rows = [
        [row.name, row.what, code(row.config), values(row.overrides), row.init or "–", row.seeds]
        for row in suite.pretrainings
    ]
    columns = ["name", "what", "config of `mdp pretrain`", "values", "starts from", "seeds"]
    parts.append("### Pretrainings\n\n" + markdown_table(Table(columns, pretrainings)))
    targets: Rows = []
    for row in suite.targets:
        rates = ", ".join(f"{name}: {rate}" for name, rate in row.rates.items()) or "–"
        targets.append([row.name, row.what, code(row.config), values(row.overrides), rates])
    columns = ["name", "what", "config of `mdp finetune`", "values", "learning rate of its own"]
    parts.append("### Targets\n\n" + markdown_table(Table(columns, targets)))
    parts += [_closed_form(row) for row in suite.targets if row.photos]
    return "\n\n".join(parts)


def _closed_form(target: Target) -> str:
    """What a target of heads in closed form is, in a paragraph."""
    photos = ", ".join(str(number) if number else "all" for number in target.photos)
    seeds = f" Seeds {', '.join(map(str, target.seeds))} alone." if target.seeds else ""
    return (
        f"`{target.name}`: heads in closed form (`mdp adopt`) on {' and on '.join(target.layers)}, from {photos} "
        f"labelled photos, {target.draws} draws of each number; the score is the mean of all.{seeds}"
    )


def _notes(contrasts: Sequence[Contrast]) -> list[str]:
    """A paragraph for each note, with all that it is about."""
    keys: dict[str, list[str]] = {}
    for row in contrasts:
        keys.setdefault(row.note, []).append(f"`{row.key}`")
    return [f"{', '.join(about)}: {note}" for note, about in keys.items() if note]


def pictures(results: Results) -> dict[str, Figure]:
    """The figures of a suite by a short name, of what was measured: claims, ablations, scores, all targets, curves."""
    suite, found = results.suite, {}
    for name, outcomes in (("claims", results.claims), ("ablations", results.ablations)):
        if measured := _measured(outcomes):
            found[name] = Figure(figures.intervals(suite, measured, f"{suite.name}: {name}"), _caption(measured))
    first, *others = (target.name for target in suite.targets)
    shown = {"scores": ([row for row in suite.pretrainings if first in row.targets], [first])}
    everywhere = [row for row in suite.pretrainings if others and others[0] in row.targets]
    if everywhere:
        shared = [name for name in (first, *others) if all(name in row.targets for row in everywhere)]
        shown["targets"] = (everywhere, shared)
    there, drawn = {cell for cell, _ in results.scores}, []
    for name, (rows, targets) in shown.items():
        names = [row.name for row in rows if any((row.name, target) in there for target in targets)]
        panels = [target for target in targets if any((row, target) in there for row in names)]
        if names and (names, panels) not in drawn:
            drawn.append((names, panels))
            picture = figures.scores(suite, results.scores, names, panels, f"{suite.name}: mIoU")
            found[name] = Figure(picture, _SCORES)
    rows_of = {
        target.name: own
        for target in suite.targets
        if (own := [row.name for row in suite.pretrainings if (row.name, target.name) in there])
    }
    if {name for own in rows_of.values() for name in own} - {name for names, _ in drawn for name in names}:
        # Pretrainings that the first targets do not have.
        picture = figures.scores_of_own_rows(suite, results.scores, rows_of, f"{suite.name}: mIoU")
        found = {name: figure for name, figure in found.items() if name not in shown}
        found["scores"] = Figure(picture, _SCORES)
    if any(cell in there for curve in suite.curves for _, cells in curve.points for cell in cells):
        found["curves"] = Figure(figures.curves(suite, results.scores, f"{suite.name}: mIoU"), _CURVES)
    return found


def _measured(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes for which both sides have a score of the same seed."""
    return [outcome for outcome in outcomes if outcome.seeds]


def _caption(outcomes: Sequence[Outcome]) -> str:
    text = "Mean of the paired differences, its 95 % interval, and each seed as a dot."
    if any(outcome.contrast.kind == EQUIVALENT for outcome in outcomes):
        text += f" Grey: the margin of {MARGIN:g} mIoU within which two ways count as the same."
    return text


def summary(results: Results) -> str:
    """Says in a sentence or two how complete the results are.

    Args:
      results: of a suite.
    """
    names = {target.name for target in results.suite.targets}
    total = len(results.missing) + sum(target in names for (_, target), _ in results.scores)
    what = "scored runs" if any(target.photos for target in results.suite.targets) else "fine-tunings"
    text = f"All {total} {what} are there."
    if results.missing:
        text = f"Not complete: {len(results.missing)} of {total} {what} are missing."
    if results.from_files:
        text += f" The scores of {results.from_files} were taken from runs in other workdirs."
    return text if results.most is None else f"{text} At most {counted(results.most, 'seed')} of each pretraining."


def rows(results: Results) -> list[dict]:
    """Makes the rows of reproduce.json: claims, then ablations, whose verdict is null.

    Args:
      results: of a suite.
    """
    return [json_row(outcome) for outcome in results.outcomes]


def write_page(results: Results, folder: pathlib.Path) -> pathlib.Path:
    """Writes report.html and reproduce.json into the folder of a suite.

    Args:
      results: of the suite.
      folder: of the suite; it is made where it is missing.

    Returns:
      The path of the page.
    """
    measured = _measured(results.ablations)
    ablations = [outcomes_table(measured, "Ablations")] if measured else []
    claims = [outcomes_table(results.claims, "Claims")] if results.claims else []
    tables = [*claims, *ablations]
    text = f"{results.suite.what}\n\n{summary(results)}"
    sections = [
        Section("Claims", text, tables, list(pictures(results).values())),
        Section("All runs", tables=[scores_table(results)]),
        Section("Each claim, seed by seed", tables=[outcome_table(outcome) for outcome in _measured(results.claims)]),
    ]
    make_folder(folder, "--workdir")  # where no run was made here
    write_json(folder / "reproduce.json", rows(results))
    file = folder / "report.html"
    write_text(file, report.html(f"mdp reproduce: {results.suite.name}", sections))
    return file


def results_page(results: Results, images: dict[str, str]) -> str:
    """Makes the text of docs/results/reproduce-SUITE.md.

    Args:
      results: of the suite.
      images: {name of a figure: its path from the page}.
    """
    shown = (("claims", results.claims), ("ablations", results.ablations))
    captions = {name: _caption(_measured(outcomes)) for name, outcomes in shown} | {"curves": _CURVES}

    def image(name: str) -> str:
        return f"![{captions.get(name, _SCORES)}]({images[name]})"

    listed = "`mdp reproduce --list` prints the claims, the rules of their verdicts and all settings."
    parts = [
        f"# mdp reproduce: {results.suite.name}\n\n{results.suite.what}\n\n{summary(results)} {listed}",
        *([markdown_table(outcomes_table(results.claims))] if results.claims else []),
        *(image(name) for name in images if name != "ablations"),
    ]
    if measured := _measured(results.ablations):
        parts += [f"{ABLATIONS}.", markdown_table(outcomes_table(measured))]
        parts += [image(name) for name in images if name == "ablations"]
    parts.append(f"## All runs\n\n{markdown_table(scores_table(results))}")
    if results.claims:
        parts.append("\n\n".join(["## Each claim, seed by seed", *map(_claim_lines, results.claims)]))
    return "\n\n".join(parts) + "\n"


def _claim_lines(outcome: Outcome) -> str:
    contrast = outcome.contrast
    lines = [f"**{contrast.key}**: {contrast.sentence}. Verdict: {outcome.verdict}."]
    if contrast.note:
        lines.append(contrast.note)
    if outcome.missing:
        seeds: dict[str, list[str]] = {}
        for cell, seed in outcome.missing:
            seeds.setdefault("/".join(cell), []).append(str(seed))
        cells = (f"{cell} (seed {', '.join(of)})" for cell, of in seeds.items())
        lines.append(f"Missing: {'; '.join(cells)}.")
    table = ["", markdown_table(outcome_table(outcome))] if outcome.seeds else []
    return "\n".join([*lines, *table])


def docs_file(docs: pathlib.Path, suite: str, end: str) -> pathlib.Path:
    """The path of a file of `write_docs`, or of the scores.

    Args:
      docs: folder.
      suite: its name.
      end: ".md", ".json" or "-scores.json".
    """
    return docs / "results" / f"reproduce-{suite}{end}"


def require_docs(docs: pathlib.Path) -> None:
    """Checks that `write_docs` can write into a folder.

    Args:
      docs: the folder.

    Raises:
      UserError: there is no such folder, it cannot be written to, or images or results in it is a file.
    """
    if not docs.is_dir():
        raise UserError(f"--docs {docs}: expected a folder that exists")
    require_possible(docs, "--docs")
    for name in ("images", "results"):
        if (docs / name).exists() and not (docs / name).is_dir():
            raise UserError(f"--docs {docs}: {name} in it is a file; expected a folder, or none")


def write_docs(results: Results, docs: pathlib.Path) -> None:
    """Writes results/reproduce-SUITE.md and .json and images/reproduce_SUITE_*.png into a folder.

    Args:
      results: of the suite.
      docs: the folder.
    """
    suite = results.suite.name
    for name in ("images", "results"):
        make_folder(docs / name, "--docs")
    images = {}
    for name, figure in pictures(results).items():
        file = f"reproduce_{suite.replace('-', '_')}_{name}.png"
        images[name] = f"../images/{file}"
        write_bytes(docs / "images" / file, figure.png)
    write_json(docs_file(docs, suite, ".json"), rows(results))
    write_text(docs_file(docs, suite, ".md"), results_page(results, images))
