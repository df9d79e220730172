"""Whether related names help: classes of other sets with near names are no negatives (METHOD.md section 9).

Worlds, targets, steps and seeds are those of the suite `transfer`, and so is the row `mdp`: `--scores` takes its scores
from there. names.npz beside this file has vectors of the class names of the four sets, made as docs/relations.md says.
They know spelling alone.
"""

from collections.abc import Iterable

from configs.studies import transfer
from mdp_jax.studies import EQUIVALENT, GREATER, MEASURED, Contrast, Overrides, Pretraining, Suite

NAMES_FILE = "configs/studies/names.npz"
_NAMES: Overrides = (("method.relations", "names"),)
_TEXT: Overrides = (
    ("method.relations", "text"),
    ("method.names_file", NAMES_FILE),
    ("method.start_from_names", "True"),
)
ROWS: dict[str, tuple[str, Overrides]] = {
    "mdp": ("MDP", ()),
    "names": ("MDP, equal names are no negatives", _NAMES),
    "positives": ("MDP, equal names are positives", (*_NAMES, ("method.related_as", "positives"))),
    "text": ("MDP, near names are no negatives, prototypes start from names", _TEXT),
    "shuffled": ("the same with shuffled names", (*_TEXT, ("method.shuffle_names", "True"))),
}
NOTE = (
    "Written down before any run of it. The primary figure is that of the suite transfer: mIoU as the mean over four "
    "worlds, three numbers of labelled photos, ten draws and two sets of layers, on the seeds 2 to 6. Few names are "
    "related: 4 to 14 pairs by equal names, among 42 to 93 classes. So a small difference is expected, if any. Nothing "
    "is chosen by this suite: the threshold of 0.5 was set by looking at the cosines alone."
)


def _pretrainings() -> tuple[Pretraining, ...]:
    return tuple(
        Pretraining(
            f"{row}-{world}",
            f"{what}, without {world}",
            config,
            (("steps", str(transfer.STEPS)), *overrides),
            seeds=transfer.SEEDS,
            targets=(world,),
        )
        for row, (what, overrides) in ROWS.items()
        for world, (config, _, _) in transfer.WORLDS.items()
    )


def _contrast(
    key: str, sentence: str, left: str, right: str, kind: str, worlds: Iterable[str] = transfer.WORLDS, note: str = ""
) -> Contrast:
    sides = (tuple((f"{row}-{world}", world) for world in worlds) for row in (left, right))
    return Contrast(key, sentence, *sides, kind, note, mean=True)


def _measured() -> tuple[Contrast, ...]:
    found = [
        _contrast("positives_over_mdp", "equal names as positives, over MDP", "positives", "mdp", MEASURED),
        _contrast("positives_over_names", "positives over no negatives", "positives", "names", MEASURED),
        _contrast("text_over_names", "near names and starts over equal names", "text", "names", MEASURED),
    ]
    for row in ("names", "text"):
        for world in transfer.WORLDS:
            what = f"{ROWS[row][0]}, over MDP, {world}"
            found.append(_contrast(f"{row}_over_mdp/{world}", what, row, "mdp", MEASURED, (world,)))
    return tuple(found)


def get_suite() -> Suite:
    """Names as a bridge between the classes of different sets."""
    claims = (
        ("names_over_mdp", "it helps that classes of equal names are no negatives", "names", "mdp", GREATER),
        ("text_over_mdp", "vectors of names help", "text", "mdp", GREATER),
        ("text_over_shuffled", "it matters which names are near", "text", "shuffled", GREATER),
        ("shuffled_as_mdp", "shuffled names make no difference", "shuffled", "mdp", EQUIVALENT),
    )
    return Suite(
        "relations",
        "Four small sets of real photos, each left out once: what related class names add to the features of a "
        "pretraining on the other three.",
        _pretrainings(),
        tuple(target for target in transfer.get_suite().targets if target.name in transfer.WORLDS),
        tuple(_contrast(*claim, note=NOTE) for claim in claims),
        _measured(),
        hours=transfer.core_hours,
        device="core of a server CPU",
    )
