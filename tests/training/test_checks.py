"""Config values that cannot work: one line each that names key and value, before anything starts."""

import dataclasses

import pytest

from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.errors import UserError
from mdp_jax.models.registry import BACKBONES

PRETRAINING = [
    ("model.backbone=resnet51", "config.model.backbone=resnet51: expected one of resnet18"),
    ("model.output_stride=12", "config.model.output_stride=12: expected 8, 16 or 32 with config.model.backbone="),
    ("model.decoder.layout=unet", "config.model.decoder.layout=unet: expected one of"),
    ("model.compute_dtype=float8", "config.model.compute_dtype=float8: expected one of"),
    ("model.width=0.0", "config.model.width=0.0: expected"),
    ("model.decoder.dropout=0.1", "config.model.decoder.dropout=0.1: expected 0.0 in pretraining"),
    ("data.crop=100,64", r"config.data.crop=\(100, 64\): .* by the output stride 8; the nearest are 96, 104$"),
    ("data.scale=0.5,1.5", r"config.data.scale=\(0.5, 1.5\): expected shares"),
    ("data.ratio=0.0,1.0", r"config.data.ratio=\(0.0, 1.0\): expected two positive numbers"),
    ("data.flip=1.5", "config.data.flip=1.5: expected a number from 0 to 1"),
    ("data.photometric.hue=-1", "config.data.photometric.hue=-1.0: expected at least 0"),
    ("data.std=0.0,1.0,1.0", "config.data.std="),
    ("data.std=1e-300,1.0,1.0", r"config.data.std=\(1e-300, 1.0, 1.0\): expected those of photos .* from 0 to 255"),
    ("data.mean=1e30,0.0,0.0", r"config.data.mean=\(1e\+30, 0.0, 0.0\), .*: expected those of photos"),
    ("data.threads=100000", "config.data.threads=100000: expected at most 1,024"),
    ("data.photometric.hue=1e300", r"config.data.photometric.hue=1e\+300: expected at most 1,000"),
    ("batch=2000000", "config.batch=2000000: expected at most 1,048,576"),
    ("data.crop=1000000,1000000", "config.batch=.*: expected at most 274,877,906,944 pixels in a batch"),
    ("steps=3000000000", "config.steps=3000000000: expected at most 2,147,483,647"),
    ("epochs=1e300", r"config.epochs=1e\+300: expected at most"),
    ("optim.warmup_epochs=1e300", r"config.optim.warmup_epochs=1e\+300: expected at most"),
    ("mixing.start=999999999999999999", "config.mixing.start=999999999999999999: expected at most"),
    ("method.loss_chunk=999999999999999999", "config.method.loss_chunk=.*: expected at most"),
    ("model.width=1e300", r"config.model.width=1e\+300: expected at most 100"),
    ("model.decoder.channels=9999999", "config.model.decoder.channels=9999999: expected at most 1,048,576"),
    ("model.decoder.rates=()", r"config.model.decoder.rates=\(\): expected whole numbers from 1"),
    ("model.decoder.rates=(9999999,1)", r"config.model.decoder.rates=\(9999999, 1\): expected at most"),
    ("model.projection.dim=9999999", "config.model.projection.dim=9999999: expected at most"),
    ("data.threads=0", "config.data.threads=0: expected at least 1"),
    ("mixing.region=0.9", "config.mixing.region=0.9 and config.mixing.pixel=0.25: expected a sum of at most 1"),
    ("mixing.beta=0.0", "config.mixing.beta=0.0: expected more than 0"),
    ("mixing.start=-1", "config.mixing.start=-1: expected at least 0"),
    (
        "mixture_weights=1,2",
        r"config.mixture_weights=\(1, 2\): expected a weight of at least 0 for each of the 1 datasets",
    ),
    ("mixture_weights=(0,)", r"config.mixture_weights=\(0,\): expected .* one of them more than 0"),
    ("mixture_weights=(-1,)", r"config.mixture_weights=\(-1,\): expected a weight of at least 0"),
    ("mixture_weights=('a',)", r"config.mixture_weights=\('a',\): expected a weight of at least 0"),
    ("mixture_schedule=100,1", r"config.mixture_schedule=\(100, 1\): expected rows \(step, weight of each dataset\)"),
    ("mixture_schedule=((5,1),(5,2))", r"config.mixture_schedule=\(\(5, 1\), \(5, 2\)\): .* in rising order"),
    ("mixture_schedule=((0.5,1),)", r"config.mixture_schedule=\(\(0.5, 1\),\): expected rows"),
    (
        "mixture_schedule=((5,1,2),)",
        r"config.mixture_schedule=\(\(5, 1, 2\),\): expected a weight .* of the 1 datasets",
    ),
    ("label_space=joined", "config.label_space='joined': expected one of concatenated, merged"),
    ("objective=prototype", "config.mixing.region=0.25 and config.mixing.pixel=0.25: expected 0.0 .*'prototype'"),
    ("objective=pixel_to_pixel", "config.mixing.region=0.25 and config.mixing.pixel=0.25: expected 0.0"),
    ("sources.town.labels=none", "config.sources.town.labels='none': expected 'masks' for at least one dataset"),
    ("method.pixel_budget=0", "config.method.pixel_budget=0: expected at least 1"),
    ("method.pseudo_threshold=1.5", "config.method.pseudo_threshold=1.5: expected a number from 0 to 1"),
    ("stages=town", r"config.stages=\('town',\): expected tuples of dataset names"),
    ("stages=((),)", r"config.stages=\(\(\),\): expected tuples of dataset names"),
    ("stages=(('city',),)", r"config.stages=\(\('city',\),\): no dataset 'city'; expected some of town"),
    ("stages=(('town',),('town',))", "dataset 'town' is in 2 stages; expected one"),
    ("data.on_bad_image=ignore", "config.data.on_bad_image='ignore': expected one of stop, skip"),
    ("data.bad_image_share=2.0", "config.data.bad_image_share=2.0: expected a number from 0 to 1"),
    ("mixture_temperature=0.0", "config.mixture_temperature=0.0: expected more than 0"),
    ("method.pixel_weights=class", "config.method.pixel_weights='class': expected one of pixel, image_class"),
    ("method.sparse_coding=csc3", "config.method.sparse_coding='csc3': expected one of pull, no_push, off"),
    ("method.temperature=0.0", "config.method.temperature=0.0: expected more than 0"),
    ("method.label_stride=3", "config.method.label_stride=3: expected 0 or a divisor of the output stride 8"),
    ("method.label_stride=-8", "config.method.label_stride=-8: expected 0 or a divisor of the output stride 8"),
    ("method.momentum_view=both", "config.method.momentum_view='both': expected one of clean, mixed"),
    ("method.encoder_momentum=1.1", "config.method.encoder_momentum=1.1: expected a number from 0 to 1"),
    ("method.sparse_classes=0", "config.method.sparse_classes=0: expected at least 1"),
    ("batch=10", r"config.batch=10: expected a multiple of 8 \(pairs of samples on each of 4 devices\)"),
    ("optim.lr=0.0", "config.optim.lr=0.0: expected more than 0"),
    ("optim.name=adagrad", "config.optim.name='adagrad': expected one of sgd"),
    ("optim.lr_rule=cubic", "config.optim.lr_rule='cubic': expected one of linear, sqrt"),
    ("optim.clip_norm=0", r"config.optim.clip_norm=\(0,\): expected one number above 0"),
    ("epochs=0.0", "config.steps=0 and config.epochs=0: expected one of them"),
    ("seed=-1", "config.seed=-1: expected at least 0"),
    ("seed=4294967296", "config.seed=4294967296: expected at most 4294967295"),
]

