"""What mini_real.py and mini_synthetic.py share: the claims of METHOD.md section 7 and the runs that they need."""

import dataclasses
from collections.abc import Mapping

from mdp_jax.studies import EQUIVALENT, MEASURED, Contrast, Overrides, Pretraining, Suite, Target

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

BASELINES = {  # pretraining: what it is called after fine-tuning, and in a frozen probe
    "scratch": ("training from scratch", "a network that was never trained"),
    "multi_head": ("multi-head cross entropy", "multi-head cross entropy"),
    "pixel_to_pixel": ("pixel-to-pixel contrast", "pixel-to-pixel contrast"),
}

# What a reader of a verdict has to know beside its rule: a claim that was not open, or sides that differ in more.
FOUR_TIMES = (
    "Only the right side has four times as many steps; `longer_finetuning_over_scratch` has them on both sides."
)
_NOT_MIXED = (
    "With one set at a time there is nothing to mix. So this measures mixing too; the ablations `no_mixing_over_...` "
    "do not."
)
_FURTHER = "Added when results of mini-real were known."
_NOTES = {
    "mdp_over_longer_scratch": FOUR_TIMES,
    "first_stage": "The left side has twice the steps of pretraining and the labels of the third set; "
    "`first_stage_over_longer` compares it with MDP on all three sets for as many steps.",
    "unlabelled_photos": "Both sides have the same number of steps. On the left the photos without labels take their "
    "share of them, so it sees fewer labelled ones. `unlabelled_over_two_sets_less` compares at as many of those.",
    "joint_over_sequential": _NOT_MIXED,
    "no_mixing": _FURTHER,
}


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


def small_suite(
    name: str,
    what: str,
    config: str,
    steps: int,
    photos: dict[str, int],
    aside: str,
    seeds: int,
    targets: tuple[Target, ...],
    notes: Mapping[str, str],
) -> Suite:
    """The pretrainings of the claims, the variants of MDP, and which of them is fine-tuned on what.

    Args:
      name: of the suite.
      what: of the suite.
      config: file for `mdp pretrain`.
      steps: of each pretraining.
      photos: as for `_pretrainings`.
      aside: as for `_pretrainings`.
      seeds: of the pretrainings that are compared at a single target.
      targets: few labels, all labels, the frozen probes of both, few labels with less of the network transferred, and
        few labels with more steps.
      notes: {key of a claim: note}, beside those that both small suites have.
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
        _noted(_claims(tuple(judged), less, longer.name, tuple(photos), aside), notes),
        _noted((*_ablations(variants, few, less), *_further(few, longer.name, tuple(photos))), notes),
    )


def _noted(rows: tuple[Contrast, ...], notes: Mapping[str, str]) -> tuple[Contrast, ...]:
    known = _NOTES | dict(notes)
    return tuple(dataclasses.replace(row, note=known.get(row.key, row.note)) for row in rows)


def two_budgets(few: Target, many: Target, probe: Overrides, longer: int) -> tuple[Target, ...]:
    """The two budgets of labels fine-tuned, as frozen probes, and the first with less transferred and with more steps.

    Args:
      few: few labels.
      many: all labels.
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


def _against_baselines(targets: tuple[Target, ...], less: Target) -> list[Contrast]:
    """MDP against each baseline on `targets`, and against multi-head cross entropy where `less` is transferred too."""
    found = []
    for name, (what, frozen) in BASELINES.items():
        for target in (*targets, less) if name == "multi_head" else targets:
            sentence = f"MDP is better than {what}"
            if ("trainable", "head") in target.overrides:
                sentence = f"features of MDP, frozen, are better than of {frozen}"
            left, right = (((cell, target.name),) for cell in ("mdp", name))
            found.append(Contrast(f"mdp_over_{name}/{target.name}", sentence, left, right))
    return found


