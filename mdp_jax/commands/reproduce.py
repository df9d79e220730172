"""`mdp reproduce`: studies of many seeds and settings, with intervals and verdicts."""

import argparse
import pathlib
import shlex
import sys

from mdp_jax.commands.arguments import named_here, output_file, path, place, whole_number, workdir_here
from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.locks import locked
from mdp_jax.storage.paths import as_path
from mdp_jax.studies import origins, pages, ready, runs, score_files, suite_files
from mdp_jax.studies.engine import Engine, slots
from mdp_jax.studies.experiments import Suite
from mdp_jax.studies.results import Results, collect, scores_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp reproduce` to a parser."""
    parser.add_argument(
        "--suite",
        required=True,
        type=path,
        help=f"a Python file with get_suite(), or a shipped one by its name: {', '.join(suite_files.shipped())}",
    )
    parser.add_argument(
        "--seeds", type=whole_number, metavar="N", help="at most so many of each experiment (its first ones)"
    )
    parser.add_argument(
        "--workdir", type=workdir_here, default="runs/reproduce", help="folder of all runs (default runs/reproduce)"
    )
    parser.add_argument(
        "--data_dir", type=place, metavar="D", help="folder of the datasets, where the suite has real photos"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="run these pretrainings alone; NAME/seed2 is one seed"
    )
    parser.add_argument(
        "--scores",
        nargs="+",
        type=path,
        default=(),
        metavar="FILE",
        help="scores.json of other workdirs of the suite, with the same photos; those runs are not repeated",
    )
    at_once = parser.add_mutually_exclusive_group()
    at_once.add_argument("--jobs", type=whole_number, metavar="J", help="runs at once, each on its share of the cores")
    at_once.add_argument("--gpus", nargs="+", default=(), metavar="ID", help="CUDA devices, one run at once on each")
    parser.add_argument(
        "--minutes",
        type=whole_number,
        metavar="N",
        help="stop after so long and show what there is; the same command goes on",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--list", action="store_true", help="print claims and runs with their state; run nothing")
    shown.add_argument("--results", action="store_true", help="the results of the runs that are finished; run nothing")
    parser.add_argument(
        "--json", type=place, metavar="FILE", help="the table of the claims and ablations as a list of rows"
    )
    parser.add_argument(
        "--docs", type=named_here, metavar="DIR", help="write a page, JSON and figures into DIR/results and DIR/images"
    )
    parser.epilog = (
        "Started again on the same workdir it goes on, and no finished run is repeated. Of a pretraining the weights "
        "stay, of a fine-tuning its scores and report alone."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs what is missing of a suite and writes its results; or lists it.

    Args:
      args: what `add_arguments` declares.
      overrides: none are accepted.

    Raises:
      UserError: an argument or the suite is wrong, data are missing, the workdir is in use or has other settings, or,
        after all runs, some failed.
      PreemptedError: the command was told to stop; its runs have saved.
    """
    reproduce(suite_files.load(args.suite), args, overrides)


def reproduce(suite: Suite, args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Does the work of `run` for a suite.

    Args:
      suite: what to run.
      args: what `add_arguments` declares.
      overrides: none are accepted.

    Raises:
      UserError: as for `run`.
      PreemptedError: as for `run`.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: the settings of a suite are fixed; expected no --config values")
    rows_file, docs = output_file(args.json), pathlib.Path(args.docs) if args.docs else None
    if args.list and (rows_file or docs):
        raise UserError("--list: runs are listed, not judged; expected --results with --json or --docs")
    if docs:
        pages.require_docs(docs)
    folder = pathlib.Path(args.workdir).resolve() / suite.name
    data_dir = str(as_path(args.data_dir).resolve()) if args.data_dir else ""
    every = runs.of_suite(suite, data_dir, args.seeds)
    chosen = runs.of_suite(suite, data_dir, args.seeds, args.only)
    if args.only and not chosen:
        raise UserError(f"--only {' '.join(args.only)}: no target is run for it; expected a seed that a target has")
    if not suite.runs_here:
        if args.results or args.scores or rows_file or docs:
            raise UserError(f"--suite {suite.name}: is only listed; expected no --results, --scores, --json or --docs")
        return _list_elsewhere(suite, chosen)
    all_seeds = runs.of_suite(suite, data_dir)
    known = score_files.read(args.scores, all_seeds)
    if args.results and not known and not folder.is_dir():
        raise UserError(f"--workdir {args.workdir}: no folder {suite.name} in it; expected one with runs of the suite")
    runs.require_same(all_seeds, folder)
    origins.require_same(all_seeds, folder)
    if args.list:
        return _list(suite, chosen, folder, known)
    if args.results and args.only:
        print("mdp: --only: not used, as --results runs nothing and shows all runs", file=sys.stderr)
    chosen = [] if args.results else _not_elsewhere(chosen, known, folder)
    names = {run.name for run in chosen}
    own = scores_of([run for run in all_seeds if run.name not in names], folder)
    if docs:
        score_files.require_kept(
            pages.docs_file(docs, suite.name, "-scores.json"),
            {*known, *own, *((cell, run.seed) for run in chosen for cell in run.cells)},
        )
    try:
        failures = _carry_out(chosen, all_seeds, args, folder) if not args.results else {}
    finally:  # a study that is stopped can be taken to another machine
        scores = {**known, **scores_of(all_seeds, folder, unusable={})}
        if folder.is_dir() and scores:
            score_files.write(folder / "scores.json", all_seeds, scores)
    runs.require_same(all_seeds, folder)  # a config may have been edited in the meantime
    results = collect(suite, every, folder, args.seeds, failures, known)
    page = pages.write_page(results, folder)
    if rows_file:
        write_json(rows_file, pages.rows(results))
    if docs:
        pages.write_docs(results, docs)
        score_files.write(pages.docs_file(docs, suite.name, "-scores.json"), all_seeds, scores)
    _print(results)
    print(f"report: {page}")
    if failures:
        name, reason = next(iter(failures.items()))
        raise UserError(f"{len(failures)} of {len(chosen)} runs failed or could not start, first {name}: {reason}")


def _not_elsewhere(chosen: list[runs.Run], known: score_files.Scores, folder: pathlib.Path) -> list[runs.Run]:
    """The runs without those whose scores are known, and without pretrainings that none of the others starts from."""
    own = scores_of(chosen, folder, unusable={})  # those that cannot be used are failures of their runs, later
    needed = {run.name for run in score_files.still_needed(chosen, {**known, **own})}
    return [run for run in chosen if run.name in needed or (run.cell, run.seed) in own]


def _carry_out(
    chosen: list[runs.Run], all_seeds: list[runs.Run], args: argparse.Namespace, folder: pathlib.Path
) -> dict[str, str]:
    """Runs what is not finished; {name of a run: what went wrong}."""
    places = slots(args.jobs or max(1, len(args.gpus)), args.gpus)
    photos = ready.require_ready(chosen)
    with locked(folder, "lock", "--workdir", "another mdp reproduce, or a run that it left") as lock:
        ready.require_same_photos(photos, folder)
        origins.note(all_seeds, folder)
        engine = Engine(folder, places, lock, minutes=args.minutes)
        engine.carry_out(chosen)
    if engine.out_of_time:
        print(f"mdp: the {args.minutes} minutes are over; the same command goes on", file=sys.stderr)
    return engine.failures


def _list(suite: Suite, chosen: list[runs.Run], folder: pathlib.Path, known: score_files.Scores) -> None:
    """The page of the claims on stdout, so that it can be kept, and the states of the runs on stderr."""
    print(f"{pages.RULES}\n\n{pages.claims_of(suite)}")
    needed = {run.name for run in score_files.still_needed(chosen, known)}
    states = [runs.state(run, folder) for run in chosen]
    for i, run in enumerate(chosen):
        if run.name not in needed and states[i] != "finished":
            states[i] = "elsewhere"
    columns, rows = ["run", "part", "state"], []
    for run, state in zip(chosen, states, strict=True):
        row: list[str | int | float | None] = [run.name, run.part, state]
        rows.append(row)
    caption = f"{len(rows)} runs, {states.count('finished')} finished, in {folder}"
    if suite.hours:
        hours = [_hours(suite, run) or 0.0 for run in chosen]
        left = sum(of for of, state in zip(hours, states, strict=True) if state in ("missing", "begun"))
        caption += f"; {sum(hours):.1f} hours of one {suite.device}, of which {left:.1f} are left"
        columns = [*columns, "hours"]
        rows = [[*row, of] for row, of in zip(rows, hours, strict=True)]
    console(stderr=True).print(for_terminal(Table(columns, rows, caption)))


def _list_elsewhere(suite: Suite, chosen: list[runs.Run]) -> None:
    """Claims, the commands of all runs, and what they take; to be run one after the other in one folder."""
    print(f"{pages.RULES}\n\n{pages.claims_of(suite)}")
    print("\n### Commands\n\n```bash")
    for run in chosen:
        print(shlex.join(["mdp", *run.words]))
    print("```\n")
    caption = f"{len(chosen)} runs"
    hours = [_hours(suite, run) for run in chosen]
    if suite.hours:
        caption += f", {sum(hour for hour in hours if hour is not None):.0f} hours of one {suite.device}"
    rows = [[run.name, run.part, of] for run, of in zip(chosen, hours, strict=True)]
    console(stderr=True).print(for_terminal(Table(["run", "part", "device hours"], rows, caption)))


def _hours(suite: Suite, run: runs.Run) -> float | None:
    """What the suite says of a run."""
    try:
        return suite.hours(run) if suite.hours else None
    except UserError:
        raise
    except Exception as error:  # the function is of the user's file, and may raise anything
        raise UserError(f"suite {suite.name}: hours() of {run.name}: {type(error).__name__}: {error}") from error


def _print(results: Results) -> None:
    screen = console()
    for outcome in results.claims:
        contrast = outcome.contrast
        print(f"{contrast.key}: {contrast.sentence} ({contrast.kind}); {outcome.verdict}")
        if outcome.seeds:
            screen.print(for_terminal(pages.outcome_table(outcome)))
    screen.print(for_terminal(pages.scores_table(results, "All runs")))
    if results.ablations:
        screen.print(for_terminal(pages.outcomes_table(results.ablations, pages.ABLATIONS)))
    if results.claims:
        screen.print(for_terminal(pages.outcomes_table(results.claims, "Claims")))
    print(pages.summary(results))
