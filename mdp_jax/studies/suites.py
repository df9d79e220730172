"""The small suites: the same experiments on three small sets of real photos and on three drawn sets."""

import dataclasses
from collections.abc import Callable

from mdp_jax.studies.claims import BASELINES, ablations, claims, further
from mdp_jax.studies.experiments import Contrast, Overrides, Pretraining, Suite, Target
from mdp_jax.studies.full import full
from mdp_jax.studies.notes import NOTES

UNMIXED = (("mixing.region", "0.0"), ("mixing.pixel", "0.0"))
SCORED_ONCE = (("evaluate_every", "0"),)  # at the end
MAIN_SEEDS, VARIANT_SEEDS = 5, 3

# Values marked [ours] in METHOD.md, each changed alone: name, what, overrides.
VARIANTS: tuple[tuple[str, str, Overrides], ...] = (
    ("temperature_low", "temperature 0.05", (("method.temperature", "0.05"), ("method.sparse_temperature", "0.05"))),
    ("temperature_high", "temperature 0.2", (("method.temperature", "0.2"), ("method.sparse_temperature", "0.2"))),
    ("embedding_small", "embeddings of 16 numbers", (("model.projection.dim", "16"),)),
    ("embedding_large", "embeddings of 256 numbers", (("model.projection.dim", "256"),)),
    ("bank_momentum_low", "bank momentum 0.9", (("method.prototype_momentum", "0.9"),)),
    ("bank_momentum_high", "bank momentum 0.999", (("method.prototype_momentum", "0.999"),)),
    ("encoder_momentum_low", "encoder momentum 0.9", (("method.encoder_momentum", "0.9"),)),
    ("encoder_momentum_high", "encoder momentum 0.999", (("method.encoder_momentum", "0.999"),)),
    ("labels_at_corners", "labels y[::8, ::8] (METHOD.md, section 2)", (("method.label_stride", "0"),)),
    ("momentum_view_mixed", "prototypes of mixed photos", (("method.momentum_view", "mixed"),)),
    ("sparse_classes_few", "sparse coding with K = 1", (("method.sparse_classes", "1"),)),
    ("sparse_classes_many", "sparse coding with K = 20", (("method.sparse_classes", "20"),)),
    ("sparse_weight_low", "sparse coding with weight 0.03", (("method.sparse_weight", "0.03"),)),
    ("sparse_weight_high", "sparse coding with weight 0.3", (("method.sparse_weight", "0.3"),)),
    ("no_push", "sparse coding that pushes less (no_push)", (("method.sparse_coding", "no_push"),)),
    (
        "half_the_mixing",
        "an eighth of the pairs mixed each way",
        (("mixing.region", "0.125"), ("mixing.pixel", "0.125")),
    ),
    ("all_mixed", "half of the pairs mixed each way", (("mixing.region", "0.5"), ("mixing.pixel", "0.5"))),
    ("no_mixing", "no pairs mixed", UNMIXED),
    ("prototype", "neither mixing nor sparse coding", (("objective", "prototype"), *UNMIXED)),
    ("cross_entropy", "cross entropy over the classes of all sets", (("objective", "cross_entropy"), *UNMIXED)),
)