def _claims(
    targets: tuple[Target, ...], less: Target, longer: str, sets: tuple[str, ...], largest: str
) -> tuple[Contrast, ...]:
    """The claims of a small suite.

    Args:
      targets: few labels, all labels, and the frozen probes of both; what has a single target takes the first.
      less: the first of them, to which the backbone alone is transferred.
      longer: name of the first of them with four times as many steps, from scratch.
      sets: names of the datasets of the pretraining.
      largest: the one of them that cross entropy is trained on alone.
    """
    few, many = (target.name for target in targets[:2])

    def claim(key: str, sentence: str, left: str, right: str, **rest: str) -> Contrast:
        return Contrast(key, sentence, ((left, few),), ((right, few),), **rest)

    return (
        *_against_baselines(targets, less),
        Contrast(
            "mdp_over_longer_scratch",
            "MDP is better than training from scratch for four times as many steps",
            (("mdp", few),),
            (("scratch", longer),),
        ),
        *(
            claim(
                f"more_sets_over_{name}",
                f"three sets are better than {name} alone",
                "mdp",
                f"mdp_{name}",
                note=_NOT_MIXED,
            )
            for name in sets
        ),
        claim(
            "mdp_over_cross_entropy",
            f"on one set, {largest}, MDP is better than plain cross entropy",
            f"mdp_{largest}",
            f"cross_entropy_{largest}",
        ),
        claim("joint_over_sequential", "all sets at once are better than one after the other", "mdp", "sequential"),
        claim("region_mixing", "region mixing helps", "mdp", "no_region_mixing"),
        claim("pixel_mixing", "pixel mixing helps", "mdp", "no_pixel_mixing"),
        claim("sparse_coding", "sparse coding (pull) helps on a set never seen", "mdp", "no_sparse_coding"),
        claim("merged_names", "merging classes of equal names makes no difference", "merged", "mdp", kind=EQUIVALENT),
        claim("first_stage", "a first stage on other photos helps", "first_stage", "two_sets"),
        claim("unlabelled_photos", "a further set without its labels helps", "unlabelled", "two_sets"),
        claim("longer", "twice as many steps are better", "longer", "mdp"),
        Contrast(
            "gain_with_few_labels",
            "MDP gains more over training from scratch where labels are few",
            (("mdp", few), ("scratch", few)),
            (("mdp", many), ("scratch", many)),
        ),
    )


def _further(few: str, longer: str, sets: tuple[str, ...]) -> tuple[Contrast, ...]:
    """What is measured beside the claims, since their sides differ in more than the sentence says (their notes).

    Args:
      few: name of the target with few labels.
      longer: name of the same with four times as many steps.
      sets: names of the datasets of the pretraining.
    """

    def measured(key: str, sentence: str, left: str, right: str, target: str = few) -> Contrast:
        return Contrast(key, sentence, ((left, target),), ((right, target),), MEASURED, _FURTHER)

    return (
        *(
            measured(f"longer_finetuning_over_{name}", f"MDP over {what}, both fine-tuned longer", "mdp", name, longer)
            for name, what in (("scratch", "training from scratch"), ("multi_head", "multi-head cross entropy"))
        ),
        *(
            measured(
                f"no_mixing_over_{name}", f"three sets without mixing over {name} alone", "no_mixing", f"mdp_{name}"
            )
            for name in sets
        ),
        measured(
            "no_mixing_over_sequential",
            "all sets at once without mixing over one after the other",
            "no_mixing",
            "sequential",
        ),
        measured("first_stage_over_longer", "a first stage over MDP on all sets for as long", "first_stage", "longer"),
        measured(
            "unlabelled_over_two_sets_less",
            "a further set without its labels, at as many labelled photos",
            "unlabelled",
            "two_sets_less",
        ),
    )


def _ablations(rows: tuple[Pretraining, ...], target: str, transfer: Target) -> tuple[Contrast, ...]:
    """Each row against MDP as it is, and the transfer of less than all; nothing is claimed of them.

    Args:
      rows: pretrainings with a value changed.
      target: name of the one that they are fine-tuned on.
      transfer: the same target, to which less of the network is transferred.
    """
    values = [Contrast(row.name, row.what, ((row.name, target),), (("mdp", target),), MEASURED) for row in rows]
    less = Contrast(transfer.name, transfer.what, (("mdp", transfer.name),), (("mdp", target),), MEASURED)
    return (*values, less)
