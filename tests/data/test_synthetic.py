"""mdp_jax/data/drawn/scenes.py and the files that it draws with."""

import numpy as np
import pytest

from mdp_jax.data.drawn import scenes as synthetic
from mdp_jax.data.drawn.canvas import LOOKS, MEANINGS, Canvas, Light
from mdp_jax.data.drawn.layout import PLANS, choose
from mdp_jax.data.drawn.objects import THINGS, rectangle, windows
from mdp_jax.data.drawn.textures import KINDS, TILE, atlas
from mdp_jax.errors import UserError

NAMES = tuple(synthetic.TAXONOMIES)
SIZE = (96, 128)


@pytest.fixture(scope="module")
def scenes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the first training scenes of every taxonomy."""
    drawn = {name: [synthetic.draw(name, "train", i, SIZE) for i in range(40)] for name in NAMES}
    return {name: (np.stack([i for i, _ in pairs]), np.stack([y for _, y in pairs])) for name, pairs in drawn.items()}


def _mean_iou(truth: np.ndarray, guess: np.ndarray, num_classes: int) -> float:
    """Mean over the classes of intersection over union, counted class by class."""
    guess = np.where(truth >= 0, guess, -1)
    values = []
    for c in range(num_classes):
        union = ((truth == c) | (guess == c)).sum()
        if union:
            values.append(((truth == c) & (guess == c)).sum() / union)
    return 100 * float(np.mean(values))


def test_taxonomies_that_configs_name():
    assert {"harbor", "meadow", "town", "valley"} <= set(NAMES)
    for name in NAMES:
        assert 8 <= len(synthetic.classes(name)) <= 14


def test_each_meaning_has_at_most_one_class_in_a_taxonomy_and_exists():
    for taxonomy in synthetic.TAXONOMIES.values():
        meanings = [meaning for group in taxonomy.classes.values() for meaning in group]
        assert len(meanings) == len(set(meanings))
        assert set(meanings) <= set(MEANINGS)


def test_recipes_use_only_what_exists():
    for taxonomy in synthetic.TAXONOMIES.values():
        assert set(taxonomy.plans) <= set(PLANS)
        assert set(taxonomy.things) <= set(THINGS)
        assert set(taxonomy.lands) | set(taxonomy.patches) <= set(MEANINGS)
    assert {look.texture for look in LOOKS.values()} == set(KINDS)
    assert all(thing.stands_on <= set(MEANINGS) for thing in THINGS.values())


def test_taxonomies_overlap_in_meaning_and_differ_in_names_and_granularity():
    def class_of(name: str, meaning: str) -> str | None:
        found = [c for c, meanings in synthetic.TAXONOMIES[name].classes.items() if meaning in meanings]
        return found[0] if found else None

    names_of = {meaning: {class_of(name, meaning) for name in NAMES} - {None} for meaning in MEANINGS}
    assert sum(len(names) >= 2 for names in names_of.values()) >= 15
    # Two classes here are one class there, and the other way round.
    assert class_of("harbor", "sea") != class_of("harbor", "shallows")
    assert class_of("meadow", "sea") == class_of("meadow", "shallows")
    assert class_of("harbor", "sky") == class_of("harbor", "cloud")
    assert class_of("meadow", "sky") != class_of("meadow", "cloud")
    # Every meaning of the unseen set that has a class there is labelled in at least one other set.
    for meaning in MEANINGS:
        if class_of("valley", meaning):
            assert any(class_of(name, meaning) for name in ("harbor", "meadow", "town"))
    assert all(any(class_of(name, meaning) is None for meaning in MEANINGS) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_scene(name):
    image, label = synthetic.draw(name, "val", 7, SIZE)
    synthetic.draw(name, "val", 8, SIZE)
    again, label_again = synthetic.draw(name, "val", 7, SIZE)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)


def test_splits_indices_and_taxonomies_differ():
    def digest(*key) -> tuple[bytes, bytes]:
        image, label = synthetic.draw(*key, (48, 64))
        return image.tobytes(), label.tobytes()

    keys = [(name, split, index) for name in NAMES for split in synthetic.SPLITS for index in range(4)]
    images, labels = zip(*(digest(*key) for key in keys), strict=True)
    assert len(set(images)) == len(keys)
    assert len(set(labels)) == len(keys)


@pytest.mark.parametrize("size", [(96, 128), (64, 64), (75, 101), (33, 17), (8, 8), (130, 97), (240, 320)])
def test_shapes_types_and_range(size):
    for name in NAMES:
        image, label = synthetic.draw(name, "test", 3, size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
        assert label.shape == size and label.dtype == np.int16
        assert label.min() >= -1 and label.max() < len(synthetic.classes(name))


def test_every_class_occurs_and_none_rules(scenes):
    for name, (_, labels) in scenes.items():
        for index, class_name in enumerate(synthetic.classes(name)):
            found = labels == index
            assert found.any(axis=(1, 2)).mean() > 0.15, (name, class_name)
            assert 0.005 < found.mean() < 0.4, (name, class_name)


def test_ignored_pixels_occur_and_are_few(scenes):
    for name, (_, labels) in scenes.items():
        assert 0 < np.mean(labels < 0) < 0.1, name


def test_images_are_exposed(scenes):
    for name, (images, _) in scenes.items():
        means = images.mean(axis=(1, 2, 3))
        assert means.min() > 30 and means.max() < 225, name
        assert images.std(axis=(1, 2)).mean() > 25, name
        assert np.mean((images == 0) | (images == 255)) < 0.1, name


@pytest.mark.parametrize("name", NAMES)
def test_colour_alone_does_not_solve_it(scenes, name):
    """The nearest mean colour of a class, learned and judged on the same scenes, stays below 25 mIoU."""
    images, labels = (part[:, ::4, ::4] for part in scenes[name])
    num_classes = len(synthetic.classes(name))
    means = np.stack([images[labels == c].mean(axis=0) for c in range(num_classes)])
    distance = ((images[..., None, :].astype(np.float64) - means) ** 2).sum(-1)
    assert _mean_iou(labels, distance.argmin(-1), num_classes) < 25


def test_the_colour_of_a_class_varies_from_scene_to_scene(scenes):
    """By more than half of what the classes' mean colours differ by."""
    images, labels = scenes["valley"]
    means = {}
    for c in range(len(synthetic.classes("valley"))):
        members = [
            image[label == c].mean(0) for image, label in zip(images, labels, strict=True) if (label == c).sum() > 50
        ]
        means[c] = np.stack(members)
    within = np.mean([colours.std(0).mean() for colours in means.values()])
    between = np.stack([colours.mean(0) for colours in means.values()]).std(0).mean()
    assert within > 0.5 * between


