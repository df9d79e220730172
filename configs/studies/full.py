"""The paper's own settings, for people with accelerators: `mdp reproduce` lists them with the time that they take."""

import math

from mdp_jax.studies import EQUIVALENT, Contrast, Overrides, Pretraining, Suite, Target
from mdp_jax.studies.runs import Run

# Training photos of the releases.
PHOTOS = {"voc": 10_582, "ade20k": 20_210, "coco_stuff": 118_287}
# Forward and backward of one image, as planning/flops.py counts them. Pretraining: ResNet-50 at 224 x 224, the second
# view of the momentum encoder included where there is one. Fine-tuning: each 512 x 512 pixels.
PRETRAINING_GFLOP = {"mdp": 272.0, "pixel_to_pixel": 272.0, "multi_head": 203.5, "cross_entropy": 203.5}
FINETUNING_GFLOP = 1295.0
PEAK_TFLOPS, UTILISATION = 197.0, 0.3  # bfloat16 peak of a TPU v5e chip, and an assumed share of it

_UNMIXED = (("mixing.region", "0.0"), ("mixing.pixel", "0.0"))
_VOC, _COCO, _PAIR, _ALL = (f"configs/pretrain/{name}.py" for name in ("voc", "coco", "voc_ade", "voc_ade_coco"))


def _pretrainings() -> tuple[Pretraining, ...]:
    def row(name: str, what: str, config: str, *overrides: tuple[str, str], on: str = "voc", init: str = ""):
        return Pretraining(name, what, config, overrides, init, seeds=3, targets=tuple(on.split()))

    everywhere = "voc ade20k cityscapes"
    return (
        row("scratch", "no pretraining", "", on=f"{everywhere} voc_100"),
        row("voc", "MDP on VOC alone", _VOC),
        row("voc_long", "MDP on VOC alone, 200 epochs", _VOC, ("epochs", "200.0")),
        row("voc_longest", "MDP on VOC alone, 400 epochs", _VOC, ("epochs", "400.0")),
        row("coco", "MDP on COCO-Stuff alone", _COCO),
        row(
            "cross_entropy_coco", "cross entropy on COCO-Stuff alone", _COCO, ("objective", "cross_entropy"), *_UNMIXED
        ),
        row("mdp", "MDP on VOC and ADE20K", _PAIR, on=f"{everywhere} voc_100"),
        row("mdp_three", "MDP on VOC, ADE20K and COCO-Stuff", _ALL, on=everywhere),
        row("multi_head", "multi-head cross entropy", _PAIR, ("objective", "multi_head"), *_UNMIXED),
        row(
            "pixel_to_pixel",
            "pixel-to-pixel contrast",
            _PAIR,
            ("objective", "pixel_to_pixel"),
            *_UNMIXED,
            on=everywhere,
        ),
        row(
            "sequential",
            "MDP on COCO-Stuff, then ADE20K, then VOC",
            _ALL,
            ("stages", "(('coco_stuff',), ('ade20k',), ('voc',))"),
            on=everywhere,
        ),
        row("no_region_mixing", "MDP without region mixing", _PAIR, ("mixing.region", "0.0")),
        row("no_pixel_mixing", "MDP without pixel mixing", _PAIR, ("mixing.pixel", "0.0")),
        row(
            "no_sparse_coding", "MDP without sparse coding", _PAIR, ("method.sparse_coding", "off"), on="voc cityscapes"
        ),
        row("merged", "MDP with classes of equal names merged", _PAIR, ("label_space", "merged")),
        row("first_stage", "MDP from ImageNet weights", _PAIR, init="resnet50_imagenet.pth"),
        row("unlabelled", "MDP with COCO-Stuff without its labels", _ALL, ("sources.coco_stuff.labels", "none")),
    )


def _claims() -> tuple[Contrast, ...]:
    def claim(key: str, sentence: str, left: str, right: str, on: str = "voc", kind: str = "greater") -> Contrast:
        return Contrast(key, sentence, ((left, on),), ((right, on),), kind)

    baselines = [("scratch", "training from scratch"), ("pixel_to_pixel", "pixel-to-pixel contrast")]
    return (
        claim("more_sets_over_voc", "VOC and ADE20K are better than VOC alone", "mdp", "voc"),
        claim("more_sets_over_coco", "all three sets are better than COCO-Stuff alone", "mdp_three", "coco"),
        *(
            claim(f"mdp_over_{name}/{on}", f"MDP is better than {what}", "mdp", name, on)
            for name, what in baselines
            for on in ("voc", "ade20k", "cityscapes")
        ),
        claim("mdp_over_multi_head/voc", "MDP is better than multi-head cross entropy", "mdp", "multi_head"),
        claim(
            "mdp_over_cross_entropy", "on one set, MDP is better than plain cross entropy", "coco", "cross_entropy_coco"
        ),
        *(
            claim(f"joint_over_sequential/{on}", "all sets at once are better", "mdp_three", "sequential", on)
            for on in ("voc", "ade20k", "cityscapes")
        ),
        claim("region_mixing", "region mixing helps", "mdp", "no_region_mixing"),
        claim("pixel_mixing", "pixel mixing helps", "mdp", "no_pixel_mixing"),
        claim("sparse_coding", "sparse coding helps on a set never seen", "mdp", "no_sparse_coding", "cityscapes"),
        claim("merged_names", "merging equal names makes no difference", "merged", "mdp", kind=EQUIVALENT),
        claim("first_stage", "ImageNet weights first help", "first_stage", "mdp"),
        claim("unlabelled_photos", "a further set without its labels helps", "unlabelled", "mdp"),
        claim("longer", "200 epochs are better than 100", "voc_long", "voc"),
        claim("longest", "400 epochs are better than 200", "voc_longest", "voc_long"),
        Contrast(
            "gain_with_few_labels",
            "MDP gains more over training from scratch where labels are few",
            (("mdp", "voc_100"), ("scratch", "voc_100")),
            (("mdp", "voc"), ("scratch", "voc")),
        ),
    )


def get_suite() -> Suite:
    """The authors' comparisons (METHOD.md section 7) with the configs of their size."""
    few: Overrides = (("dataset.limit", "100"),)
    return Suite(
        "full",
        "The authors' comparisons at their own size: VOC, ADE20K and COCO-Stuff, ResNet-50. `mdp reproduce` lists "
        "these runs and what they take, and runs none of them.",
        _pretrainings(),
        (
            Target("voc", "VOC", "configs/finetune/voc.py"),
            Target("ade20k", "ADE20K", "configs/finetune/ade20k.py"),
            Target("cityscapes", "Cityscapes", "configs/finetune/cityscapes.py"),
            Target("voc_100", "100 photos of VOC", "configs/finetune/voc.py", few),
        ),
        _claims(),
        runs_here=False,
        hours=device_hours,
        device=f"TPU v5e chip at {UTILISATION:.0%} of its {PEAK_TFLOPS:.0f} TFLOP/s",
    )


def device_hours(run: Run) -> float:
    """Hours of a run on one TPU v5e chip at UTILISATION of its peak; data and evaluation come on top."""
    config = run.resolved()
    if run.cell:
        gflop = FINETUNING_GFLOP * math.prod(config.data.crop) / 512**2
        steps = config.steps
    else:
        gflop = PRETRAINING_GFLOP[config.objective]
        steps = math.ceil(config.epochs * sum(PHOTOS[source.name] for source in config.sources) / config.batch)
    return steps * config.batch * gflop * 1e9 / (PEAK_TFLOPS * 1e12 * UTILISATION) / 3600