def _pretrainings(config: str, steps: int, photos: dict[str, int], aside: str, seeds: int) -> tuple[Pretraining, ...]:
    """All that the claims speak of.

    Args:
      config: file for `mdp pretrain`.
      steps: of each of them.
      photos: dataset -> training photos, in the order of the config's sources.
      aside: the dataset that cross entropy is trained on alone, that is left out or loses its labels, and the last of
        those that are trained on one after the other.
      seeds: of those that are compared at a single target.
    """

    def drawn_from(*names: str) -> Overrides:
        return (("mixture_weights", str(tuple(float(photos[name] if name in names else 0) for name in photos))),)

    def row(name: str, what: str, *overrides: tuple[str, str], init: str = "") -> Pretraining:
        return Pretraining(name, what, config, (("steps", str(steps)), *overrides), init, seeds)

    others = tuple(name for name in photos if name != aside)
    two = " and ".join(others)
    one_by_one = (*others, aside)
    stages = str(tuple((name,) for name in one_by_one))
    # Of the heads that of one set alone is trained: plain cross entropy on this set.
    one_head = (("objective", "multi_head"), *UNMIXED, *drawn_from(aside))
    # Of `two_sets`, to draw as many labelled photos as `unlabelled` does.
    labelled = round(steps * sum(photos[name] for name in others) / sum(photos.values()))
    return (
        Pretraining("scratch", "no pretraining", seeds=seeds),
        row("mdp", "MDP on all three sets"),
        row("multi_head", "multi-head cross entropy on all three sets", ("objective", "multi_head"), *UNMIXED),
        row("pixel_to_pixel", "pixel-to-pixel contrast on all three sets", ("objective", "pixel_to_pixel"), *UNMIXED),
        *(row(f"mdp_{name}", f"MDP on {name} alone", *drawn_from(name)) for name in photos),
        row(f"cross_entropy_{aside}", f"cross entropy on {aside} alone", *one_head),
        row("sequential", f"MDP on {', then '.join(one_by_one)}", ("stages", stages)),
        row("no_region_mixing", "MDP without region mixing", ("mixing.region", "0.0")),
        row("no_pixel_mixing", "MDP without pixel mixing", ("mixing.pixel", "0.0")),
        row("no_sparse_coding", "MDP without sparse coding", ("method.sparse_coding", "off")),
        row("merged", "MDP with classes of equal names merged", ("label_space", "merged")),
        row("two_sets", f"MDP on {two}", *drawn_from(*others)),
        row(
            "first_stage",
            f"cross entropy on {aside}, then MDP on {two}",
            *drawn_from(*others),
            init=f"cross_entropy_{aside}",
        ),
        row("unlabelled", f"MDP on {two} and the photos of {aside}", (f"sources.{aside}.labels", "none")),
        row("longer", "MDP on all three sets, twice as long", ("steps", str(2 * steps))),
        row("two_sets_less", f"MDP on {two}, fewer steps", ("steps", str(labelled)), *drawn_from(*others)),
    )


def _suite(
    name: str,
    what: str,
    config: str,
    steps: int,
    photos: dict[str, int],
    aside: str,
    seeds: int,
    targets: tuple[Target, ...],
) -> Suite:
    """The pretrainings of the claims, the variants of MDP, and which of them is fine-tuned on what.

    Args:
      name, what: of the suite.
      config, steps, photos, aside, seeds: as for `_pretrainings`.
      targets: few labels, all labels, the frozen probes of both, few labels with less of the network transferred, and
        few labels with more steps.
    """
    pretrainings = _pretrainings(config, steps, photos, aside, seeds)
    *judged, less, longer = targets
    few, main = targets[0].name, {"scratch", *BASELINES, "mdp"}
    extra = {"mdp": (less.name, longer.name), "multi_head": (less.name, longer.name), "scratch": (longer.name,)}
    rows = []
    for row in pretrainings:
        names = tuple(target.name for target in judged) if row.name in main else (few,)
        names += extra.get(row.name, ())
        rows.append(dataclasses.replace(row, targets=names, seeds=MAIN_SEEDS if row.name in main else row.seeds))
    variants = tuple(
        Pretraining(key, meaning, config, (("steps", str(steps)), *overrides), seeds=VARIANT_SEEDS, targets=(few,))
        for key, meaning, overrides in VARIANTS
    )
    return Suite(
        name,
        what,
        (*rows, *variants),
        targets,
        claims(tuple(judged), less, longer.name, tuple(photos), aside),
        (*ablations(variants, few, less), *further(few, longer.name, tuple(photos))),
    )


def _targets(few: Target, many: Target, probe: Overrides, longer: int) -> tuple[Target, ...]:
    """The two budgets of labels fine-tuned, as frozen probes, and the first with less transferred and with more steps.

    Args:
      few, many: the two.
      probe: overrides of a frozen probe.
      longer: steps that are four times those of `few`.
    """
    probes = [
        Target(f"{of.name}_probe", f"{of.what}, frozen probe", of.config, (*of.overrides, *probe)) for of in (few, many)
    ]
    backbone = (*few.overrides, ("transfer", "('backbone',)"))
    less = Target(f"{few.name}_backbone", f"{few.what}, the backbone alone transferred", few.config, backbone)
    steps = (*few.overrides, ("steps", str(longer)))
    more = Target(f"{few.name}_longer", f"{few.what}, four times as many steps", few.config, steps)
    return (few, many, *probes, less, more)


