"""Prints the table of docs/numerics.md on bfloat16 beside float32, from the rows that the command keeps:

mdp compare --precision --json docs/results/precision.json && python docs/precision.py
"""

import json
import pathlib

ROWS = pathlib.Path(__file__).with_name("results") / "precision.json"


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [["network", "roundings N", "tolerance u sqrt(N)", "difference"], ["---", "---:", "---:", "---:"]]
    for row in rows:
        numbers = [str(row["roundings"]), f"{row['tolerance']:.4f}", f"{row['difference']:.4f}"]
        lines.append([row["what"], *numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table(json.loads(ROWS.read_text(encoding="utf-8"))))