FINETUNING = [
    ("trainable=body", "config.trainable='body': expected one of all, head"),
    ("loss_mean=some", "config.loss_mean='some': expected one of all, valid"),
    ("data.category_ratio=0.0", "config.data.category_ratio=0.0: expected more than 0"),
    ("model.decoder.dropout=1.0", "config.model.decoder.dropout=1.0: expected a rate"),
    ("dataset.labels=none", "config.dataset.labels='none': expected 'masks' in fine-tuning"),
    (
        "transfer=('backbone','decodr')",
        r"config.transfer=\('backbone', 'decodr'\): expected some of backbone, decoder, cl",
    ),
    ("transfer=()", r"config.transfer=\(\): expected some of backbone, decoder, classifier"),
    ("batch=6", "config.batch=6: expected a multiple of 4 .samples on each of 4 devices."),
    ("steps=0", "config.steps=0: expected at least 1"),
    ("loss.name=dice", "config.loss.name='dice': expected one of cross_entropy, focal"),
    (
        "loss.class_weights=inverted",
        r"config.loss.class_weights=\('inverted',\): expected a number .* or \('inverse',\)",
    ),
    ("loss.class_weights=1,-2", r"config.loss.class_weights=\(1, -2\): expected a number of at least 0 for each class"),
    ("loss.class_weights=0,0", r"config.loss.class_weights=\(0, 0\): expected .* one of them more than 0"),
    ("loss.label_smoothing=1.0", "config.loss.label_smoothing=1.0: expected less than 1"),
    ("loss.effective_beta=1.5", "config.loss.effective_beta=1.5: expected a number from 0 to 1"),
    ("loss.ohem_threshold=-0.1", "config.loss.ohem_threshold=-0.1: expected a number from 0 to 1"),
    ("loss.ohem_kept=0", "config.loss.ohem_kept=0: expected at least 1"),
    ("loss.ohem_kept=2000000000", "config.loss.ohem_kept=2000000000: expected at most"),
    ("loss.focal_gamma=-1.0", "config.loss.focal_gamma=-1.0: expected at least 0"),
    ("loss.dice_weight=-1.0", "config.loss.dice_weight=-1.0: expected at least 0"),
    ("optim.name=adam", "config.optim.name='adam': expected one of sgd, adamw"),
    ("optim.betas=0.9,1.0", r"config.optim.betas=\(0.9, 1.0\): expected two numbers from 0 to below 1"),
    ("optim.clip_norm=0", r"config.optim.clip_norm=\(0,\): expected one number above 0"),
    ("optim.clip_norm=none", r"config.optim.clip_norm=\('none',\): expected one number above 0"),
    ("trainable=some", r"config.trainable='some': expected one of all"),
    ("optim.clip_norm=-1.0", r"config.optim.clip_norm=\(-1.0,\): expected one number above 0"),
    ("optim.layer_decay=1.5", "config.optim.layer_decay=1.5: expected a number above 0 and at most 1"),
    ("model.auxiliary.weight=-0.4", "config.model.auxiliary.weight=-0.4: expected at least 0"),
    ("optim.ema_decay=1.0", "config.optim.ema_decay=1.0: expected a share from 0 to below 1"),
    ("init_weights=best", "config.init_weights='best': expected one of plain, ema, momentum, or ''"),
    ("init_weights=ema", "config.init_weights='ema': expected '' with config.init='scratch'"),
    ("continue_step=8", "config.continue_step='8': expected 'last' with config.continue_from=''; --step says"),
    ("optim.schedule=step", "config.optim.schedule='step': expected one of poly, cosine"),
    ("optim.warmup_steps=20000", "config.optim.warmup_steps=20000: expected fewer than config.steps=20000"),
]


