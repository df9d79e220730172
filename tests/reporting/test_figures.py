"""mdp_jax/reporting/figures.py: what the pixels of the figures hold."""

import cv2
import matplotlib
import numpy as np
import pytest

from mdp_jax.reporting import colors, figures

CLASSES = ["sky", "road", "car"]
PURPLE = (77, 0, 77)  # in no palette, and no shade of black text


def decoded(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def pixels_of(picture, colour):
    return int(np.sum(np.all(picture == np.asarray(colour, np.uint8), axis=-1)))


def white_border(picture):
    return all(np.all(edge == 255) for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]))


def test_curves_draw_every_series_inside_the_picture():
    series = {"scratch": [(0, 3.0), (100, 1.0)], "_pre $trained$": [(0, 2.0), (50, float("nan")), (100, 0.5)]}
    picture = decoded(figures.curves(figures.Panel(series, "loss")))
    assert white_border(picture)
    for colour in colors.palette(4)[[0, 3]]:
        assert pixels_of(picture, colour) > 20


@pytest.mark.parametrize("series", [{}, {"mIoU": []}, {"mIoU": [(2000, 41.0)]}, {"mIoU": [(1, float("nan"))]}])
def test_curves_of_little_or_nothing(series):
    assert decoded(figures.curves(figures.Panel(series, "mIoU (%)"))).shape[0] > 200


def test_the_same_figure_twice_is_the_same_bytes():
    panel = figures.Panel({"a": [(0, 1), (1, 2)]}, "y")
    assert figures.curves(panel) == figures.curves(panel)


def rows_of(picture, colour):
    return np.flatnonzero(np.any(np.all(picture == np.asarray(colour, np.uint8), axis=-1), axis=1))


def test_two_points_are_no_cliff():
    """From 38 to 40 % the line rises by a twentieth of what is below it."""
    picture = decoded(figures.curves(figures.Panel({"": [(0, 38.0), (1, 40.0)]}, "mIoU (%)")))
    rows = rows_of(picture, colors.palette(1)[0])
    assert np.ptp(rows) < 0.2 * picture.shape[0]


def test_panels_share_their_steps():
    """A value at step 30 stands below the other one, however far the lines of the panels go."""
    blue = colors.palette(1)[0]
    panels = [figures.Panel({"": [(step, 1.0)]}, "loss") for step in (30, 30, 90)]
    picture = decoded(figures.curves(*panels, last=100))
    rows = rows_of(picture, blue)
    breaks = np.flatnonzero(np.diff(rows) > 100)
    assert len(breaks) == 2
    places = [np.mean(np.argwhere(np.all(picture[part] == blue, axis=-1))[:, 1]) for part in np.split(rows, breaks + 1)]
    assert abs(places[0] - places[1]) < 1 < places[2] - places[1]


def predicted(image, target, **predictions):
    return figures.Predicted("p0.jpg", image, target, predictions)


def test_prediction_grid_shows_photo_target_predictions_and_errors():
    image = np.tile(np.array(PURPLE, np.uint8), (40, 60, 1))
    target = np.zeros((80, 120), np.int16)  # of another size than the photo
    target[:, 60:] = -1
    half = np.full((80, 120), 2, np.int32)
    half[40:] = 0  # right in half of what is labelled
    row = predicted(image, target, scratch=np.full((80, 120), 1), pretrained=half)
    picture = decoded(figures.prediction_grid([row], CLASSES, scores={"scratch": 12.0, "pretrained": None}))
    sky, road, car = (pixels_of(picture, colour) for colour in colors.palette(3))
    photo = pixels_of(picture, PURPLE)
    width = round((photo * 60 / 40) ** 0.5)
    height = round(width * 40 / 60)
    assert photo == width * height and height >= 512  # 256 of a page, on both sides sharp
    swatch = 2000  # of the legend, and edges
    assert abs(road - photo) < swatch and abs(car - photo / 2) < swatch and abs(sky - photo) < swatch
    assert abs(pixels_of(picture, colors.WRONG) - 0.75 * photo) < swatch  # all of one, and half of the other
    assert abs(pixels_of(picture, colors.RIGHT) - 0.25 * photo) < swatch
    assert pixels_of(picture, (215, 215, 215)) > 3 * photo / 8  # stripes in the target and in both error maps


def test_prediction_grid_in_the_colours_of_a_dataset():
    image, target = np.full((40, 60, 3), 255, np.uint8), np.zeros((40, 60), np.int16)
    own = np.array([PURPLE, (1, 2, 3), (250, 170, 30)], np.uint8)
    row = predicted(image, target, network=np.full((40, 60), 2))
    picture = decoded(figures.prediction_grid([row], CLASSES, own))
    assert pixels_of(picture, PURPLE) > 1000 and pixels_of(picture, (250, 170, 30)) > 1000
    assert not any(pixels_of(picture, colour) for colour in colors.palette(3))


