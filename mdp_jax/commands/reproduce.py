"""`mdp reproduce`: the paper's comparisons at a scale anybody can run, with intervals and verdicts."""

import argparse
import os
import pathlib
import shlex

from mdp_jax.commands.arguments import json_file, whole_number
from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.locks import locked
from mdp_jax.studies import claims_page, own_suites, ready, report, runs, score_files
from mdp_jax.studies.engine import Engine, slots
from mdp_jax.studies.experiments import Suite
from mdp_jax.studies.full import DEVICE, PEAK_TFLOPS, UTILISATION, device_hours
from mdp_jax.studies.results import Results, collect, outcome_table, outcomes_table, scores_of, scores_table
from mdp_jax.studies.suites import SUITES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp reproduce`."""
    parser.add_argument(
        "--suite",
        required=True,
        help=f"which experiments: {', '.join(SUITES)} (only listed), or a Python file of your own with get_suite()",
    )
    parser.add_argument(
        "--seeds", type=whole_number, metavar="N", help="at most so many of each experiment (its first ones)"
    )
    parser.add_argument("--workdir", default="runs/reproduce", help="folder of all runs (default runs/reproduce)")
    parser.add_argument("--data_dir", metavar="D", help="folder of the datasets, where the suite has real photos")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="run these pretrainings alone")
    parser.add_argument(
        "--scores",
        nargs="+",
        default=(),
        metavar="FILE",
        help="scores.json of other workdirs of the suite, with the same photos; those runs are not repeated",
    )
    at_once = parser.add_mutually_exclusive_group()
    at_once.add_argument("--jobs", type=whole_number, metavar="J", help="runs at once, each on its share of the cores")
    at_once.add_argument("--gpus", nargs="+", default=(), metavar="ID", help="CUDA devices, one run at once on each")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--list", action="store_true", help="print claims and runs with their state; run nothing")
    shown.add_argument("--results", action="store_true", help="the results of the runs that are finished; run nothing")
    parser.add_argument("--json", metavar="FILE", help="the table of the claims and ablations as a list of rows")
    parser.add_argument("--docs", metavar="DIR", help="write the suite's part of DIR/results.md, with JSON and figures")
    parser.epilog = (
        "Started again on the same workdir it goes on, and no finished run is repeated. Of a pretraining the weights "
        "stay, of a fine-tuning its scores and report alone."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs what is missing of a suite and writes its results; or lists it.

    Raises:
      UserError: wrong use, a suite that does not fit together, no data, a workdir in use or of other settings, or runs
        that failed (after all others).
      PreemptedError: told to stop; what was under way has saved.
    """
    reproduce(own_suites.load(args.suite), args, overrides)


def reproduce(suite: Suite, args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """`run` for a suite given as data."""
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: the settings of a suite are fixed; expected no --config values")
    rows_file, docs = json_file(args.json), pathlib.Path(os.path.expanduser(args.docs)) if args.docs else None
    if args.list and (rows_file or docs):
        raise UserError("--list: runs are listed, not judged; expected --results with --json or --docs")
    if docs:
        report.require_docs(docs, suite.name)
    folder = pathlib.Path(os.path.expanduser(args.workdir)).resolve() / suite.name
    data_dir = str(pathlib.Path(os.path.expanduser(args.data_dir)).resolve()) if args.data_dir else ""
    every = runs.of_suite(suite, data_dir, args.seeds)
    chosen = runs.of_suite(suite, data_dir, args.seeds, args.only)
    if not suite.runs_here:
        if args.results or args.scores or rows_file or docs:
            raise UserError(f"--suite {suite.name}: is only listed; expected no --results, --scores, --json or --docs")
        return _list_elsewhere(suite, chosen)
    all_seeds = runs.of_suite(suite, data_dir)
    known = score_files.read(args.scores, all_seeds)
    if args.results and not known and not folder.is_dir():
        raise UserError(f"--workdir {args.workdir}: no folder {suite.name} in it; expected one with runs of the suite")
    runs.require_same(all_seeds, folder)
    if args.list:
        return _list(suite, chosen, folder, known)
    chosen = [] if args.results else _not_elsewhere(chosen, known, folder)
    names = {run.name for run in chosen}
    own = scores_of([run for run in all_seeds if run.name not in names], folder)
    if docs:
        score_files.require_kept(_scores_file(docs, suite), {*known, *own, *((run.cell, run.seed) for run in chosen)})
    try:
        failures = _carry_out(chosen, args, folder) if not args.results else {}
    finally:  # a study that is stopped can be taken to another machine
        scores = {**known, **scores_of(all_seeds, folder, unusable={})}
        if folder.is_dir() and scores:
            score_files.write(folder / "scores.json", all_seeds, scores)
    runs.require_same(all_seeds, folder)  # a config may have been edited in the meantime
    results = collect(suite, every, folder, args.seeds, failures, known)
    _print(results)
    if rows_file:
        write_json(rows_file, report.rows(results))
    if docs:
        report.write_docs(results, docs)
        score_files.write(_scores_file(docs, suite), all_seeds, scores)
    print(f"report: {report.write_page(results, folder)}")
    if failures:
        name, reason = next(iter(failures.items()))
        raise UserError(f"{len(failures)} of {len(chosen)} runs failed or could not start, first {name}: {reason}")


def _scores_file(docs: pathlib.Path, suite: Suite) -> pathlib.Path:
    return docs / f"reproduce-{suite.name}-scores.json"


def _not_elsewhere(chosen: list[runs.Run], known: score_files.Scores, folder: pathlib.Path) -> list[runs.Run]:
    """The runs without those whose scores are known, and without pretrainings that none of the others starts from."""
    own = scores_of(chosen, folder, unusable={})  # those that cannot be used are failures of their runs, later
    needed = {run.name for run in score_files.still_needed(chosen, {**known, **own})}
    return [run for run in chosen if run.name in needed or (run.cell, run.seed) in own]


def _carry_out(chosen: list[runs.Run], args: argparse.Namespace, folder: pathlib.Path) -> dict[str, str]:
    """Runs what is not finished; {name of a run: what went wrong}."""
    places = slots(args.jobs or max(1, len(args.gpus)), args.gpus)
    photos = ready.require_ready(chosen)
    with locked(folder, "lock", "--workdir", "another mdp reproduce, or a run that it left") as lock:
        ready.require_same_photos(photos, folder)
        engine = Engine(folder, places, lock)
        engine.carry_out(chosen)
    return engine.failures


def _list(suite: Suite, chosen: list[runs.Run], folder: pathlib.Path, known: score_files.Scores) -> None:
    """The page of the claims on stdout, so that it can be kept, and the states of the runs on stderr."""
    print(f"{claims_page.RULES}\n\n{claims_page.claims_of(suite)}")
    needed = {run.name for run in score_files.still_needed(chosen, known)}
    states = [[run.name, run.part, runs.state(run, folder)] for run in chosen]
    for row in states:
        if row[0] not in needed and row[2] != "finished":
            row[2] = "elsewhere"
    finished = sum(state == "finished" for *_, state in states)
    caption = f"{len(states)} runs, {finished} finished, in {folder}"
    console(stderr=True).print(for_terminal(Table(["run", "part", "state"], states, caption)))


def _list_elsewhere(suite: Suite, chosen: list[runs.Run]) -> None:
    """Claims, the commands of all runs, and what they take; to be run one after the other in one folder."""
    print(f"{claims_page.RULES}\n\n{claims_page.claims_of(suite)}")
    print("\n### Commands\n\n```bash")
    for run in chosen:
        print(shlex.join(["mdp", *run.words]))
    print("```\n")
    hours = [[run.name, run.part, device_hours(run)] for run in chosen]
    caption = f"{len(hours)} runs, {sum(row[2] for row in hours):.0f} hours of one {DEVICE}"
    caption += f" at {UTILISATION:.0%} of its {PEAK_TFLOPS:.0f} TFLOP/s"
    console(stderr=True).print(for_terminal(Table(["run", "part", "device hours"], hours, caption)))


def _print(results: Results) -> None:
    screen = console()
    for outcome in results.claims:
        contrast = outcome.contrast
        print(f"{contrast.key}: {contrast.sentence} ({contrast.kind}); {outcome.verdict}")
        if outcome.seeds:
            screen.print(for_terminal(outcome_table(outcome)))
    screen.print(for_terminal(scores_table(results, "All runs")))
    if results.ablations:
        screen.print(
            for_terminal(
                outcomes_table(results.ablations, "Ablations, against MDP as it is where the name says nothing else")
            )
        )
    screen.print(for_terminal(outcomes_table(results.claims, "Claims")))
    print(report.summary(results))
