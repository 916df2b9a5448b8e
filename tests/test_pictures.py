"""A person's own pictures: whatever their size, colour and ground, the network sees the digit as in its training."""

import numpy as np
import pytest
import torch
from PIL import Image

from lit_l2softmax.data import digits
from lit_l2softmax.data.pictures import read_digit, read_photograph
from lit_l2softmax.errors import DataError


def seven():
    """A digit whose preparation is known: ink 20 pixels high, its centre of mass in the middle."""
    image = np.zeros((28, 28), np.uint8)
    image[4:7, 7:21] = 255
    image[7:24, 17:20] = 255
    return image


def saved(tmp_path, picture, name="digit.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


def variants():
    grey = Image.fromarray(seven())
    dark = Image.fromarray(255 - seven())
    yield "light on dark", grey, "x.png"
    yield "dark on light", dark, "x.png"
    yield "large", dark.resize((560, 560)), "x.png"
    yield "jpeg", dark.resize((280, 280)).convert("RGB"), "x.jpg"
    yield "grey paper", Image.fromarray((200 - 0.6 * seven()).astype(np.uint8)), "x.png"
    yield "wide margins", Image.fromarray(np.pad(255 - seven(), 100, constant_values=255)), "x.png"
    yield "palette", dark.convert("P"), "x.gif"
    yield "one bit", dark.convert("1"), "x.png"
    yield "16 bits", Image.fromarray(seven().astype(np.uint16) * 200), "x.png"
    for colour in ((0, 0, 0), (255, 255, 255), (200, 30, 30)):
        rgba = np.zeros((28, 28, 4), np.uint8)
        rgba[..., :3] = colour
        rgba[..., 3] = seven()
        yield f"transparent, ink {colour}", Image.fromarray(rgba), "x.png"
    red = np.full((28, 28, 3), (250, 240, 220), np.uint8)
    red[seven() > 0] = (160, 20, 20)
    yield "coloured", Image.fromarray(red), "x.png"


@pytest.mark.parametrize(
    ("name", "picture", "file"), list(variants()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kind_of_picture_becomes_the_same_digit(tmp_path, name, picture, file):
    digit = read_digit(saved(tmp_path, picture, file))
    assert digit.shape == (1, 28, 28)
    assert digit.dtype == torch.float32
    expected = read_digit(saved(tmp_path, Image.fromarray(seven()), "plain.png"))
    assert (digit - expected).abs().mean() < 0.03, name


def test_the_digit_is_scaled_into_the_box_with_its_mass_in_the_middle(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.pad(seven(), ((0, 60), (90, 0)))))
    for box in (20, 28):
        digit = read_digit(path, box=box)[0]
        rows = digit.amax(1).nonzero()[:, 0]
        assert rows[-1] - rows[0] + 1 == box
    digit = read_digit(path)[0]
    positions = torch.arange(28.0)
    assert abs(float((digit.sum(1) * positions).sum() / digit.sum()) - 13.5) <= 0.5
    assert abs(float((digit.sum(0) * positions).sum() / digit.sum()) - 13.5) <= 0.5


def test_ink_can_be_told_where_the_border_misleads(tmp_path):
    zero = np.zeros((20, 20), np.uint8)  # dark ink on white paper, cut out so closely that all of its border is ink
    zero[4:-4, 4:-4] = 255
    path = saved(tmp_path, Image.fromarray(zero))
    told, taken = read_digit(path, ink="dark")[0], read_digit(path)[0]
    assert told[13, 13] < 0.1 < 0.9 < told[5, 5]
    assert taken[13, 13] > 0.9
    plain = saved(tmp_path, Image.fromarray(255 - seven()), "plain.png")
    assert (read_digit(plain, ink="dark") - read_digit(plain)).abs().max() < 0.01


def test_the_bundled_digits_survive_the_journey(tmp_path):
    _, _, (images, _) = digits.load_digits()
    for image in images[:20]:
        path = saved(tmp_path, Image.fromarray(255 - image[0].numpy()))
        assert ((read_digit(path, box=28) - image / 255).abs().mean()) < 0.2


def test_a_picture_held_sideways_is_turned_upright(tmp_path):
    upright = Image.fromarray(255 - seven())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's word for a quarter turn
    path = saved(tmp_path, upright.rotate(90, expand=True), "x.png", exif=exif)
    assert torch.equal(read_digit(path), read_digit(saved(tmp_path, upright, "y.png")))


def test_a_thin_line_is_a_digit_too(tmp_path):
    line = np.full((200, 200), 255, np.uint8)
    line[20:180, 100] = 0
    assert read_digit(saved(tmp_path, Image.fromarray(line))).amax() > 0.3


def test_a_blank_scan_of_16_bits_is_named(tmp_path):
    scan = (40_000 + np.random.default_rng(0).integers(-30, 31, (60, 60))).astype(np.uint16)
    with pytest.raises(DataError, match="is blank"):
        read_digit(saved(tmp_path, Image.fromarray(scan)))


def test_a_picture_with_values_that_are_not_numbers_is_named(tmp_path):
    values = np.ones((28, 28), np.float32)
    values[3, 4] = np.nan
    with pytest.raises(DataError, match="values that are not numbers"):
        read_digit(saved(tmp_path, Image.fromarray(values), "x.tiff"))


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize(("side", "level"), [(50, 3), (600, 60)])
def test_a_blank_picture_is_named(tmp_path, value, side, level):
    noise = np.random.default_rng(0).integers(-level, level + 1, (side, side))
    path = saved(tmp_path, Image.fromarray(np.clip(value + noise, 0, 255).astype(np.uint8)))
    with pytest.raises(DataError, match=r"digit.png is blank"):
        read_digit(path)


def test_an_animated_picture_is_named(tmp_path):
    frames = [Image.fromarray(np.roll(seven(), shift)) for shift in range(3)]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"x.gif is animated \(3 frames\)"):
        read_digit(path)


@pytest.mark.parametrize("side", [7_100, 8_000, 20_000])  # over our bound, and over the one at which Pillow refuses
def test_an_enormous_picture_is_named_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "x.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(DataError, match=r"x.png is enormous"):
        read_digit(path)


@pytest.mark.parametrize("content", ["truncated", "text", "empty"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, content):
    path = saved(tmp_path, Image.fromarray(seven()).resize((300, 300)))
    path.write_bytes({"truncated": path.read_bytes()[:300], "text": b"not a picture", "empty": b""}[content])
    with pytest.raises(DataError, match=r"digit.png (is damaged or cannot be read|is not a picture)"):
        read_digit(path)
    with pytest.raises(DataError, match=r"absent.png does not exist"):
        read_digit(tmp_path / "absent.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_digit(tmp_path)


def photograph(width, height):
    """Red above, blue below, and green in the columns outside the middle square."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = pixels[height // 2 :, :, 2] = 200
    spare = (width - height) // 2
    pixels[:, :spare] = pixels[:, width - spare :] = (0, 255, 0)
    return Image.fromarray(pixels)


def test_a_photograph_is_its_middle_square_scaled(tmp_path):
    image = read_photograph(saved(tmp_path, photograph(300, 160)), side=32)
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
    assert (image[1] < 30).all()  # the scaling rings a little
    assert (image[0, :14] > 180).all()
    assert (image[2, 18:] > 180).all()
    assert image[2, :14].max() < 30
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera's word for a quarter turn
    sideways = saved(tmp_path, photograph(300, 160).rotate(90, expand=True), "y.png", exif=turned)
    assert torch.equal(read_photograph(sideways, side=32), image)


def test_a_photograph_may_be_grey_transparent_or_of_16_bits(tmp_path):
    grey = Image.fromarray(np.full((40, 40), 80, np.uint8))
    assert (read_photograph(saved(tmp_path, grey), side=32) == 80).all()
    nothing = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (read_photograph(saved(tmp_path, nothing, "n.png"), side=32) == 255).all()
    deep = Image.fromarray(np.linspace(0, 65_535, 1600).astype(np.uint16).reshape(40, 40))
    image = read_photograph(saved(tmp_path, deep, "d.png"), side=32)
    assert image[0, 0].float().mean() < 10
    assert image[0, -1].float().mean() > 245


def test_a_photograph_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "x.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"x.png is not a picture"):
        read_photograph(tmp_path / "x.png", side=32)
