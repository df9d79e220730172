"""What every config starts from: one function for each loop, one for each dataset kind.

Values follow METHOD.md sections 2 to 6 (docs/METHOD.md in this repository says which come from the paper, which from
its authors and which are this project's own reading). A config file calls one of these functions and sets what differs;
they are locked, so that a misspelt key is an error.
"""

from ml_collections import ConfigDict


def folder(name: str, root: str, drop_classes: tuple[str, ...] = (), limit: int = 0) -> ConfigDict:
    """A dataset in the plain folder layout: images/{train,val}/*.jpg, masks/{train,val}/*.png, classes.txt."""
    return ConfigDict(
        {
            "name": name,
            "kind": "folder",
            "root": root,  # joined to the config's data_dir unless absolute
            "labels": "masks",  # masks, or none: pretraining labels the pixels by their nearest prototypes
            "drop_classes": drop_classes,  # class names whose pixels become ignored
            "limit": limit,  # train on this many photos, chosen by the seed; 0 = all
            # This many training photos are set aside and take the place of the validation photos; 0 = none. To choose
            # settings on, so that the validation photos are looked at once.
            "holdout": 0,
        }
    ).lock()


def voc(
    name: str = "voc",
    root: str = "VOCdevkit/VOC2012",
    train_list: str = "train_aug",
    drop_classes: tuple[str, ...] = (),
    limit: int = 0,
) -> ConfigDict:
    """PASCAL VOC 2012, the folder that holds JPEGImages: 20 classes of objects and the background."""
    config = _released("voc", name, root, drop_classes, limit)
    with config.unlocked():
        config.train_list = train_list  # train: 1,464 photos; trainval: 2,913; train_aug: 10,582, with those of SBD
    return config


