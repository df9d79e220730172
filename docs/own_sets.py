"""Scores the pretrained networks of the study `transfer` on their own sets, without fine-tuning, and prints the table.

python docs/own_sets.py --workdir runs/transfer/transfer --data_dir data --out docs/results/own_sets.json

A pretraining labels each of its sets in the classes of that set: by its prototypes, with the class frequencies where it
has them, or by the head of the set. Rows of ADOPTED have a head in closed form of each set in its place, from all its
training photos. Each row is the mean over the worlds and seeds that are finished for all rows, and over the three sets
of each. Started again it repeats no evaluation.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable

import numpy as np

ROWS = {
    "mdp": "MDP",
    "mdp_frequencies_norm": "MDP, class frequencies and final normalisation",
    "mdp_own_set_frequencies_norm": "the same, negatives of the own set",
    "multi_head": "multi-head cross entropy",
}
ADOPTED = ("mdp_frequencies_norm", "multi_head")  # rows of ROWS
HEAD = "adopted_"  # before the name of such a row
CONFIGS = {"labelmefacade": "labelmefacade_40"}  # in configs/mini, where its name is not that of the set
SCORES = ("mIoU", "aAcc")

Scores = dict[str, dict[str, dict[str, float]]]  # row/world/seed -> set -> score


def score(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
    """The scores of one workdir on its own sets; evaluates it where that was not done."""
    file = workdir / "evaluation.json"
    if not file.exists():
        _run("evaluate", "--checkpoint", str(workdir))
    found = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    return {name: {key: scores[key] for key in SCORES} for name, scores in found.items()}


def score_adopted(workdir: pathlib.Path, sets: Iterable[str], data_dir: str) -> dict[str, dict[str, float]]:
    """The scores of one pretraining whose own sets have heads in closed form, each in a workdir of its own."""
    found = {}
    for name in sets:
        adopted = workdir.with_name(f"adopted_{name}")
        if not (adopted / "config.json").exists():
            config = f"configs/mini/{CONFIGS.get(name, name)}.py"
            values = [f"--config.data_dir={data_dir}", "--config.dataset.limit=0"]  # all photos
            layer = ["--layer", "backbone+decoder"]
            _run("adopt", "--checkpoint", str(workdir), "--config", config, *layer, "--workdir", str(adopted), *values)
        found |= score(adopted)
    return found


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mdp_jax", *words], check=True)


def described() -> dict[str, str]:
    """All rows of the table and what they are called."""
    return ROWS | {f"{HEAD}{row}": f"{ROWS[row]}, adopted heads" for row in ADOPTED}


def complete(found: Scores) -> list[str]:
    """World and seed of the pretrainings that all rows have."""
    ends = [{name.partition("/")[2] for name in found if name.partition("/")[0] == row} for row in described()]
    return sorted(set.intersection(*ends))


def table(found: Scores) -> str:
    """The means as Markdown: of each row the mean of mIoU and aAcc, and the aAcc on each set."""
    pairs = complete(found)
    sets = sorted({name for pair in pairs for name in found[f"mdp/{pair}"]})
    heads = ["pretraining", "mIoU", "aAcc", *(f"aAcc, {name}" for name in sets)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row, what in described().items():
        of_row = [found[f"{row}/{pair}"] for pair in pairs]
        means = [np.mean([scores[key] for one in of_row for scores in one.values()]) for key in SCORES]
        means += [np.mean([one[name]["aAcc"] for one in of_row if name in one]) for name in sets]
        lines.append([what, *(f"{value:.1f}" for value in means)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Evaluates what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    found: Scores = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    for row in ROWS:
        for report in sorted(args.workdir.glob(f"{row}-*/seed*/pretrain/report.html")):
            name = f"{row}/{report.parts[-4].removeprefix(f'{row}-')}/{report.parts[-3]}"
            if name not in found:
                found[name] = score(report.parent)
                _keep(found, args.out)
            if row in ADOPTED and f"{HEAD}{name}" not in found:
                found[f"{HEAD}{name}"] = score_adopted(report.parent, found[name], args.data_dir)
                _keep(found, args.out)
    print(f"{len(complete(found))} pretrainings of each row\n")
    print(table(found))


def _keep(found: Scores, file: pathlib.Path) -> None:
    file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
