"""The built-in datasets: textured scenes of one drawn world, labelled under taxonomies that do not agree.

The world has the fine meanings of canvas.MEANINGS. A taxonomy has its own kind of scenes (land, things, light) and its
own class names, coarser or finer than those of the others; they are never reconciled (METHOD.md section 1). Meanings
that it does not name are ignored. "harbor", "meadow" and "town" are for pretraining; "valley" has their meanings in
other combinations and is the one for fine-tuning.
"""

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mdp_jax.data.drawn.canvas import MEANINGS, Canvas, Light
from mdp_jax.data.drawn.layout import PLANS, choose, ground, hills, mountains, patches, place, sky, wood
from mdp_jax.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Taxonomy:
    """The class names of a dataset with their meanings, and what its scenes are like."""

    classes: Mapping[str, tuple[str, ...]]
    plans: Mapping[str, float]  # weights of the layouts of the land (layout.PLANS)
    lands: Mapping[str, float]  # weights of the meaning of the open land
    patches: Mapping[str, float]  # weights of the meanings of patches on it
    patch_number: float  # mean number of patches
    things: Mapping[str, float]  # mean number of each kind of thing (objects.THINGS)
    clouds: float  # mean number
    mountains: float  # probability
    snow: float  # probability of white peaks where there are mountains
    hills: float  # probability
    woods: float  # probability of the edge of a wood on the horizon
    horizon: tuple[float, float]  # range, share of the height
    tint: tuple[float, float, float]  # of the camera: factors of R, G, B
    saturation: float  # of the camera, 1 = as painted


TAXONOMIES: dict[str, Taxonomy] = {
    "harbor": Taxonomy(
        classes={
            "air": ("sky", "cloud"),
            "sea": ("sea",),
            "shallows": ("shallows",),
            "beach": ("sand",),
            "rocks": ("boulder", "mountain"),
            "greenery": ("grass", "flowers", "broadleaf", "conifer"),
            "shed": ("brick", "plaster", "timber", "roof", "window", "door"),
            "quay": ("road", "pavement"),
            "vessel": ("boat",),
            "bather": ("person",),
        },
        plans={"coast": 0.78, "lake": 0.15, "row": 0.07},
        lands={"grass": 0.35, "pavement": 0.35, "sand": 0.15, "soil": 0.15},
        patches={"grass": 0.5, "road": 0.25, "sand": 0.25},
        patch_number=0.4,
        things={
            "boat": 2.3,
            "person": 1.2,
            "boulder": 1.5,
            "house": 0.5,
            "barn": 0.5,
            "bush": 0.6,
            "broadleaf": 0.4,
            "animal": 0.1,
            "sign": 0.2,
        },
        clouds=1.5,
        mountains=0.3,
        snow=0.1,
        hills=0.25,
        woods=0.15,
        horizon=(0.2, 0.5),
        tint=(0.94, 1.0, 1.08),
        saturation=1.05,
    ),
    "meadow": Taxonomy(
        classes={
            "sky": ("sky",),
            "cloud": ("cloud",),
            "plants": ("grass", "flowers"),
            "woods": ("broadleaf", "conifer"),
            "farmland": ("crop", "soil"),
            "hill": ("mountain", "snow"),
            "water": ("sea", "shallows"),
            "track": ("road", "sand"),
            "barn": ("timber", "roof", "door"),
            "cattle": ("animal",),
            "fence": ("fence",),
            "stone": ("boulder",),
        },
        plans={"country": 0.8, "lake": 0.2},
        lands={"grass": 0.75, "crop": 0.15, "soil": 0.1},
        patches={"crop": 0.35, "soil": 0.25, "flowers": 0.4},
        patch_number=1.8,
        things={
            "broadleaf": 1.7,
            "conifer": 0.8,
            "bush": 0.9,
            "animal": 1.7,
            "fence": 0.9,
            "barn": 0.7,
            "boulder": 0.8,
            "person": 0.3,
        },
        clouds=2.2,
        mountains=0.4,
        snow=0.35,
        hills=0.6,
        woods=0.4,
        horizon=(0.25, 0.55),
        tint=(1.06, 1.02, 0.92),
        saturation=1.0,
    ),
    "town": Taxonomy(
        classes={
            "sky": ("sky", "cloud"),
            "masonry": ("brick", "plaster"),
            "tiles": ("roof",),
            "window": ("window",),
            "door": ("door",),
            "asphalt": ("road",),
            "sidewalk": ("pavement",),
            "tree": ("broadleaf", "conifer"),
            "lawn": ("grass", "flowers"),
            "bare ground": ("soil", "sand"),
            "car": ("car",),
            "pedestrian": ("person",),
            "sign": ("sign",),
            "woodwork": ("fence", "timber"),
        },
        plans={"street": 0.5, "row": 0.4, "country": 0.1},
        lands={"grass": 0.45, "soil": 0.25, "pavement": 0.3},
        patches={"grass": 0.5, "soil": 0.25, "flowers": 0.25},
        patch_number=0.6,
        things={
            "car": 2.0,
            "person": 1.5,
            "sign": 0.9,
            "broadleaf": 0.8,
            "conifer": 0.2,
            "bush": 0.5,
            "house": 0.5,
            "fence": 0.5,
            "animal": 0.1,
        },
        clouds=1.2,
        mountains=0.1,
        snow=0.2,
        hills=0.2,
        woods=0.25,
        horizon=(0.3, 0.52),
        tint=(1.02, 0.98, 1.0),
        saturation=0.8,
    ),
    "valley": Taxonomy(
        classes={
            "heaven": ("sky", "cloud"),
            "mountain": ("mountain", "boulder"),
            "snow": ("snow",),
            "lake": ("sea", "shallows"),
            "pasture": ("grass", "flowers", "crop"),
            "earth": ("soil", "sand"),
            "leaf tree": ("broadleaf",),
            "needle tree": ("conifer",),
            "house": ("brick", "plaster", "timber", "roof", "window", "door"),
            "road": ("road", "pavement"),
            "vehicle": ("car", "boat"),
            "creature": ("person", "animal"),
        },
        plans={"lake": 0.3, "country": 0.45, "street": 0.25},
        lands={"grass": 0.4, "snow": 0.2, "soil": 0.3, "crop": 0.1},
        patches={"snow": 0.2, "crop": 0.3, "flowers": 0.2, "soil": 0.3},
        patch_number=1.2,
        things={
            "conifer": 1.2,
            "broadleaf": 0.9,
            "house": 0.7,
            "barn": 0.5,
            "car": 1.6,
            "boat": 1.1,
            "animal": 1.3,
            "person": 1.2,
            "boulder": 0.7,
            "fence": 0.2,
            "sign": 0.2,
        },
        clouds=1.5,
        mountains=0.7,
        snow=0.6,
        hills=0.3,
        woods=0.4,
        horizon=(0.28, 0.55),
        tint=(0.98, 1.0, 1.02),
        saturation=0.9,
    ),
}