def pretraining(names=("town",)):
    config = base.pretrain()
    config.sources = tuple(base.synthetic(name, images=4) for name in names)
    config.batch = 16
    config.lock()
    return config


def finetuning():
    config = base.finetune()
    config.dataset = base.synthetic("valley", images=4)
    config.lock()
    return config


def check(function, config, assignment):
    function(configs.apply_overrides(config, [tuple(assignment.split("="))]), devices=4)


def refused(function, config):
    """What a check says of a config; "" where it says nothing."""
    try:
        function(config, devices=4)
    except UserError as error:
        return str(error)
    return ""


def test_defaults_pass():
    assert refused(checks.pretraining, pretraining()) == ""
    assert refused(checks.finetuning, finetuning()) == ""


def test_belongs_to_another_loss():
    config = configs.apply_overrides(finetuning(), [("loss.name", "focal")])
    for key in ("label_smoothing", "ohem_threshold"):
        with pytest.raises(UserError, match=f"config.loss.{key}=0.5: expected 0.0 with config.loss.name='focal'"):
            check(checks.finetuning, config.copy_and_resolve_references().lock(), f"loss.{key}=0.5")


def test_layer_decay_of_a_backbone_without_layers(monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet50", dataclasses.replace(BACKBONES["resnet50"], layers=None))
    with pytest.raises(UserError, match=r"layer_decay=0.9: expected 1.0 with .*=resnet50, which declares no layers"):
        check(checks.finetuning, finetuning(), "optim.layer_decay=0.9")


@pytest.mark.parametrize(("assignment", "message"), PRETRAINING)
def test_pretraining(assignment, message):
    with pytest.raises(UserError, match=message) as error:
        check(checks.pretraining, pretraining(), assignment)
    assert "\n" not in str(error.value)


TOGETHER = [
    (
        {"objective": "multi_head", "label_space": "merged"},
        "config.label_space='merged': expected 'concatenated' with config.objective='multi_head'",
    ),
    (
        {"objective": "cross_entropy", "sources.town.labels": "none"},
        "config.sources.town.labels='none': expected 'masks' with config.objective='cross_entropy'; .* mdp, prototype",
    ),
    (
        {"sources.town.labels": "none", "stages": "(('town',),('harbor',))"},
        "config.sources.town.labels='none': the run begins with unlabelled datasets alone, without prototypes",
    ),
    ({"sources.town.labels": "none", "mixture_weights": "(1,0)"}, "the run begins with unlabelled datasets alone"),
    ({"sources.town.labels": "none", "mixture_schedule": "((0,1,0),(5,1,1))"}, "the run begins with unlabelled"),
    (
        {"sources.town.labels": "none", "method.momentum_view": "mixed"},
        "config.method.momentum_view='mixed': expected 'clean' with unlabelled datasets",
    ),
    (
        {"mixing.region": "0.0", "mixing.pixel": "1.0", "method.momentum_view": "mixed"},
        "config.method.momentum_view='mixed': expected 'clean' with config.mixing.pixel=1.0",
    ),
    (
        {"objective": "cross_entropy", "method.class_frequencies": "True"},
        "config.method.class_frequencies=True: expected False with config.objective='cross_entropy'; prototypes have",
    ),
    (
        {"objective": "multi_head", "method.prototype_warmup": "True"},
        "config.method.prototype_warmup=True: expected False with config.objective='multi_head'; prototypes have mdp",
    ),
    (
        {"objective": "multi_head", "method.momentum_view": "mixed"},
        "config.method.momentum_view='mixed': expected 'clean' with config.objective='multi_head'; prototypes have mdp",
    ),
    ({"method.negatives": "mine"}, "config.method.negatives='mine': expected one of all, own_set"),
    (
        {"method.negatives": "own_set", "objective": "multi_head"},
        "config.method.negatives='own_set': expected 'all' with config.objective='multi_head'; prototypes have mdp",
    ),
    (
        {"method.negatives": "own_set", "method.relations": "names"},
        "expected 'all' with config.method.relations='names'",
    ),
    ({"method.negatives": "own_set", "label_space": "merged"}, "expected 'all' with config.label_space='merged'"),
    ({"model.projection.layers": "3"}, "config.model.projection.layers=3: expected 0, 1 or 2"),
    ({"model.projection.layers": "0"}, r"layers=0 and dim=\d+: .*; expected config.model.projection.dim=\d+, as"),
    ({"stages": "(('town',),)"}, r"config.stages=.*: dataset 'harbor' is in 0 stages; expected one"),
    (
        {"stages": "(('town',),('harbor',))", "mixture_schedule": "((0,1,1),)"},
        "config.mixture_schedule is given too; expected one of them",
    ),
    (
        {"stages": "(('town',),('harbor',))", "mixture_weights": "(1,0)"},
        r"no dataset of the stage \('harbor',\) has a config.mixture_weights above 0",
    ),
]


@pytest.mark.parametrize(("values", "message"), TOGETHER)
def test_values_that_do_not_go_together(values, message):
    config = pretraining(("town", "harbor"))
    with pytest.raises(UserError, match=message) as error:
        checks.pretraining(configs.apply_overrides(config, list(values.items())), devices=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "multi_head"},
        {"objective": "cross_entropy", "label_space": "merged"},
        {"objective": "prototype", "mixing.region": "0.0", "mixing.pixel": "0.0", "sources.town.labels": "none"},
        {"objective": "pixel_to_pixel", "mixing.region": "0.0", "mixing.pixel": "0.0", "label_space": "merged"},
        {"sources.town.labels": "none", "label_space": "merged", "stages": "(('harbor','town'),)"},
        {"stages": "(('town',),('harbor',))", "mixture_weights": "(1,2)"},
    ],
)
def test_values_that_go_together(values):
    config = configs.apply_overrides(pretraining(("town", "harbor")), list(values.items()))
    assert refused(checks.pretraining, config) == ""