def test_neighbouring_pixels_mostly_agree(scenes):
    """Regions, not noise: few pixels differ in class from their right neighbour."""
    for name, (_, labels) in scenes.items():
        assert np.mean(labels[:, :, 1:] != labels[:, :, :-1]) < 0.1, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("desert", "train", 0, SIZE),
            "no synthetic dataset is called 'desert'; expected one of harbor, meadow, town, valley",
        ),
        (("town", "dev", 0, SIZE), "synthetic dataset 'town': no split 'dev'; expected one of train, val, test"),
        (("town", "train", 0, (4, 128)), "synthetic dataset 'town': size is (4, 128); expected at least 8 x 8 pixels"),
    ],
)
def test_wrong_use(arguments, message):
    with pytest.raises(UserError) as error:
        synthetic.draw(*arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_unknown_name_of_classes():
    with pytest.raises(UserError, match="is called 'desert'; expected one of"):
        synthetic.classes("desert")


def test_atlas_tiles_wrap_around():
    values = atlas()
    assert values.shape == (len(KINDS) * (TILE + 1), TILE + 1) and values.dtype == np.float32
    assert np.abs(values).max() <= 1
    for tile in np.split(values, len(KINDS)):
        np.testing.assert_array_equal(tile[0], tile[-1])
        np.testing.assert_array_equal(tile[:, 0], tile[:, -1])
        assert tile.std() > 0.1


def test_later_shapes_hide_earlier_ones():
    canvas = Canvas(np.random.default_rng(0), (10, 20), horizon=0.4, vanish=1.0)
    canvas.fill(canvas.surface("sky", -1.0), rectangle(-0.1, -0.1, 2.1, 1.1))
    canvas.fill(canvas.surface("grass", ground=True), rectangle(-0.1, 0.5, 2.1, 1.1))
    canvas.fill(canvas.surface("car", 0.5), rectangle(0.5, 0.3, 0.9, 0.7))
    expected = np.full((10, 20), MEANINGS.index("sky"))
    expected[5:] = MEANINGS.index("grass")
    expected[3:8, 5:10] = MEANINGS.index("car")
    np.testing.assert_array_equal(canvas.meanings(), expected)
    assert canvas.meaning_at(0.6, 0.55) == "car" and canvas.meaning_at(-1.0, 5.0) == "grass"


def test_more_surfaces_than_a_byte_counts():
    canvas = Canvas(np.random.default_rng(0), (4, 300), horizon=0.4, vanish=0.5)
    for column in range(300):
        meaning = "grass" if column % 2 else "sky"
        canvas.fill(canvas.surface(meaning, ground=True), rectangle(column / 4, -0.5, column / 4, 1.5))
    np.testing.assert_array_equal(canvas.ids, np.tile(np.arange(300), (4, 1)))
    assert canvas.meaning_at(271 / 4, 0.5) == "grass" and canvas.meaning_at(272 / 4, 0.5) == "sky"


def test_choose_follows_the_weights():
    rng = np.random.default_rng(0)
    drawn = [choose(rng, {"a": 3.0, "b": 0.0, "c": 1.0}) for _ in range(2000)]
    assert drawn.count("b") == 0 and drawn.count("a") / 2000 == pytest.approx(0.75, abs=0.04)


def test_no_windows_is_no_error():
    canvas = Canvas(np.random.default_rng(0), (16, 16), horizon=0.4, vanish=0.5)
    canvas.fill(canvas.surface("sky", -1.0), rectangle(-0.1, -0.1, 1.1, 1.1))
    windows(canvas, rectangle(0.1, 0.1, 0.9, 0.9), 2, 2, 1.0, share=0.0)
    assert set(canvas.meanings().ravel()) == {MEANINGS.index("sky")}


def test_light_and_distance():
    """Half the light gives about half the brightness, and haze takes contrast from what is far away only."""

    def picture(gain: float, haze: float) -> np.ndarray:
        canvas = Canvas(np.random.default_rng(0), (64, 64), horizon=0.2, vanish=0.5)
        canvas.fill(canvas.surface("sky", -1.0), rectangle(-0.1, -0.1, 1.1, 1.1))
        canvas.fill(canvas.surface("grass", ground=True), rectangle(-0.1, 0.2, 1.1, 1.1))
        canvas.fill(canvas.surface("grass", ground=True, tone=0.3), rectangle(-0.1, 0.2, 0.5, 1.1))
        light = Light(np.full(3, gain, np.float32), haze, slope=0.0, contrast=1.0, saturation=1.0, blur=0.4)
        return canvas.render(light).astype(np.float64)

    clear, dim, hazy = picture(1.0, 0.0), picture(0.5, 0.0), picture(1.0, 0.3)
    assert dim.mean() / clear.mean() == pytest.approx(0.5, abs=0.03)

    def step(image: np.ndarray, rows: slice) -> float:
        return image[rows, 40:].mean() - image[rows, :24].mean()

    assert step(hazy, slice(15, 20)) < 0.5 * step(clear, slice(15, 20))
    assert step(hazy, slice(58, 64)) == pytest.approx(step(clear, slice(58, 64)), rel=0.1)
