"""The file metrics.jsonl of a workdir."""

import json
import os
import pathlib


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """Reads the rows of a workdir's metrics.jsonl, in order.

    Args:
      workdir: the workdir of a run.

    Returns:
      {name of a metric: value} of each row; a half-written last line is left out.
    """
    file = pathlib.Path(workdir) / "metrics.jsonl"
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
