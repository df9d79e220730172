"""Whether photos without labels help, with what the other studies have taught (METHOD.md section 7).

In mini_real.py nearly all pseudo-labels were the background of ccp, a class that is near to everything
(docs/notes/search.md). Here ccp has no such class, and MDP has class frequencies and a final normalisation. Steps,
photos and heads in closed form are those of transfer.py where camvid11 is left out.
"""

from configs.studies import transfer
from mdp_jax.studies import GREATER, MEASURED, Contrast, Overrides, Pretraining, Suite

WORLD, ASIDE = "camvid11", "labelmefacade"
PHOTOS = {"msrc_v2": 477, "labelmefacade": 844, "ccp": 804}  # to draw sets by their numbers of training photos
_DROPPED: Overrides = (("sources.ccp.drop_classes", "('background',)"),)
_TWO: Overrides = (("mixture_weights", str(tuple(float(0 if name == ASIDE else n) for name, n in PHOTOS.items()))),)
ROWS: dict[str, tuple[str, Overrides]] = {
    "two_sets": ("MDP on msrc_v2 and ccp", _TWO),
    "unlabelled": ("MDP on msrc_v2, ccp and the photos of labelmefacade", ((f"sources.{ASIDE}.labels", "none"),)),
    "labelled": ("MDP on msrc_v2, ccp and labelmefacade", ()),
}
NOTE = (
    "Written down before any run of it. Both sides have the same number of steps. On the left the photos without "
    "labels take their share of them, so it sees fewer labelled ones. The score is the mean over three numbers of "
    "labelled photos of camvid11, ten draws and two sets of layers, on the seeds 2 to 6. In mini-real, where ccp had "
    "its background, the same comparison after fine-tuning was undecided, 0.41 (-5.36 to 6.19), three seeds."
)


def _contrast(key: str, sentence: str, left: str, right: str, kind: str, note: str = "") -> Contrast:
    return Contrast(key, sentence, ((left, WORLD),), ((right, WORLD),), kind, note)


def get_suite() -> Suite:
    """Two sets, a third one without its labels, and with them."""
    config, (_, options) = transfer.WORLDS[WORLD][0], transfer.ROWS["mdp_frequencies_norm"]
    always: Overrides = (("steps", str(transfer.STEPS)), *options, *_DROPPED)
    rows = tuple(
        Pretraining(name, what, config, (*always, *values), seeds=transfer.SEEDS, targets=(WORLD,))
        for name, (what, values) in ROWS.items()
    )
    return Suite(
        "unlabelled",
        "What the photos of a third set add to a pretraining on two sets, without their labels and with them, for the "
        "features on camvid11; MDP with class frequencies and a final normalisation, ccp without its background.",
        rows,
        (transfer.get_suite().target(WORLD),),
        (
            _contrast(
                "unlabelled_photos", "a further set without labels helps", "unlabelled", "two_sets", GREATER, NOTE
            ),
        ),
        (
            _contrast(
                "labelled_over_two_sets", "the further set with labels over none", "labelled", "two_sets", MEASURED
            ),
            _contrast("labelled_over_unlabelled", "with labels over without", "labelled", "unlabelled", MEASURED),
        ),
        hours=transfer.core_hours,
        device="core of a server CPU",
    )
