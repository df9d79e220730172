"""Runs `mdp compare --backbone` for every backbone that other libraries have, and prints the table of docs/numerics.md.

python docs/libraries.py --workdir runs/libraries --out docs/results/libraries.json

Started again on the same workdir it goes on, and repeats no comparison that is finished. A backbone takes from a
quarter of a minute to three minutes of processor time. --only names some of them.
"""

import argparse
import json
import pathlib
import subprocess
import sys

SECTIONS = ("forward", "gradient")  # blocks and features; all weights
DTYPES = ("float64", "float32")

Found = dict[str, dict[str, float | bool]]  # "vit_small_patch16 beside timm, stride 16" -> numbers


def compare(name: str, folder: pathlib.Path) -> list[dict]:
    """The rows of a comparison; makes it where that was not done."""
    file = folder / f"{name}.json"
    if not file.exists():
        words = ["compare", "--backbone", name, "--json", str(file)]
        ended = subprocess.run([sys.executable, "-m", "mdp_jax", *words])
        if not file.exists():  # status 1 says that a row is out of tolerance, and the table says it too
            raise SystemExit(ended.returncode)
    return json.loads(file.read_text(encoding="utf-8"))


def largest(rows: list[dict]) -> Found:
    """The largest difference of each network, section and dtype, as a share of the scale of its row."""
    found: Found = {}
    for row in rows:
        what, _, section = row["what"].partition(": ")
        of_network = found.setdefault(what, {"ok": True})
        of_network["ok"] = of_network["ok"] and row["ok"]
        kind = SECTIONS[section == "gradient"]
        for dtype in DTYPES:
            share = row[f"{dtype} max difference"] / row["scale"]
            of_network[f"{kind} {dtype}"] = max(of_network.get(f"{kind} {dtype}", 0.0), share)
    return found


def table(found: Found) -> str:
    """The numbers as Markdown."""
    columns = [f"{section} {dtype}" for section in SECTIONS for dtype in DTYPES]
    lines = [["backbone", *(column.replace(" ", ", ") for column in columns), "in tolerance"]]
    lines.append(["---", *["---:"] * (len(columns) + 1)])
    for what, numbers in found.items():
        lines.append([what, *(f"{numbers[column]:.1e}" for column in columns), "yes" if numbers["ok"] else "NO"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Compares what is missing, then prints the table."""
    from mdp_jax.parity.torch_backbones import REFERENCES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(REFERENCES), default=tuple(REFERENCES), metavar="NAME")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    found: Found = {}
    for name in REFERENCES:
        if name in args.only or (args.workdir / f"{name}.json").exists():
            found |= largest(compare(name, args.workdir))
            args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