def classes(name: str) -> tuple[str, ...]:
    """The class names of a taxonomy, in the order of their ids.

    Args:
      name: a key of TAXONOMIES.

    Raises:
      UserError: there is no such taxonomy.
    """
    return tuple(_taxonomy(name).classes)


def draw(name: str, split: str, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene and its label map; the same arguments always give the same scene.

    Args:
      name: a key of TAXONOMIES.
      split: "train", "val" or "test": three disjoint series of scenes.
      index: 0, 1, ...
      size: height and width in pixels, at least 8.

    Returns:
      The image, uint8 [H, W, 3] RGB, and the label, int16 [H, W]: ids of `classes(name)`, -1 where the meaning has no
      class.

    Raises:
      UserError: the name or the split is unknown, or the size is too small.
    """
    taxonomy = _taxonomy(name)
    if split not in SPLITS:
        raise UserError(f"synthetic dataset {name!r}: no split {split!r}; expected one of {', '.join(SPLITS)}")
    if min(size) < 8:
        raise UserError(f"synthetic dataset {name!r}: size is {tuple(size)}; expected at least 8 x 8 pixels")
    rng = np.random.default_rng([zlib.crc32(f"{name}/{split}".encode()), index])
    canvas = _scene(taxonomy, rng, size)
    label = _local_ids(name)[canvas.meanings()]
    return canvas.render(_light(taxonomy, rng)), label


def _taxonomy(name: str) -> Taxonomy:
    if name not in TAXONOMIES:
        raise UserError(f"no synthetic dataset is called {name!r:.80}; expected one of {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]


@functools.cache
def _local_ids(name: str) -> np.ndarray:
    """Class id of every meaning: int16 [len(MEANINGS)], -1 = ignored."""
    table = np.full(len(MEANINGS), -1, np.int16)
    for index, meanings in enumerate(TAXONOMIES[name].classes.values()):
        table[[MEANINGS.index(meaning) for meaning in meanings]] = index
    return table


def _scene(taxonomy: Taxonomy, rng: np.random.Generator, size: tuple[int, int]) -> Canvas:
    """Paints a scene from the sky to the nearest thing."""
    horizon, vanish = rng.uniform(*taxonomy.horizon), rng.uniform(0.25, 0.75) * size[1] / size[0]
    canvas = Canvas(rng, size, horizon, vanish)
    sky(canvas, taxonomy.clouds)
    if rng.random() < taxonomy.mountains:
        mountains(canvas, taxonomy.snow)
    if rng.random() < taxonomy.hills:
        hills(canvas, choose(rng, {"grass": 0.5, "broadleaf": 0.25, "conifer": 0.25}))
    if rng.random() < taxonomy.woods:
        wood(canvas, choose(rng, {"broadleaf": 0.5, "conifer": 0.5}))
    land = choose(rng, taxonomy.lands)
    ground(canvas, land)
    patches(canvas, taxonomy.patches, taxonomy.patch_number)
    PLANS[choose(rng, taxonomy.plans)](canvas, land)
    place(canvas, taxonomy.things)
    return canvas


def _light(taxonomy: Taxonomy, rng: np.random.Generator) -> Light:
    """The light of a scene: anything from dusk to glare, cold to warm, clear to hazy."""
    warmth = 0.08 * rng.standard_normal()
    colour = np.array((1.0 + warmth, 1.0 + 0.04 * rng.standard_normal(), 1.0 - warmth))
    return Light(
        gain=(np.array(taxonomy.tint) * colour * rng.uniform(0.7, 1.15)).astype(np.float32),
        haze=0.06 * rng.random() ** 2,
        slope=rng.uniform(-0.25, 0.25),
        contrast=rng.uniform(0.85, 1.15),
        saturation=taxonomy.saturation * rng.uniform(0.6, 1.2),
        blur=rng.uniform(0.3, 0.55),
    )