def ade20k(
    name: str = "ade20k", root: str = "ade/ADEChallengeData2016", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """ADE20K as its scene parsing challenge of 2016 has it, the folder ADEChallengeData2016: 150 classes."""
    return _released("ade20k", name, root, drop_classes, limit)


def coco_stuff(
    name: str = "coco_stuff", root: str = "coco_stuff164k", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """COCO-Stuff on all of COCO 2017 (164k), the folder that holds images and annotations: 171 classes."""
    return _released("coco_stuff", name, root, drop_classes, limit)


def cityscapes(
    name: str = "cityscapes", root: str = "cityscapes", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """Cityscapes with fine masks, the folder that holds leftImg8bit and gtFine: 19 classes."""
    return _released("cityscapes", name, root, drop_classes, limit)


def array_record(name: str, root: str = "", drop_classes: tuple[str, ...] = (), limit: int = 0) -> ConfigDict:
    """What `mdp data prepare` wrote; `root` is the folder with manifest.json, prepared/NAME unless given."""
    return _released("array_record", name, root or f"prepared/{name}", drop_classes, limit)


def tfds(
    name: str,
    tfds_name: str = "",
    classes: tuple[str, ...] = (),
    root: str = "",
    drop_classes: tuple[str, ...] = (),
    limit: int = 0,
) -> ConfigDict:
    """A set of TensorFlow Datasets with photos and masks, prepared with file_format="array_record" under `root`."""
    config = _released("tfds", name, root, drop_classes, limit)
    with config.unlocked():
        config.update(
            {
                "tfds_name": tfds_name or name,  # as tfds.builder takes it: NAME, NAME/CONFIG or NAME:VERSION
                "image_key": "image",
                "mask_key": "segmentation_mask",
                "train_split": "train",  # as TFDS writes splits, e.g. train[:90%]
                "val_split": "test",
                "classes": classes,
                "label_offset": 0,  # value of the first class in the masks
                "ignore": (255,),  # values in the masks that are no class
            }
        )
    return config


def _released(kind: str, name: str, root: str, drop_classes: tuple[str, ...], limit: int) -> ConfigDict:
    """A dataset in its release's own directories; `root` is where MMSegmentation has it under its data folder."""
    config = folder(name, root, drop_classes, limit)
    config.kind = kind
    return config


def synthetic(name: str, images: int, val_images: int = 64, size: tuple[int, int] = (96, 128)) -> ConfigDict:
    """A built-in drawn dataset; `name` is one of its taxonomies (see mdp_jax/data/drawn/scenes.py)."""
    return ConfigDict(
        {
            "name": name,
            "kind": "synthetic",
            "images": images,  # training scenes
            "val_images": val_images,  # validation scenes, disjoint from the training scenes
            "size": size,  # height, width in pixels
            "labels": "masks",  # masks, or none: the drawn labels are not used
            "drop_classes": (),
            "limit": 0,
            "holdout": 0,
        }
    ).lock()


def _data(crop: tuple[int, int]) -> ConfigDict:
    return ConfigDict(
        {
            "short_side": 0,  # photos are first resized to this short side, in pixels; 0 = as they are
            "crop": crop,  # height, width in pixels
            "flip": 0.5,  # probability of a horizontal flip
            # Strengths of the photometric distortion, on the 0..255 scale (hue: OpenCV's 0..179).
            "photometric": {"brightness": 32.0, "contrast": 0.5, "saturation": 0.5, "hue": 18.0},
            "mean": (123.675, 116.28, 103.53),  # of the channels R, G, B, on the 0..255 scale
            "std": (58.395, 57.12, 57.375),
            "cache": False,  # keep decoded photos in memory
            "threads": 2,  # that read and augment
            "check_files": 5000,  # photos of each dataset opened and checked before the run starts
            "on_bad_image": "stop",  # stop, or skip: another photo of the dataset takes the place of an unreadable one
            "bad_image_share": 0.01,  # of the photos of a dataset; with more bad ones a run that skips them stops
        }
    )


def _model(dropout: float) -> ConfigDict:
    return ConfigDict(
        {
            # resnet18, resnet34, resnet50, resnet101; with _v1c: with MMSegmentation's deep stem
            "backbone": "resnet50",
            "width": 1.0,  # multiplies every channel count of the backbone
            "output_stride": 8,  # 8 or 16
            "decoder": {
                # deeplabv3; or deeplabv3plus, which joins features of stride 4 and gives features of stride 4.
                "name": "deeplabv3",
                # Of deeplabv3: mmseg or torchvision, its two published shapes; of deeplabv3plus: mmseg.
                "layout": "mmseg",
                "channels": 512,
                "rates": (12, 24, 36),
                "dropout": dropout,
            },
            # What the backward pass computes again instead of keeping it: none, elementwise (batch normalisation and
            # ReLU of the residual blocks), blocks (all of them but their inputs).
            "remat": "none",
            "compute_dtype": "float32",  # float32, bfloat16 or float64
            "param_dtype": "float32",  # float32 or float64
        }
    )


def _run() -> dict:
    return {
        "log_every": 50,  # steps
        "checkpoint_every": 1000,  # steps
        "keep_checkpoints": 2,
        "keep_every": 0,  # checkpoints of steps divisible by it stay for good; 0 = the newest ones alone
        "accumulate": 1,  # parts that the gradient of a batch is computed in, one after the other, to save memory
        "devices": 0,  # number of devices of the mesh; 0 = all of all processes
        "fsdp": 1,  # over so many devices are the kernels of convolutions and their momenta split
    }


def pretrain() -> ConfigDict:
    """Pretraining on several datasets (METHOD.md sections 2 to 5)."""
    config = ConfigDict(
        {
            "seed": 0,
            "data_dir": "",
            "init": "scratch",  # scratch, a workdir of `mdp pretrain` or a file of weights; set by --init
            "objective": "mdp",  # mdp, or a baseline: prototype, pixel_to_pixel, multi_head, cross_entropy
            "sources": (),
            "label_space": "concatenated",  # concatenated, or merged: classes of equal name in several datasets are one
            # Sequential pretraining: tuples of dataset names, trained on one after the other; () = all jointly.
            "stages": (),
            "mixture_temperature": 1.0,  # T: a dataset of n photos is drawn with weight n^(1/T)
            "mixture_weights": (),  # one of each dataset, in place of those by size and temperature
            "mixture_schedule": (),  # rows (step, weight of each dataset): weights from that step on
            "data": _data(crop=(224, 224)),
            "mixing": {
                "region": 0.25,  # share of the pairs
                "pixel": 0.25,
                "beta": 1.0,  # lam ~ Beta(beta, beta)
                "start": 0,  # steps whose pairs are all plain, before the mixing sets in
            },
            "model": _model(dropout=0.0),
            "method": {
                "temperature": 0.1,  # tau
                "prototype_momentum": 0.99,
                "encoder_momentum": 0.999,
                "momentum_view": "clean",  # what the momentum encoder makes prototypes of: clean or mixed photos
                "sparse_coding": "pull",  # pull, no_push or off
                "sparse_classes": 5,  # K
                "sparse_weight": 0.1,  # alpha
                "sparse_temperature": 0.1,  # tau_s
                "label_stride": 0,  # pixels from one label of the loss to the next; 0 = a label a feature, y[::s, ::s]
                "pseudo_threshold": 0.5,  # an unlabelled pixel counts from this softmax of its nearest prototype on
                "pixel_budget": 64,  # pixels of each view of an image that pixel_to_pixel compares
                "loss_chunk": 8192,  # pixels of a device's share of the batch whose logits exist at one time
            },
            "optim": {
                "lr": 0.1,  # at a batch of 256; scaled by batch / 256
                "momentum": 0.9,
                "weight_decay": 1e-4,  # none on batch normalisation and biases
                "warmup_epochs": 5.0,
            },
            "batch": 256,
            "epochs": 100.0,  # an epoch is as many samples as all datasets hold together
            "steps": 0,  # overrides epochs where it is not 0
            **_run(),
        }
    )
    config.data.update(
        {
            "scale": (0.2, 1.0),  # random resized crop: share of the photo's area
            "ratio": (0.75, 4 / 3),  # and width / height
        }
    )
    config.model.projection = ConfigDict({"channels": 512, "dim": 256})
    return config.lock()


def finetune() -> ConfigDict:
    """Fine-tuning on one dataset with MMSegmentation's settings (METHOD.md section 6)."""
    config = ConfigDict(
        {
            "seed": 0,
            "data_dir": "",
            "init": "scratch",  # scratch, a workdir of `mdp pretrain` or a file of weights; set by --init
            "transfer": ("backbone", "decoder"),  # parts of the pretrained network that are taken
            "dataset": ConfigDict(),
            "data": _data(crop=(512, 512)),
            "model": _model(dropout=0.1),
            "trainable": "all",  # all, or head: everything under the classifier is frozen
            "loss_mean": "all",  # all: divide by all pixels, ignored ones included; valid: by the labelled ones
            "optim": {
                "lr": 0.01,
                "momentum": 0.9,
                "weight_decay": 5e-4,  # on every parameter
                "power": 0.9,  # of the polynomial decay
                "lr_min": 1e-4,
            },
            "batch": 16,
            "steps": 20000,
            "evaluate_every": 2000,  # steps; 0 = at the end only
            **_run(),
        }
    )
    config.data.update(
        {
            "scale": (0.5, 2.0),  # random scale of the photo before the crop
            "category_ratio": 0.75,  # a crop with more than this share of one class is drawn again, up to 10 times
        }
    )
    return config.lock()
