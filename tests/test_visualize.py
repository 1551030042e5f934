"""Do the pictures show the colours that they should, for any image?"""

import numpy as np
import pytest

from segtrain.visualize import (
    BAR,
    VOID,
    WIDTH,
    Row,
    colour,
    default_palette,
    draw_grid,
    draw_samples,
    error_picture,
    overlay,
    palette_of,
)

IGNORED = 255
PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 100, 50]], np.uint8)


def test_the_default_palette_begins_as_pascal_vocs() -> None:
    vocs = [
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)),
        *((128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128)),
        *((64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)),
    ]
    assert default_palette(21).tolist() == [list(colour) for colour in vocs]


def test_default_colours_differ_for_up_to_256_classes() -> None:
    assert len(np.unique(default_palette(256), axis=0)) == 256


@pytest.mark.parametrize(("ignore_index", "dtype"), [(255, np.uint8), (-1, np.int32), (3, np.uint8)])
def test_classes_get_their_colours_and_void_is_grey(ignore_index: int, dtype: type[np.integer]) -> None:
    picture = colour(np.array([[0, 1], [2, ignore_index]], dtype), PALETTE, ignore_index)
    assert picture.tolist() == [[[0, 0, 0], [200, 0, 0]], [[0, 100, 50], list(VOID)]]


def test_an_overlay_is_halfway_between_image_and_colour_and_clear_where_the_class_is_black() -> None:
    image = np.array([[[100, 100, 100], [100, 100, 100]]], np.uint8)
    mask = np.array([[0, 1]], np.uint8)
    assert overlay(image, mask, PALETTE).tolist() == [[[100, 100, 100], [150, 50, 50]]]
    assert overlay(image, mask, PALETTE, opacity=1.0).tolist() == [[[100, 100, 100], [200, 0, 0]]]
    assert overlay(image, mask, PALETTE, opacity=0.0).tolist() == image.tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_number_of_channels_can_be_drawn_over(channels: int) -> None:
    image = np.full((2, 2, channels), 90, np.uint8)
    picture = overlay(image, np.zeros((2, 2), np.uint8), PALETTE)
    assert picture.tolist() == np.full((2, 2, 3), 90).tolist()


def test_errors_are_red_and_void_is_blue_and_never_an_error() -> None:
    truth, prediction = np.array([[0, 1, IGNORED]]), np.array([[0, 2, 2]])
    right, wrong, void = error_picture(Row(np.full((1, 3, 3), 90, np.uint8), truth, prediction), IGNORED)[0]
    assert right.tolist() == [70, 70, 70]
    assert wrong[0] > 2 * max(wrong[1:])
    assert void[2] > 2 * max(void[:2])


@pytest.mark.parametrize("size", [(256, 256), (97, 131), (360, 480), (3, 300), (120, 30), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_four_pictures_a_row_and_shows_every_class(size: tuple[int, int], channels: int) -> None:
    image = np.full((*size, channels), 77, np.uint8)
    truth = np.ones(size, np.uint8)
    names = ["background", "a name", "another class with a long name"]
    grid = draw_grid([Row(image, truth, truth)] * 2, palette=PALETTE, class_names=names, ignore_index=IGNORED)
    assert grid.dtype == np.uint8
    assert grid.shape[1:] == (4 * WIDTH, 3)
    row_height = max(1, round(size[0] * WIDTH / size[1]))
    assert grid.shape[0] >= 2 * row_height
    assert all((grid == shown).all(axis=2).any() for shown in ((77, 77, 77), (200, 0, 0), (0, 100, 50)))


def test_pictures_of_a_grid_are_image_truth_prediction_and_error_from_left_to_right() -> None:
    image = np.full((WIDTH, WIDTH, 3), 33, np.uint8)
    row = Row(image, np.full((WIDTH, WIDTH), 1), np.full((WIDTH, WIDTH), 2))
    grid = draw_grid([row], palette=PALETTE, class_names=["a", "b", "c"], ignore_index=IGNORED)
    middle = [grid[WIDTH // 2, column * WIDTH + WIDTH // 2].tolist() for column in range(4)]
    assert middle[:3] == [[33, 33, 33], [200, 0, 0], [0, 100, 50]]
    assert middle[3][0] > 200


def test_a_legend_of_many_classes_takes_several_lines() -> None:
    row = Row(np.zeros((4, 256, 3), np.uint8), np.zeros((4, 256), int), np.zeros((4, 256), int))

    def height(count: int) -> int:
        names = [f"class number {i}" for i in range(count)]
        return len(draw_grid([row], palette=default_palette(count), class_names=names, ignore_index=IGNORED))

    assert height(150) > height(5) + 100


def test_void_is_white_in_an_overlay_that_knows_it() -> None:
    image = np.array([[[100, 100, 100]] * 3], np.uint8)
    mask = np.array([[0, 1, IGNORED]], np.uint8)
    picture = overlay(image, mask, PALETTE, ignore_index=IGNORED)
    assert picture.tolist() == [[[100, 100, 100], [150, 50, 50], [178, 178, 178]]]  # 177.5 to the even number
    assert overlay(image, mask, PALETTE, ignore_index=IGNORED, opacity=1.0)[0, 2].tolist() == list(VOID)


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (4, 1), (5, 2)])
@pytest.mark.parametrize("ignore_index", [IGNORED, -1])
def test_samples_are_drawn_in_lines_of_four_above_the_legend(count: int, lines: int, ignore_index: int) -> None:
    masks = [np.full((8, 8), label % 3, np.int32) for label in range(count - 1)] + [np.full((8, 8), ignore_index)]
    images = [np.full((8, 8, 3), 90, np.uint8)] * count
    picture = draw_samples(images, masks, palette=PALETTE, class_names=["a", "b", "c"], ignore_index=ignore_index)
    assert picture.dtype == np.uint8
    assert picture.shape == (lines * WIDTH + BAR + 4, 4 * WIDTH, 3)
    centres = [picture[WIDTH * (n // 4) + WIDTH // 2, WIDTH * (n % 4) + WIDTH // 2].tolist() for n in range(4 * lines)]
    shown = [[90, 90, 90], [145, 45, 45], [45, 95, 70], [90, 90, 90]][: count - 1]
    assert centres == [*shown, [172, 172, 172], *[[255, 255, 255]] * (4 * lines - count)]
    for rgb in (*PALETTE.tolist(), list(VOID)):
        assert (picture[-BAR - 4 :] == rgb).all(axis=2).any()


def test_a_line_of_samples_is_as_high_as_its_highest() -> None:
    sizes = [(8, 8), (16, 8), (4, 8)]
    images = [np.full((*size, channels), 0.5, np.float32) for size, channels in zip(sizes, (1, 3, 5), strict=True)]
    masks = [np.zeros(size, np.uint8) for size in sizes]
    picture = draw_samples(images, masks, palette=PALETTE, class_names=["a", "b", "c"], ignore_index=IGNORED)
    assert picture.shape[0] == 2 * WIDTH + BAR + 4
    below = [(picture[WIDTH * 3 // 2, WIDTH * column + WIDTH // 2] == 255).all() for column in range(3)]
    assert below == [True, False, True]


def test_a_palette_is_the_data_sets_or_the_default() -> None:
    assert palette_of([[1, 2, 3], [4, 5, 6]], 2).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert palette_of(None, 5).tolist() == default_palette(5).tolist()
