"""Prints a Markdown table of fine-tuning workdirs: python docs/collect.py runs/quickstart/*_lr*"""

import json
import pathlib
import sys


def row(workdir: pathlib.Path) -> list[str]:
    """Dataset, photos, initial weights, learning rate, steps, mIoU, mAcc, aAcc of one workdir."""
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    ((name, scores),) = json.loads((workdir / "evaluation.json").read_text(encoding="utf-8"))["datasets"].items()
    photos = str(config["dataset"]["limit"] or config["dataset"].get("images", "all"))
    start = "scratch" if config["init"] == "scratch" else "pretrained"
    setting = [name, photos, start, str(config["seed"]), str(config["optim"]["lr"]), str(config["steps"])]
    return setting + [f"{scores[key]:.2f}" for key in ("mIoU", "mAcc", "aAcc")]


def main(workdirs: list[str]) -> None:
    """Prints one row for each workdir that holds an evaluation."""
    titles = ["dataset", "photos", "from", "seed", "lr", "steps", "mIoU", "mAcc", "aAcc"]
    rows = [row(pathlib.Path(path)) for path in workdirs if (pathlib.Path(path) / "evaluation.json").exists()]
    for line in [titles, ["---"] * len(titles), *sorted(rows)]:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
