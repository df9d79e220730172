"""The claims of METHOD.md section 7 as contrasts between the pretrainings of the small suites (suites.py)."""

from mdp_jax.studies.experiments import EQUIVALENT, MEASURED, Contrast, Pretraining, Target

BASELINES = {  # and whose features are frozen in a probe
    "scratch": ("training from scratch", "a network that was never trained"),
    "multi_head": ("multi-head cross entropy", "multi-head cross entropy"),
    "pixel_to_pixel": ("pixel-to-pixel contrast", "pixel-to-pixel contrast"),
}


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


def claims(
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

    def claim(key: str, sentence: str, left: str, right: str, **rest) -> Contrast:
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
            claim(f"more_sets_over_{name}", f"three sets are better than {name} alone", "mdp", f"mdp_{name}")
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


def further(few: str, longer: str, sets: tuple[str, ...]) -> tuple[Contrast, ...]:
    """What is measured beside the claims, since their sides differ in more than the sentence says (notes.py).

    Args:
      few: name of the target with few labels.
      longer: name of the same with four times as many steps.
      sets: names of the datasets of the pretraining.
    """

    def measured(key: str, sentence: str, left: str, right: str, target: str = few) -> Contrast:
        return Contrast(key, sentence, ((left, target),), ((right, target),), MEASURED)

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


def ablations(rows: tuple[Pretraining, ...], target: str, transfer: Target) -> tuple[Contrast, ...]:
    """Each row against MDP as it is, and the transfer of less than all; nothing is claimed of them.

    Args:
      rows: pretrainings with a value changed.
      target: name of the one that they are fine-tuned on.
      transfer: the same target, to which less of the network is transferred.
    """
    values = [Contrast(row.name, row.what, ((row.name, target),), (("mdp", target),), MEASURED) for row in rows]
    less = Contrast(transfer.name, transfer.what, (("mdp", transfer.name),), (("mdp", target),), MEASURED)
    return (*values, less)
