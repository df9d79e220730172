"""docs/claims.md: what is claimed, and by which runs and rules it is judged."""

from collections.abc import Sequence

from mdp_jax.reporting.tables import Table
from mdp_jax.studies.experiments import Contrast, Overrides, Suite
from mdp_jax.studies.markdown import table_of
from mdp_jax.studies.results import side_text
from mdp_jax.studies.statistics import MARGIN

RULES = f"""Each claim is a contrast between two sides: a pretraining and what it is fine-tuned on. A pair is the same
seed on both sides: of weights, order of the photos where they are the same ones, and choice of the labelled ones. The
statistic is the mean of the paired differences in mIoU on the validation photos, with its 95 % Student interval. The
verdict:

- *greater*: `holds` where the interval lies above 0, `contradicted` where it lies below 0, otherwise `undecided`;
- *equivalent*: `holds` where the whole interval lies within -{MARGIN:g} .. {MARGIN:g} mIoU, `contradicted` where
  it lies wholly outside, otherwise `undecided`;
- one seed, or runs of a claim that are missing: `undecided`.

Every interval stands for itself: of twenty comparisons of equals about one leaves 0 out. It is over seeds, with the
same validation photos: of other photos it says nothing. With five seeds it reaches 1.24 standard deviations of the
differences to each side, with three 2.48: so `undecided` is no evidence that two are equal, and *equivalent* can hold
with three seeds only where that deviation is 0.4 mIoU or less. `--seeds N` judges by the first N of them; to look after
each seed and to stop at will is not what the interval is made for.

Ablations are measured in the same way, and nothing is claimed of them. All runs are reported."""

_PAGE = """# The claims and their rules

What the authors say of their method ([METHOD.md](METHOD.md), section 7), as comparisons that `mdp reproduce` makes.
They were fixed before the runs; where a note stands under a table, it says what was not.
This page is written from the tables that the command works with (mdp_jax/studies/suites.py and claims.py);
`mdp reproduce --suite SUITE --list` prints the part of one suite.
"""


def _file(config: str) -> str:
    return f"`{config}`" if config else "–"


def _values(overrides: Overrides) -> str:
    return " ".join(f"`{key}={value}`" for key, value in overrides) or "–"


def _notes(contrasts: Sequence[Contrast]) -> list[str]:
    """A paragraph for each note, with all that it is about."""
    keys: dict[str, list[str]] = {}
    for row in contrasts:
        keys.setdefault(row.note, []).append(f"`{row.key}`")
    return [f"{', '.join(about)}: {note}" for note, about in keys.items() if note]


def claims_of(suite: Suite) -> str:
    """Claims, ablations, pretrainings and targets of a suite."""
    pretrainings = [
        [
            row.name,
            row.what,
            f"`{row.config}`" if row.config else "–",
            _values(row.overrides),
            row.init or "–",
            row.seeds,
        ]
        for row in suite.pretrainings
    ]
    targets = [
        [
            row.name,
            row.what,
            _file(row.config),
            _values(row.overrides),
            ", ".join(f"{name}: {rate}" for name, rate in row.rates.items()) or "–",
        ]
        for row in suite.targets
    ]
    contrasts = {
        of: [
            [row.key, row.sentence, side_text(row.left), side_text(row.right), row.kind, len(suite.seeds_of(row))]
            for row in of
        ]
        for of in (suite.claims, suite.ablations)
    }
    columns = ["key", "sentence", "left", "right", "kind", "seeds"]
    parts = [
        f"## {suite.name}\n\n{suite.what}",
        "### Claims\n\n" + table_of(Table(columns, contrasts[suite.claims])),
        *_notes(suite.claims),
    ]
    if suite.ablations:
        parts.append("### Ablations\n\n" + table_of(Table(columns, contrasts[suite.ablations])))
        parts += _notes(suite.ablations)
    columns = ["name", "what", "config of `mdp pretrain`", "values", "starts from", "seeds"]
    parts.append("### Pretrainings\n\n" + table_of(Table(columns, pretrainings)))
    columns = ["name", "what", "config of `mdp finetune`", "values", "learning rate of its own"]
    parts.append("### Targets\n\n" + table_of(Table(columns, targets)))
    return "\n\n".join(parts)


def claims_page(suites: Sequence[Suite]) -> str:
    """docs/claims.md: the rules of the verdicts, then claims, ablations, pretrainings and targets of each suite."""
    return "\n\n".join([_PAGE + "\n" + RULES, *map(claims_of, suites)]) + "\n"
