"""A suite small enough for a test: MDP and scratch on drawn scenes, a few steps of a small network."""

from mdp_jax.studies.experiments import EQUIVALENT, MEASURED, Contrast, Pretraining, Suite, Target

_NETWORK = (
    ("model.width", "0.0625"),
    ("model.decoder.channels", "8"),
    ("data.crop", "(32, 32)"),
    ("data.short_side", "40"),
    ("batch", "4"),
    ("steps", "3"),
    ("devices", "1"),
)


def suite(seeds: int = 1) -> Suite:
    """Two pretrainings, one of which starts from the other, and scratch; two targets."""
    pretrain = "configs/quickstart/pretrain.py"
    few = (*_NETWORK, ("dataset.images", "4"), ("dataset.val_images", "2"), ("evaluate_every", "0"))
    return Suite(
        "tiny",
        "A few steps on drawn scenes.",
        (
            Pretraining("scratch", "no pretraining", seeds=seeds, targets=("few", "many")),
            Pretraining("mdp", "MDP", pretrain, _NETWORK, seeds=seeds, targets=("few", "many")),
            Pretraining("longer", "MDP again", pretrain, _NETWORK, init="mdp", seeds=seeds, targets=("few",)),
        ),
        (
            Target("few", "4 scenes", "configs/quickstart/finetune.py", few, {"scratch": "0.3"}),
            Target("many", "5 scenes", "configs/quickstart/finetune.py", (*few, ("dataset.images", "5"))),
        ),
        (
            Contrast("over_scratch", "MDP is better than nothing", (("mdp", "few"),), (("scratch", "few"),)),
            Contrast("again", "again is the same", (("longer", "few"),), (("mdp", "few"),), EQUIVALENT),
            Contrast(
                "gain",
                "MDP gains more where labels are few",
                (("mdp", "few"), ("scratch", "few")),
                (("mdp", "many"), ("scratch", "many")),
            ),
        ),
        (Contrast("budget", "fewer labels", (("mdp", "few"),), (("mdp", "many"),), MEASURED),),
    )
