"""Scores the pretrained networks of the study `transfer` on their own sets, without fine-tuning, and prints the table.

python docs/own_sets.py --workdir runs/transfer/transfer --out docs/results/own_sets.json

A pretraining labels each of its sets in the classes of that set: by its prototypes, with the class frequencies where it
has them, or by the head of the set. Each row is the mean over the worlds and seeds that are finished for all rows, and
over the three sets of each. Started again it repeats no evaluation.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

ROWS = {
    "mdp": "MDP",
    "mdp_frequencies_norm": "MDP, class frequencies and final normalisation",
    "mdp_own_set_frequencies_norm": "the same, negatives of the own set",
    "multi_head": "multi-head cross entropy",
}
SCORES = ("mIoU", "aAcc")

Scores = dict[str, dict[str, dict[str, float]]]  # row/world/seed -> set -> score


def score(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
    """The scores of one pretraining on its own sets; evaluates it where that was not done."""
    file = workdir / "evaluation.json"
    if not file.exists():
        subprocess.run([sys.executable, "-m", "mdp_jax", "evaluate", "--checkpoint", str(workdir)], check=True)
    found = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    return {name: {key: scores[key] for key in SCORES} for name, scores in found.items()}


def complete(found: Scores) -> list[str]:
    """World and seed of the pretrainings that all rows have."""
    ends = [{name.partition("/")[2] for name in found if name.partition("/")[0] == row} for row in ROWS]
    return sorted(set.intersection(*ends))


def table(found: Scores) -> str:
    """The means as Markdown: of each row the mean of mIoU and aAcc, and the aAcc on each set."""
    pairs = complete(found)
    sets = sorted({name for pair in pairs for name in found[f"mdp/{pair}"]})
    heads = ["pretraining", "mIoU", "aAcc", *(f"aAcc, {name}" for name in sets)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row, what in ROWS.items():
        of_row = [found[f"{row}/{pair}"] for pair in pairs]
        means = [np.mean([scores[key] for one in of_row for scores in one.values()]) for key in SCORES]
        means += [np.mean([one[name]["aAcc"] for one in of_row if name in one]) for name in sets]
        lines.append([what, *(f"{value:.1f}" for value in means)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Evaluates what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    found: Scores = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    for row in ROWS:
        for report in sorted(args.workdir.glob(f"{row}-*/seed*/pretrain/report.html")):
            world, seed = report.parts[-4].removeprefix(f"{row}-"), report.parts[-3]
            if f"{row}/{world}/{seed}" not in found:
                found[f"{row}/{world}/{seed}"] = score(report.parent)
                args.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(complete(found))} pretrainings of each row\n")
    print(table(found))


if __name__ == "__main__":
    main()
