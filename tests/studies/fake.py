"""Stands in for `mdp pretrain` and `mdp finetune`: writes what they leave behind, at once.

What it does besides is told by the file `orders.json` in the folder it is started in: {workdir: order}.
"""

import json
import os
import pathlib
import signal
import sys
import time

SCORES = {"scratch": 10.0, "mdp": 12.0, "longer": 12.5}


def _obey(order: str) -> None:
    if order == "fail":
        print("step 2\nmdp: this one went wrong")
        sys.exit(2)
    if order == "vanish":  # done, it says, and has left nothing
        sys.exit(0)
    if order in ("stop parent", "interrupt parent", "wait"):
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
        if order != "wait":
            os.kill(os.getppid(), signal.SIGTERM if order == "stop parent" else signal.SIGINT)
        while not told:
            time.sleep(0.01)
        pathlib.Path("saved").write_text("")
        sys.exit(143)


def main(words: list[str]) -> None:
    part, values = words[0], dict(word.split("=", 1) for word in words if "=" in word)
    workdir = pathlib.Path(words[words.index("--workdir") + 1])
    with open("calls", "a") as calls:
        cores = sorted(os.sched_getaffinity(0))
        calls.write(json.dumps([str(workdir), cores, os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\n")
    orders = pathlib.Path("orders.json")
    order = json.loads(orders.read_text()).get(str(workdir), "") if orders.exists() else ""
    _obey(order)
    steps = values["--config.steps"]
    (workdir / "checkpoints" / steps).mkdir(parents=True)
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": int(steps)}) + "\n")
    if part == "pretrain":
        return
    init = values["--config.init"]
    assert init == "scratch" or (pathlib.Path(init) / "checkpoints").is_dir()
    score = None if order == "no score" else SCORES[workdir.parts[0]] + 0.25 * int(values["--config.seed"])
    (workdir / "evaluation.json").write_text(json.dumps({"datasets": {"valley": {"mIoU": score}}}))


if __name__ == "__main__":
    main(sys.argv[1:])