@pytest.mark.parametrize(("assignment", "message"), FINETUNING)
def test_finetuning(assignment, message):
    with pytest.raises(UserError, match=message) as error:
        check(checks.finetuning, finetuning(), assignment)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch", ["1", "4"])
def test_one_photo_at_a_time_is_for_a_frozen_network(batch):
    config = configs.apply_overrides(finetuning(), [("batch", batch), ("accumulate", batch)])
    with pytest.raises(UserError, match=rf"config\.batch={batch}: expected more than config\.accumulate={batch} "):
        checks.finetuning(config, devices=1)
    checks.finetuning(configs.apply_overrides(config, [("trainable", "head")]), devices=1)


def test_an_auxiliary_head_is_taken_by_a_network_that_has_one():
    config = configs.apply_overrides(finetuning(), [("transfer", "('backbone', 'auxiliary')")])
    with pytest.raises(UserError, match=r"config.transfer=.*: expected config.model.auxiliary.weight of more than 0"):
        checks.finetuning(config, 1)
    checks.finetuning(configs.apply_overrides(config, [("model.auxiliary.weight", "0.4")]), 1)


def test_a_projection_is_taken_by_a_classifier_that_reads_it():
    config = configs.apply_overrides(finetuning(), [("transfer", "('backbone', 'projection')")])
    with pytest.raises(UserError, match=r"config.transfer=.*: expected config.model.reads with 'projection'"):
        checks.finetuning(config, 1)
    checks.finetuning(configs.apply_overrides(config, [("model.reads", "('decoder', 'projection')")]), 1)


def test_an_auxiliary_head_is_for_a_network_that_learns():
    config = configs.apply_overrides(finetuning(), [("model.auxiliary.weight", "0.4"), ("trainable", "head")])
    with pytest.raises(UserError, match=r"auxiliary.weight=0.4: expected 0.0 with config.trainable='head'"):
        checks.finetuning(config, devices=1)


def test_no_dataset():
    with pytest.raises(UserError, match=r"config\.dataset: empty; expected a dataset"):
        checks.finetuning(base.finetune(), devices=1)


def test_no_sources():
    config = base.pretrain()
    with pytest.raises(UserError, match=r"config\.sources: empty; expected at least one dataset"):
        checks.pretraining(config, devices=1)
