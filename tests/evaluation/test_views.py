"""mdp_jax/evaluation/views.py: averages by hand, memory, and arguments that cannot be."""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.evaluation import views
from mdp_jax.evaluation.views import Views

CONFIG = ConfigDict({"data": {"crop": (512, 769)}})


def test_sizes_are_rounded_as_in_mmsegmentation():
    shown = Views(scales=(0.5, 1.0, 1.5, 0.01))
    assert shown.sizes(5, 7) == [(3, 4), (5, 7), (8, 11), (1, 1)]  # 2.5, 3.5, 7.5 and 10.5 go up


def test_photos_at_each_scale():
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    half, same, twice = Views(scales=(0.5, 1.0, 2.0)).of([photo, np.full_like(photo, 9)])
    np.testing.assert_array_equal(same[0], photo)
    blocks = photo.reshape(2, 2, 3, 2, 3).astype(int).sum(axis=(1, 3))
    assert np.abs(half[0] - blocks / 4).max() <= 0.5  # the mean of each four pixels, as training photos shrink
    assert twice.shape == (2, 8, 12, 3) and half.dtype == twice.dtype == np.uint8
    assert (half[1] == 9).all() and (twice[1] == 9).all()


def sure_on_the_left(images):
    """Odds of 3 to 1 for the second of two classes in the first column of a photo that is 2 wide, else even ones."""
    left = jnp.zeros(images.shape[:3]).at[:, :, 0].set(jnp.log(3.0) if images.shape[2] == 2 else 0.0)
    return jnp.stack([jnp.zeros_like(left), left], axis=-1)


def scores(shown, image, logits_of=sure_on_the_left, size=(1, 2)):
    seen = [jnp.asarray(view, jnp.float32) for view in shown.of([image])]
    return views.class_scores(logits_of, shown, seen, size)[0, 0]


def test_probabilities_not_logits_are_averaged_by_hand():
    image = np.zeros((1, 2, 3), np.uint8)
    np.testing.assert_allclose(scores(Views(), image), [[0, np.log(3)], [0, 0]], rtol=1e-6)
    # Half of it from the photo, 3/4 and 1/2, half from its mirror image, 1/2 and 3/4. Logits would give 0.634.
    np.testing.assert_allclose(scores(Views(flip=True), image)[:, 1], [0.625, 0.625], rtol=1e-6)
    # 3/4 and 1/2 at the photo's own size, 1/2 everywhere at twice and three times that.
    np.testing.assert_allclose(scores(Views(scales=(1.0, 2.0, 3.0)), image)[:, 1], [1.75 / 3, 0.5], rtol=1e-6)
    shown = Views(scales=(1.0, 2.0), flip=True)
    np.testing.assert_allclose(scores(shown, image)[:, 1], [2.25 / 4, 2.25 / 4], rtol=1e-6)


def by_colour(images):
    return images * 0.03


def test_flip_changes_nothing_for_a_network_that_sees_no_sides():
    image = np.random.default_rng(0).integers(0, 256, (1, 9, 3)).astype(np.uint8)
    plain, flipped = (scores(Views(flip=flip), image, by_colour, (1, 9)) for flip in (False, True))
    np.testing.assert_allclose(flipped, jax.nn.softmax(plain, axis=-1), rtol=1e-6)


def test_windows_of_the_mirror_image_begin_at_its_own_left():
    # 3 of 6 pixels every 2, so at 0, 2 and 3: from the right these are 3, 1 and 0. A pixel has the sums of its windows.
    def sums(images):
        return images.sum(axis=2, keepdims=True) + 0 * images

    image = np.zeros((1, 6, 3), np.uint8)
    image[0, :, 0] = [1, 0, 0, 2, 0, 0]
    found = scores(Views((1, 3), (1, 2), flip=True), image, sums, (1, 6))
    plain, mirrored = ([[mean, 0, 0] for mean in means] for means in ([1, 1, 1.5, 2, 2, 2], [1, 1.5, 1.5, 2, 2, 2]))
    both = sum(jax.nn.softmax(jnp.array(logits), axis=-1) for logits in (plain, mirrored)) / 2
    np.testing.assert_allclose(found, both, rtol=1e-6)