def test_prediction_grid_of_photos_of_several_shapes():
    rows = [
        predicted(np.zeros((h, w, 3), np.uint8), np.zeros((h, w), np.int16), net=np.zeros((h, w), np.int32))
        for h, w in [(40, 60), (60, 40), (1, 90)]
    ]
    assert white_border(decoded(figures.prediction_grid(rows, CLASSES)))


def test_the_legend_has_the_share_of_all_pixels_whatever_the_size_of_each_photo(monkeypatch):
    """A photo of 10 pixels of road, of which 2 are ignored, and one of 30 pixels of sky."""
    said, genuine = [], figures.legend
    monkeypatch.setattr(figures, "legend", lambda entries, *rest: said.extend(entries) or genuine(entries, *rest))
    small, large = np.full((2, 5), 1), np.zeros((5, 6), int)
    small[0, :2] = -1
    rows = [
        figures.Predicted(name, np.zeros((*label.shape, 3), np.uint8), label, {"a": label})
        for name, label in (("small", small), ("large", large))
    ]
    figures.prediction_grid(rows, CLASSES)
    assert [text for text, _ in said][:3] == ["sky 75 %", "road 20 %", "ignored 5 %"]


def test_scores_of_a_photo_by_hand():
    target, prediction = np.array([[0, 0, 1, -1]]), np.array([[0, 2, 1, 1]])
    miou, right = figures.photo_scores(target, prediction)  # IoU 1/2 of 0, 1 of 1, 0 of 2
    assert miou == pytest.approx(50.0) and right == pytest.approx(200 / 3)
    assert all(np.isnan(figures.photo_scores(np.full((2, 2), -1), np.zeros((2, 2)))))


def test_batch_preview_lays_views_below_each_other():
    shades = np.array([(60, 0, 60), (80, 0, 80), (100, 0, 100), (140, 0, 140)], np.uint8)
    photos = np.tile(shades[:, None, None], (1, 32, 32, 1))
    labels = np.stack([np.full((32, 32), value, np.int16) for value in (0, 1, 2, -1)])
    rows = {"query": photos, "label": labels, "mixed": photos // 2}
    picture = decoded(figures.batch_preview(rows, [f"set {i}\nplain" for i in range(4)], CLASSES))
    tops = [np.argmax(np.any(np.all(picture == shade, axis=-1), axis=1)) for shade in (shades[0], shades[0] // 2)]
    lefts = [np.argmax(np.any(np.all(picture == shade, axis=-1), axis=0)) for shade in shades]
    assert 0 < tops[0] < tops[1] and lefts == sorted(set(lefts))
    assert pixels_of(picture, shades[0]) == pixels_of(picture, shades[3]) >= 120 * 120


def similarity_colour(share):
    return matplotlib.colormaps["viridis"](share, bytes=True)[:3]


def test_heatmap_of_four_prototypes_by_hand():
    # Two equal, one opposite, one never seen: cosines 1, -1 and grey; lengths do not matter; the diagonal is white.
    vectors = np.array([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    datasets = [("town", ["car", "road"]), ("harbor", ["boat", "quay"])]
    picture = decoded(figures.similarity_heatmap(vectors, np.array([5, 1, 2, 0]), datasets))
    one, minus_one, grey = (
        pixels_of(picture, colour) for colour in (similarity_colour(1.0), similarity_colour(0.0), (204, 204, 204))
    )
    cell = grey / 7
    assert cell > 50 * 50
    assert abs(one - 2 * cell) < cell and abs(minus_one - 4 * cell) < cell
    assert white_border(picture)


def test_the_scale_of_a_heatmap_fits_its_values():
    assert figures.scale_of(np.array([[1, 0.42], [0.97, 1]])) == (0.4, 1.0)
    assert figures.scale_of(np.array([[1, 0.5], [0.5, 1]])) == pytest.approx((0.4, 0.5))  # never of no width
    assert figures.scale_of(np.array([[1.0]])) == (0.0, 1.0)
    assert figures.scale_of(np.full((2, 2), np.nan)) == (0.0, 1.0)


def test_similar_classes_stand_together_and_unseen_ones_last():
    vectors = np.array([[1, 0], [0, 1], [0, 0], [0.99, 0.1], [0.1, 0.99]])
    order = figures.clustered(figures.cosines_of(vectors, np.array([1, 1, 0, 1, 1]))).tolist()
    assert order[-1] == 2
    places = [order.index(number) for number in (0, 3, 1, 4)]
    assert abs(places[0] - places[1]) == 1 == abs(places[2] - places[3])


@pytest.mark.parametrize("sizes", [[1], [2, 3], [23, 8, 59], [21, 150]])
def test_heatmap_of_few_and_many_classes(sizes):
    names = [(f"dataset {number}", [f"class_{i}" for i in range(size)]) for number, size in enumerate(sizes)]
    vectors = np.random.default_rng(0).normal(size=(sum(sizes), 16))
    assert white_border(decoded(figures.similarity_heatmap(vectors, np.ones(sum(sizes), bool), names)))
