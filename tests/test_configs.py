"""The configs of the paper's datasets: resolved values against METHOD.md, and runs on photos in their layouts."""

import json

import pytest
from ml_collections import ConfigDict

from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.cli import run as mdp
from mdp_jax.studies import suite_files
from tests.data.official import make_ade20k, make_cityscapes, make_coco_stuff, make_voc

# METHOD.md section 2 to 5, in its order.
PRETRAINING = {
    "model.backbone": "resnet50",
    "model.width": 1.0,
    "model.output_stride": 8,
    "model.projection.dim": 256,
    "model.decoder.dropout": 0.0,
    "method.encoder_momentum": 0.999,
    "method.prototype_momentum": 0.99,
    "method.temperature": 0.1,
    "mixing.region": 0.25,
    "mixing.pixel": 0.25,
    "mixture_temperature": 1.0,
    "mixing.beta": 1.0,
    "method.sparse_coding": "pull",
    "method.sparse_weight": 0.1,
    "method.sparse_classes": 5,
    "method.sparse_temperature": 0.1,
    "epochs": 100.0,
    "steps": 0,
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-4,
    "optim.lr": 0.1,
    "optim.warmup_epochs": 5.0,
    "batch": 256,
    "data.crop": (224, 224),
    "data.flip": 0.5,
    "init": "scratch",
}

# METHOD.md section 6, in its order.
FINETUNING = {
    "model.backbone": "resnet50",
    "model.width": 1.0,
    "model.output_stride": 8,
    "model.decoder.layout": "mmseg",
    "model.decoder.channels": 512,
    "model.decoder.dropout": 0.1,
    "optim.lr": 0.01,
    "optim.momentum": 0.9,
    "optim.weight_decay": 5e-4,
    "optim.power": 0.9,
    "optim.lr_min": 1e-4,
    "batch": 16,
    "data.scale": (0.5, 2.0),
    "data.category_ratio": 0.75,
    "data.flip": 0.5,
    "loss_mean": "all",
    "transfer": ("backbone", "decoder"),
    "trainable": "all",
}

SOURCES = {
    "voc": [("voc", "VOCdevkit/VOC2012")],
    "coco": [("coco_stuff", "coco_stuff164k")],
    "voc_ade": [("voc", "VOCdevkit/VOC2012"), ("ade20k", "ade/ADEChallengeData2016")],
    "voc_ade_coco": [
        ("voc", "VOCdevkit/VOC2012"),
        ("ade20k", "ade/ADEChallengeData2016"),
        ("coco_stuff", "coco_stuff164k"),
    ],
}

# What a config sets of its own, its dataset aside.
OWN_VALUES = {
    "voc": {"steps": 20000, "evaluate_every": 2000, "data.short_side": 512},
    "ade20k": {"steps": 80000, "evaluate_every": 8000, "data.short_side": 512},
    "coco_stuff": {"steps": 80000, "evaluate_every": 8000, "data.short_side": 512},
    "cityscapes": {"steps": 40000, "evaluate_every": 4000, "data.crop": (512, 1024)},
}

pytestmark = pytest.mark.usefixtures("shallow", "plain_pages")
SMALL = ["--config.model.width=0.0625", "--config.model.decoder.channels=8", "--config.model.backbone=resnet18"]
SMALL += ["--config.data.crop=(32,32)", "--config.data.short_side=40", "--config.batch=4", "--config.devices=1"]
SMALL += ["--config.steps=2", "--config.model.decoder.rates=(1,2)"]


def flat(config: ConfigDict, prefix: str = "") -> dict:
    """{dotted key: value}; the datasets stay whole."""
    values = {}
    for key in config:
        if isinstance(config[key], ConfigDict) and key != "dataset":
            values |= flat(config[key], f"{prefix}{key}.")
        else:
            values[prefix + key] = config[key]
    return values


@pytest.mark.parametrize("name", SOURCES)
def test_pretraining(name):
    config = flat(configs.load(f"configs/pretrain/{name}.py"))
    assert {key: config[key] for key in PRETRAINING} == PRETRAINING
    assert [(source.kind, source.root) for source in config["sources"]] == SOURCES[name]
    assert [source.name for source in config["sources"]] == [kind for kind, _ in SOURCES[name]]
    for source in config["sources"]:
        assert (source.drop_classes, source.limit, source.holdout) == ((), 0, 0)
        assert "train_list" not in source or source.train_list == "train_aug"
    plain = flat(base.pretrain())
    assert {key for key in config if config[key] != plain[key]} == {"sources"}