def _elsewhere(suite: Suite, config: str, what: str, target: Target) -> Suite:
    """The suite with a second set that a pretraining of its own never sees, against scratch and multi-head.

    Args:
      suite: with rows scratch, mdp and multi_head.
      config: file for `mdp pretrain`.
      what: its datasets, for tables.
      target: few labels of that set.
    """
    scratch, *rest = suite.pretrainings
    scratch = dataclasses.replace(scratch, targets=(*scratch.targets, target.name))
    rows, claims_there = [], []
    for name, meaning in (("mdp", "MDP"), ("multi_head", "multi-head cross entropy")):
        of = suite.pretraining(name)
        meaning = f"{meaning} on {what}"
        rows.append(Pretraining(f"{name}_elsewhere", meaning, config, of.overrides, "", VARIANT_SEEDS, (target.name,)))
    for name, meaning in (("scratch", "training from scratch"), ("multi_head_elsewhere", "multi-head cross entropy")):
        key, cells = f"mdp_elsewhere_over_{name.split('_elsewhere')[0]}", ("mdp_elsewhere", name)
        left, right = (((cell, target.name),) for cell in cells)
        claims_there.append(Contrast(key, f"MDP is better than {meaning}, on {target.what}", left, right))
    return dataclasses.replace(
        suite,
        pretrainings=(scratch, *rest, *rows),
        targets=(*suite.targets, target),
        claims=(*suite.claims, *claims_there),
    )


def _with_notes(suite: Suite) -> Suite:
    def noted(rows: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
        notes = {row.key: NOTES.get(f"{suite.name}:{row.key}", NOTES.get(row.key, "")) for row in rows}
        return tuple(dataclasses.replace(row, note=notes[row.key]) for row in rows)

    return dataclasses.replace(suite, claims=noted(suite.claims), ablations=noted(suite.ablations))


def mini_real() -> Suite:
    """Three small sets of real photos, fine-tuned on a fourth; and the same with another one of the four."""
    suite = _suite(
        "mini-real",
        "Real photos at the mini size: 3,000 steps on 2,125 photos of msrc_v2, labelmefacade and ccp, then 500 steps "
        "(frozen probe: 400) on camvid11, which the pretraining never saw. Its 101 validation photos are every second "
        "of 200 consecutive frames of one video; 204 of the 367 training photos are other frames of that video.",
        config="configs/mini/pretrain.py",
        steps=3000,
        photos={"msrc_v2": 477, "labelmefacade": 844, "ccp": 804},
        aside="labelmefacade",
        seeds=3,
        targets=_targets(
            Target("camvid11_40", "40 photos of camvid11", "configs/mini/camvid11_40.py", SCORED_ONCE),
            Target("camvid11", "all photos of camvid11", "configs/mini/camvid11.py", SCORED_ONCE),
            probe=(("trainable", "head"), ("steps", "400")),
            longer=2000,
        ),
    )
    target = Target("labelmefacade_40", "40 photos of labelmefacade", "configs/mini/labelmefacade_40.py", SCORED_ONCE)
    suite = _elsewhere(suite, "configs/mini/elsewhere.py", "msrc_v2, ccp and camvid11", target)
    return _with_notes(suite)


def mini_synthetic() -> Suite:
    """The three drawn sets, fine-tuned on the fourth."""
    drawn, config = (("optim.lr", "0.2"), ("dataset.images", "400"), *SCORED_ONCE), "configs/quickstart/finetune.py"
    suite = _suite(
        "mini-synthetic",
        "Drawn scenes, not photos: 600 steps on 1,500 scenes of harbor, meadow and town, then 200 steps on valley, "
        "which the pretraining never saw. What it says about a method holds for drawn scenes.",
        config="configs/quickstart/pretrain.py",
        steps=600,
        photos={"harbor": 500, "meadow": 500, "town": 500},
        aside="town",
        seeds=MAIN_SEEDS,
        targets=_targets(
            Target("valley_25", "25 scenes of valley", config, (*drawn, ("dataset.limit", "25"))),
            Target("valley", "400 scenes of valley", config, drawn),
            probe=(("trainable", "head"),),
            longer=800,
        ),
    )
    return _with_notes(suite)


SUITES: dict[str, Callable[[], Suite]] = {"mini-real": mini_real, "mini-synthetic": mini_synthetic, "full": full}
