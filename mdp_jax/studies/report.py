"""What came out of a suite: a page in its workdir, a part of docs/results.md, rows of JSON."""

import pathlib
from collections.abc import Sequence

from mdp_jax.errors import UserError
from mdp_jax.reporting import report
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.storage.json_files import write_json
from mdp_jax.studies import figures, markdown
from mdp_jax.studies.experiments import EQUIVALENT, Suite
from mdp_jax.studies.results import Outcome, Results, json_row, outcome_table, outcomes_table, scores_table
from mdp_jax.studies.statistics import MARGIN
from mdp_jax.studies.suites import SUITES

_PAGE = "results.md"
_SCORES = "mIoU by pretraining and target; lines: means over the seeds that are there, numbers: these seeds."


def pictures(results: Results) -> dict[str, Figure]:
    """The figures of a suite by a short name, of what was measured: claims, ablations, scores, all targets."""
    suite, found = results.suite, {}
    for name, outcomes in (("claims", results.claims), ("ablations", results.ablations)):
        if measured := _measured(outcomes):
            found[name] = Figure(figures.intervals(measured, f"{suite.name}: {name}"), _caption(measured))
    first, *others = (target.name for target in suite.targets)
    shown = {"scores": ([row for row in suite.pretrainings if first in row.targets], [first])}
    everywhere = [row for row in suite.pretrainings if others and others[0] in row.targets]
    if everywhere:
        shared = [name for name in (first, *others) if all(name in row.targets for row in everywhere)]
        shown["targets"] = (everywhere, shared)
    there = {cell for cell, _ in results.scores}
    for name, (rows_shown, targets) in shown.items():
        names = [row.name for row in rows_shown if any((row.name, target) in there for target in targets)]
        if names:
            picture = figures.scores(suite, results.scores, names, targets, f"{suite.name}: mIoU")
            found[name] = Figure(picture, _SCORES)
    return found


def _own(suite: Suite) -> bool:
    return suite.name not in SUITES


def _title(suite: Suite) -> str:
    return f"mdp reproduce: {suite.name}" if _own(suite) else f"mdp reproduce --suite {suite.name}"


def _measured(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those with both sides there for at least one seed."""
    return [outcome for outcome in outcomes if outcome.seeds]


def _caption(outcomes: Sequence[Outcome]) -> str:
    text = "Mean of the paired differences, its 95 % interval, and each seed as a dot."
    if any(outcome.contrast.kind == EQUIVALENT for outcome in outcomes):
        text += f" Grey: the margin of {MARGIN:g} mIoU within which two ways count as the same."
    return text


def summary(results: Results) -> str:
    """How complete the results are, in a sentence or two."""
    total = len(results.missing) + len(results.scores)
    text = f"All {total} fine-tunings are there."
    if results.missing:
        text = f"Not complete: {len(results.missing)} of {total} fine-tunings are missing."
    if results.from_files:
        text += f" The scores of {results.from_files} were taken from runs in other workdirs."
    return text if results.most is None else f"{text} At most {results.most} seeds of each pretraining."


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
    table = ["", markdown.table_of(outcome_table(outcome))] if outcome.seeds else []
    return "\n".join([*lines, *table])


def results_part(results: Results, images: dict[str, str]) -> str:
    """The part of docs/results.md about a suite.

    Args:
      results: its results so far.
      images: {name of a figure: its path from the page}.
    """
    shown = (("claims", results.claims), ("ablations", results.ablations))
    captions = {name: _caption(_measured(outcomes)) for name, outcomes in shown}

    def image(name: str) -> str:
        return f"![{captions.get(name, _SCORES)}]({images[name]})"

    rules = "The claims, the rules of their verdicts and all settings are in [claims.md](claims.md)."
    if _own(results.suite):
        rules = "`mdp reproduce --list` prints the claims, the rules of their verdicts and all settings."
    parts = [
        f"## `{_title(results.suite)}`\n\n{results.suite.what}\n\n{summary(results)} {rules}",
        markdown.table_of(outcomes_table(results.claims)),
        *(image(name) for name in images if name != "ablations"),
    ]
    if measured := _measured(results.ablations):
        parts += [
            "Ablations, against MDP as it is where the name says nothing else:",
            markdown.table_of(outcomes_table(measured)),
        ]
        parts += [image(name) for name in images if name == "ablations"]
    every = markdown.table_of(scores_table(results))
    parts.append(f"<details><summary>All runs</summary>\n\n{every}\n\n</details>")
    each = "\n\n".join(_claim_lines(outcome) for outcome in results.claims)
    parts.append(f"<details><summary>Each claim, seed by seed</summary>\n\n{each}\n\n</details>")
    return "\n\n".join(parts)


def write_page(results: Results, folder: pathlib.Path) -> pathlib.Path:
    """Writes report.html and reproduce.json into the folder of a suite; returns the path of the page."""
    shown = pictures(results)
    measured = _measured(results.ablations)
    ablations = [outcomes_table(measured, "Ablations")] if measured else []
    tables = [outcomes_table(results.claims, "Claims"), *ablations]
    details = [outcome_table(outcome) for outcome in _measured(results.claims)]
    sections = [
        Section("Claims", f"{results.suite.what}\n\n{summary(results)}", tables, list(shown.values())),
        Section("All runs", tables=[scores_table(results)]),
        Section("Each claim, seed by seed", tables=details),
    ]
    folder.mkdir(parents=True, exist_ok=True)  # where no run was made here
    write_json(folder / "reproduce.json", rows(results))
    file = folder / "report.html"
    file.write_text(report.html(_title(results.suite), sections), encoding="utf-8")
    return file


def rows(results: Results) -> list[dict]:
    """The rows of reproduce.json: claims, then ablations, whose verdict is null."""
    return [json_row(outcome) for outcome in results.outcomes]


def require_docs(docs: pathlib.Path, suite: str) -> None:
    """Checks that `write_docs` can do its work.

    Raises:
      UserError: no such folder, a file in place of its folder images, or a results.md with one of the two lines around
        the suite's part.
    """
    if not docs.is_dir():
        raise UserError(f"--docs {docs}: expected a folder that exists")
    if (docs / "images").exists() and not (docs / "images").is_dir():
        raise UserError(f"--docs {docs}: images in it is a file; expected a folder, or none")
    _with_part(docs, suite, "")


def _with_part(docs: pathlib.Path, suite: str, part: str) -> str:
    file = docs / _PAGE
    try:
        page = file.read_text(encoding="utf-8") if file.exists() else "# What came out\n"
        return markdown.replace_part(page, f"reproduce {suite}", f"end {suite}", part)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def write_docs(results: Results, docs: pathlib.Path) -> None:
    """Writes reproduce-SUITE.json, images/reproduce_SUITE_*.png and the suite's part of results.md into a folder."""
    suite = results.suite.name
    (docs / "images").mkdir(exist_ok=True)
    images = {}
    for name, figure in pictures(results).items():
        images[name] = f"images/reproduce_{suite.replace('-', '_')}_{name}.png"
        (docs / images[name]).write_bytes(figure.png)
    write_json(docs / f"reproduce-{suite}.json", rows(results))
    (docs / _PAGE).write_text(_with_part(docs, suite, results_part(results, images)), encoding="utf-8")
