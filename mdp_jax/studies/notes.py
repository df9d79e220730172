"""What a reader of a verdict has to know beside its rule: claims that were not open, and sides that differ in more."""

_EARLIER = (
    "Not open when it was written down: one seed of an earlier recipe had been scored on the same photos, 8.1 mIoU "
    "above scratch with 40 photos and 6.3 with all."
)
_NOT_MIXED = (
    "With one set at a time there is nothing to mix, so this measures mixing too; the ablations of the name "
    "`no_mixing_over_...` do not."
)
_LONGER = "Four times as many steps on the right side alone; `longer_finetuning_over_scratch` has them on both."
_FURTHER = "Added when results of mini-real were known."
_SETS = ("msrc_v2", "labelmefacade", "ccp", "harbor", "meadow", "town")

# Key of a claim or ablation, or SUITE:KEY where it is about one suite alone -> note.
NOTES = {
    "mdp_over_scratch/camvid11_40": _EARLIER,
    "mdp_over_scratch/camvid11": _EARLIER,
    "mdp_over_multi_head/camvid11_40": "When it was written down multi-head cross entropy was known to be ahead on the "
    "photos for tuning, with an earlier recipe.",
    "mdp_over_multi_head/camvid11_40_backbone": "Added when the runs of its left side were known, "
    "and those of its right not.",
    "mdp_over_multi_head/valley_25_backbone": "Added with the same claim of mini-real, before any run of this suite.",
    "mdp_over_scratch/valley_25": "Rate and steps of this suite are those of the quickstart, and were kept as its runs "
    "on scenes of the same sets had MDP above scratch with them, by less with fewer steps: this claim was not open.",
    "mdp_over_longer_scratch": _LONGER,
    "mini-synthetic:mdp_over_longer_scratch": f"{_LONGER} It was not open when it was written down: runs of the "
    "quickstart had 33.9 after 1,500 steps from scratch on the 25 scenes, and 28.3 after MDP and 200.",
    **dict.fromkeys((*(f"more_sets_over_{name}" for name in _SETS), "joint_over_sequential"), _NOT_MIXED),
    "first_stage": "The left side has twice the steps of pretraining, and the labels of the third set; "
    "`first_stage_over_longer` compares it with MDP on all three sets for as many steps.",
    "unlabelled_photos": "At equal steps, of which the photos without labels take their share: the left side has fewer "
    "labelled ones. `unlabelled_over_two_sets_less` compares at as many of them.",
    **dict.fromkeys(
        (
            "no_mixing",
            *(f"longer_finetuning_over_{name}" for name in ("scratch", "multi_head")),
            *(f"no_mixing_over_{name}" for name in (*_SETS, "sequential")),
            "first_stage_over_longer",
            "unlabelled_over_two_sets_less",
        ),
        _FURTHER,
    ),
}
