"""A narrow ConvNeXt and a narrow ViT through the whole way, next to a narrow ResNet-18 of about as many FLOPs.

All three are pretrained with MDP on msrc_v2, labelmefacade and ccp. Then they are fine-tuned on camvid11, and heads in
closed form are set on them. The networks without batch normalisation have AdamW, as their recipes do. One setting was
written down for each; none was searched.
"""

from mdp_jax.studies import MEASURED, Contrast, Overrides, Pretraining, Suite, Target
from mdp_jax.studies.runs import Run

SEEDS, STEPS = 2, 1000
# Of crops of 64 pixels, forward and backward, without the momentum encoder, at a step of fine-tuning: 0.32, 0.32 and
# 0.27 GFLOP for a photo (`mdp plan`). A ViT of 16 pixels a patch sees 4 x 4 patches of such a crop.
NETWORKS: dict[str, tuple[str, Overrides]] = {
    "resnet": ("ResNet-18, quarter width", ()),
    "convnext": (
        "ConvNeXt-T, 28 to 224 channels",
        (("model.backbone", "convnext_tiny"), ("model.width", str(28 / 96)), ("model.output_stride", "16")),
    ),
    "vit": (
        "ViT-S/16, 128 channels",
        (("model.backbone", "vit_small_patch16"), ("model.width", str(1 / 3)), ("model.output_stride", "16")),
    ),
}
_ADAMW: Overrides = (("optim.name", "adamw"), ("optim.weight_decay", "0.05"), ("optim.clip_norm", "(1.0,)"))
_PRETRAINED: Overrides = (*_ADAMW, ("optim.lr", "0.016"), ("method.label_stride", "16"))  # lr 0.001 at a batch of 16
_FINETUNED: Overrides = (*_ADAMW, ("optim.lr", "0.001"), ("optim.lr_min", "0.0"), ("optim.warmup_steps", "50"))


def _targets() -> tuple[Target, ...]:
    found = []
    for name, (what, network) in NETWORKS.items():
        adamw = () if name == "resnet" else _FINETUNED
        config, values = "configs/mini/camvid11.py", (*network, ("evaluate_every", "0"))
        found.append(Target(f"tuned_{name}", f"{what}: 500 steps on camvid11", config, (*values, *adamw)))
        heads, layers = f"{what}: heads in closed form on camvid11", ("backbone", "backbone+decoder")
        found.append(Target(f"adopted_{name}", heads, config, network, photos=(20, 0), draws=5, layers=layers))
    return tuple(found)


def _pretrainings() -> tuple[Pretraining, ...]:
    every = tuple(f"{kind}_{name}" for name in NETWORKS for kind in ("tuned", "adopted"))
    rows = [Pretraining("scratch", "no pretraining", seeds=SEEDS, targets=every)]
    for name, (what, network) in NETWORKS.items():
        values = (("steps", str(STEPS)), *network, *(() if name == "resnet" else _PRETRAINED))
        targets = (f"tuned_{name}", f"adopted_{name}")
        rows.append(Pretraining(name, f"MDP, {what}", "configs/mini/pretrain.py", values, seeds=SEEDS, targets=targets))
    return tuple(rows)


def get_suite() -> Suite:
    """Three networks, from scratch and pretrained; nothing is claimed."""
    measured = []
    for name, (what, _) in NETWORKS.items():
        for kind, how in (("tuned", "fine-tuned"), ("adopted", "heads in closed form")):
            left, right = ((name, f"{kind}_{name}"),), (("scratch", f"{kind}_{name}"),)
            measured.append(Contrast(f"{kind}/{name}", f"{what}: MDP over none, {how}", left, right, MEASURED))
    return Suite(
        "networks",
        "Three networks of about equal FLOPs through the whole way: pretrained, fine-tuned, with heads in closed form.",
        _pretrainings(),
        _targets(),
        (),
        tuple(measured),
        hours=core_hours,
        device="core of a server CPU",
    )


def core_hours(run: Run) -> float:
    """Hours of one core that a run takes."""
    return {"pretrain": 240.0, "finetune": 120.0, "adopt": 30.0}[run.part] / 3600
