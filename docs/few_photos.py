"""Makes the table of docs/adopt.md: from scratch, fine-tuned and adopted, by the number of labelled photos.

python docs/few_photos.py --data_dir data --workdir runs/few_photos --out docs/results/few_photos.json

Started again on the same workdir it goes on, and repeats no cell that is finished. The processor time is that of the
whole command: start, compilation, training and the scores of a fine-tuning, or `mdp adopt` without `mdp evaluate`.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable

PHOTOS = (5, 10, 20, 40, 0)  # 0 = all
PRETRAINED = {"camvid11": "configs/mini/pretrain.py", "msrc_v2": "configs/mini/without_msrc_v2.py"}
WAYS = {
    "scratch": "fine-tuned from scratch",
    "finetuned": "pretrained, fine-tuned",
    "adopted": "pretrained, adopted: backbone",
    "adopted_decoder": "pretrained, adopted: backbone and decoder",
}
LAYERS = {"adopted": "backbone", "adopted_decoder": "backbone+decoder"}
PLAIN = ("--config.evaluate_every=0", "--config.keep_best=False", "--config.pictures=0")

Cell = dict[str, str | int | float]


def mdp(*words: str) -> float:
    """Runs one command and gives its processor time in seconds; its failure ends the script."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mdp_jax", *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def score(name: str, way: str, photos: int, folder: pathlib.Path, pretrained: pathlib.Path, data: str) -> Cell:
    """Runs one cell of the table."""
    run = str(folder / f"{name}-{way}-{photos or 'all'}")
    values = [f"--config.data_dir={data}", f"--config.dataset.limit={photos}"]
    words = ["--config", f"configs/mini/{name}.py", "--workdir", run, *values]
    if way in LAYERS:
        shutil.rmtree(run, ignore_errors=True)  # of a command that was stopped: `mdp adopt` wants a new folder
        seconds = mdp("adopt", "--checkpoint", str(pretrained), "--layer", LAYERS[way], *words)
        mdp("evaluate", "--checkpoint", run)
    else:
        init = "scratch" if way == "scratch" else str(pretrained)
        seconds = mdp("finetune", *words, f"--config.init={init}", *PLAIN)
    ((_, scores),) = json.loads((pathlib.Path(run) / "evaluation.json").read_text())["datasets"].items()
    return {"set": name, "way": way, "photos": photos, "mIoU": scores["mIoU"], "seconds": round(seconds, 1)}


def table(cells: Iterable[Cell]) -> str:
    """The Markdown table of the cells; a cell that is missing is a dash."""
    known = {(cell["set"], cell["way"], cell["photos"]): cell for cell in cells}
    heads = ["set", "way", *(f"{photos} photos" if photos else "all photos" for photos in PHOTOS)]
    lines = [" | ".join(heads), " | ".join(["---"] * 2 + ["---:"] * len(PHOTOS))]
    for name in PRETRAINED:
        for way, what in WAYS.items():
            found = [known.get((name, way, photos)) for photos in PHOTOS]
            texts = [f"{cell['mIoU']:.1f} ({cell['seconds']:.0f} s)" if cell else "–" for cell in found]
            lines.append(" | ".join([name, what, *texts]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    cells: list[Cell] = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {(cell["set"], cell["way"], cell["photos"]) for cell in cells}
    data = os.path.abspath(args.data_dir)
    for name, config in PRETRAINED.items():
        pretrained = args.workdir / f"without-{name}"
        mdp("pretrain", "--config", config, "--workdir", str(pretrained), f"--config.data_dir={data}")
        for photos in PHOTOS:
            for way in WAYS:
                if (name, way, photos) not in done:
                    cells.append(score(name, way, photos, args.workdir, pretrained, data))
                    args.out.write_text(json.dumps(cells, indent=1) + "\n")
    print(table(cells))


if __name__ == "__main__":
    main()