@pytest.mark.parametrize("name", OWN_VALUES)
def test_finetuning(name):
    config = flat(configs.load(f"configs/finetune/{name}.py"))
    assert {key: config[key] for key in FINETUNING} == FINETUNING
    assert config["data.crop"] == ((512, 1024) if name == "cityscapes" else (512, 512))
    dataset = config.pop("dataset")
    assert (dataset.kind, dataset.name, dataset.limit, dataset.holdout) == (name, name, 0, 0)
    assert {key: config[key] for key in OWN_VALUES[name]} == OWN_VALUES[name]
    plain = flat(base.finetune())
    assert {key for key in config if config[key] != plain[key]} <= OWN_VALUES[name].keys()


# Of MMSegmentation 1.2.2: configs/convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py, and
# configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py with the bases of both;
# configs/swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py has another rate and decay.
RECIPE = {
    "optim.name": "adamw",
    "optim.lr": 1e-4,
    "optim.betas": (0.9, 0.999),
    "optim.weight_decay": 0.05,
    "optim.clip_norm": (),
    "optim.schedule": "poly",
    "optim.power": 1.0,
    "optim.lr_min": 0.0,
    "optim.warmup_steps": 1500,
    "steps": 160_000,
    "batch": 16,
    "data.crop": (512, 512),
    "model.decoder.name": "upernet",
    "model.decoder.dropout": 0.1,
}
RECIPES = {
    "ade20k_convnext": {"model.decoder.channels": 512, "optim.layer_decay": 0.9},
    "ade20k_swin": {
        "model.decoder.channels": 512,
        "optim.lr": 6e-5,
        "optim.weight_decay": 0.01,
        "optim.layer_decay": 1.0,
    },
    "ade20k_vit": {"model.decoder.channels": 768, "optim.layer_decay": 0.65},
}


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipes(name):
    config = configs.load(f"configs/finetune/{name}.py")
    checks.finetuning(config, devices=8)
    values, expected = flat(config), RECIPE | RECIPES[name]
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["convnext", "vit"])
def test_narrow_recipes_have_the_values_of_the_study_that_tried_them(name):
    suite = suite_files.load("configs/studies/networks.py")
    tried = {row.name: row for row in (*suite.pretrainings, *suite.targets)}
    for row, recipe, own in (
        (tried[name], f"configs/mini/pretrain_{name}.py", {"steps"}),
        (tried[f"tuned_{name}"], f"configs/mini/camvid11_{name}.py", {"evaluate_every"}),
    ):
        expected = flat(configs.apply_overrides(configs.load(row.config), list(row.overrides)))
        values = flat(configs.load(recipe))
        assert {key for key in values if str(values[key]) != str(expected[key])} <= own


def test_the_official_layouts_from_pretraining_to_evaluation(tmp_path):
    """All four sets in one network, as their releases lay them out, and the one that it has not seen."""
    data = tmp_path / "data"
    for make in (make_voc, make_ade20k, make_coco_stuff, make_cityscapes):
        make(data)
    small = [*SMALL, f"--config.data_dir={data}"]
    mdp(["pretrain", "--config", "configs/pretrain/voc_ade_coco.py", "--workdir", str(tmp_path / "p"), *small])
    rows = json.loads((tmp_path / "p" / "label_space.json").read_text())
    assert [row["dataset"] for row in rows] == ["voc"] * 21 + ["ade20k"] * 150 + ["coco_stuff"] * 171
    finetune = ["finetune", "--config", "configs/finetune/cityscapes.py", "--init", str(tmp_path / "p")]
    mdp([*finetune, "--workdir", str(tmp_path / "f"), *small, "--config.pictures=0"])
    mdp(["evaluate", "--checkpoint", str(tmp_path / "f")])
    scores = json.loads((tmp_path / "f" / "evaluation.json").read_text())["datasets"]["cityscapes"]
    assert scores["images"] == 2
    assert len(scores["per_class"]) == 19


def test_real_photos(shared_data, tmp_path):
    small = [*SMALL, f"--config.data_dir={shared_data / 'official-layouts'}"]
    small += ["--config.dataset.root=ADEChallengeData2016", "--config.pictures=0"]
    mdp(["finetune", "--config", "configs/finetune/ade20k.py", "--workdir", str(tmp_path / "f"), *small])
    scores = json.loads((tmp_path / "f" / "evaluation.json").read_text())["datasets"]["ade20k"]
    assert scores["images"] == 3
    assert len(scores["per_class"]) == 150
    assert scores["per_class"]["wall"] is not None