def test_memory_does_not_grow_with_the_number_of_views():
    def deep(images):
        features = jnp.tanh(images @ jnp.ones((3, 64)))
        return features @ jnp.ones((64, 100))

    def temporary_bytes(shown):
        seen = [jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)] * len(shown.scales)
        program = jax.jit(functools.partial(views.class_scores, deep, shown), static_argnums=1)
        return program.lower(seen, (64, 64)).compile().memory_analysis().temp_size_in_bytes

    two = temporary_bytes(Views(scales=(1.0, 1.0)))
    assert two >= 2 * 64 * 64 * 100 * 4
    assert temporary_bytes(Views(scales=(1.0,) * 6)) < 1.1 * two
    assert temporary_bytes(Views(scales=(1.0,) * 6, flip=True)) < 1.1 * two


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": (1.0, 0.0)}, "--scales 1 0: expected factors above 0, up to 10"),
        ({"scales": (-0.5,)}, "--scales -0.5: expected"),
        ({"scales": (float("nan"),)}, "--scales nan: expected"),
        ({"scales": (75.0, 100.0)}, "--scales 75 100: expected"),
        ({"crop": (64, 64), "stride": (64, 65)}, "--stride 64 65: expected 1 pixel to those of --crop 64 64"),
        ({"crop": (64, 64), "stride": (0, 32)}, "--stride 0 32: expected"),
        ({"crop": (0, 64), "stride": (1, 32)}, "--crop 0 64: expected height and width of at least 1 pixel"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(UserError) as error:
        Views(**values)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def parsed(text):
    parser = argparse.ArgumentParser()
    views.add_arguments(parser)
    return views.of_arguments(parser.parse_args(text.split()), CONFIG.data)


@pytest.mark.parametrize(
    ("text", "expected", "described"),
    [
        ("", views.WHOLE, ""),
        ("--mode whole --scales 1", views.WHOLE, ""),
        ("--mode slide", Views((512, 769), (341, 513)), "windows of 512x769 every 341x513 pixels"),
        ("--mode slide --crop 1 96", Views((1, 96), (1, 64)), "windows of 1x96 every 1x64 pixels"),
        ("--mode slide --stride 512 256", Views((512, 769), (512, 256)), "windows of 512x769 every 512x256 pixels"),
        ("--scales 0.5 1 1.75 --flip", Views(scales=(0.5, 1.0, 1.75), flip=True), "scales 0.5 1 1.75, mirrored too"),
    ],
)
def test_arguments(text, expected, described):
    assert parsed(text) == expected
    assert expected.described() == described


@pytest.mark.parametrize(("text", "named"), [("--crop 8 8", "--crop"), ("--mode whole --stride 8 8", "--stride")])
def test_windows_without_slide_mode(text, named):
    with pytest.raises(UserError, match=f"{named} .*: has a meaning with --mode slide alone"):
        parsed(text)


def test_a_scale_that_would_fill_the_memory(monkeypatch):
    monkeypatch.setattr(images, "MOST_ENLARGED", 20 * 30)
    photo = np.zeros((10, 15, 3), np.uint8)
    assert Views(scales=(1.0, 2.0)).of([photo])[1].shape == (1, 20, 30, 3)
    with pytest.raises(
        UserError, match=r"--scales 2.1: a photo of 10 x 15 pixels .* becomes 21 x 32; expected at most 600"
    ):
        Views(scales=(1.0, 2.1)).of([photo])
    assert Views(scales=(0.5,)).of([np.zeros((100, 100, 3), np.uint8)])[0].shape == (1, 50, 50, 3)  # only enlarged ones
