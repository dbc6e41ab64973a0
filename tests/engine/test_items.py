"""Prompts with pictures: names, masks, what rewards get, and pictures that aren't what they were."""

import pytest
import torch
from PIL import Image

from mixgrpo_engine.items import Item, Picture, named
from mixgrpo_engine.prompts import PromptSet, split


@pytest.fixture
def picture(tmp_path):
    """`picture(name, colour)` is a file of 4 x 2 pixels."""

    def make(name, colour=(255, 0, 51), mode="RGB"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new(mode, (4, 2), colour).save(tmp_path / name)
        return Picture.of(tmp_path / name)

    return make


def test_names_tell_items_of_one_prompt_apart_and_equal_ones_count_once(picture):
    one, other = picture("a.png"), picture("b.png", (0, 0, 0))
    elsewhere = picture("sub/a.png", (9, 9, 9))
    again = picture("sub/copy.png")  # the same content as a.png
    items = [
        *(Item("blue", {"image": each}) for each in (one, other, elsewhere, one, again)),
        Item("blue"),
        Item("blue", columns={"id": "2"}),  # a repeated prompt without pictures
        Item("red", {"image": one, "mask": other}),
        Item("", {"image": one}),
    ]
    names = list(named(items))
    assert names == ["blue [a.png]", "blue [b.png]", "blue [a.png] #2", "blue", "red [a.png, b.png]", "[a.png]"]
    assert split(names, 2, items=named(items)).items.keys() == set(names)


def test_pixels_are_upright_channels_in_0_to_1_and_the_mask_is_what_may_change(picture):
    item = Item("x", {"image": picture("a.png"), "mask": picture("m.png", 51, "L")})
    assert item.pixels("image").shape == (2, 4, 3)
    assert item.pixels("image")[0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert item.pixels("mask").shape == (2, 4) and float(item.pixels("mask").mean()) == pytest.approx(0.2)
    assert item.pixels("image_2") is None and not item.has("image_2")
    transparent = Item("x", {"image": picture("t.png", (9, 9, 9, 204), "RGBA")})
    assert transparent.has("mask") and float(transparent.pixels("mask").mean()) == pytest.approx(0.2)
    assert Item("x", {"image": picture("o.png")}).pixels("mask") is None


def test_grey_of_16_bits_is_scaled_to_8(tmp_path):
    grey = Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 20000, 40000, 65535)):
        grey.putpixel((x, 0), value)
    grey.save(tmp_path / "g.png")
    item = Item("x", dict.fromkeys(("image", "mask"), Picture.of(tmp_path / "g.png")))
    expected = pytest.approx([0, 20000 / 65535, 40000 / 65535, 1], abs=0.5 / 255)
    assert item.pixels("mask")[0].tolist() == expected
    assert [item.pixels("image")[0, :, channel].tolist() for channel in range(3)] == [expected] * 3


def test_a_transparent_colour_is_a_mask_too(tmp_path):
    of_palette = Image.new("P", (4, 1), 1)
    of_palette.putpalette([255, 0, 0, 0, 0, 255])
    of_palette.putpixel((0, 0), 0)
    of_palette.save(tmp_path / "p.png", transparency=b"\x33\xff")
    Image.frombytes("L", (4, 1), bytes((9, 8, 8, 8))).save(tmp_path / "l.png", transparency=9)
    for name, first in (("p.png", 0.8), ("l.png", 1.0)):
        item = Item("x", {"image": Picture.of(tmp_path / name)})
        assert item.has("mask") and item.pixels("mask")[0].tolist() == pytest.approx([first, 0, 0, 0])
    assert Item("x", {"image": Picture.of(tmp_path / "p.png")}).pixels("image")[0, 0].tolist() == [1, 0, 0]


def test_an_image_with_its_own_mask_is_read_once(picture, monkeypatch):
    read, reads = Picture.read, []
    monkeypatch.setattr(Picture, "read", lambda self: reads.append(self) or read(self))
    item = Item("x", {"image": picture("t.png", (9, 9, 9, 204), "RGBA")})
    assert item.references().images.keys() == {"image", "mask"} and len(reads) == 1


def test_a_photo_that_lies_on_its_side_is_turned(tmp_path):
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "p.jpg", exif=exif)
    assert Item("x", {"image": Picture.of(tmp_path / "p.jpg")}).pixels("image").shape == (4, 2, 3)


def test_rewards_get_words_pictures_and_columns(picture):
    items = named([Item("blue", {"image": picture("a.png")}, {"wish": "sky"}), Item("red")])
    prompts = PromptSet(tuple(items), items={name: item for name, item in items.items() if item.pictures})
    assert [prompts.text(name) for name in prompts.train] == ["blue", "red"]
    blue, again, red = prompts.references(["blue [a.png]", "blue [a.png]", "red"])
    assert blue is again and blue.columns == {"wish": "sky"} and blue.images.keys() == {"image"}
    assert (red.images, red.columns) == ({}, {})
    assert PromptSet(("red",)).references(["red"]) is None


def test_a_reward_without_the_picture_that_it_needs_is_refused_before_anything_is_made(picture):
    class Compares:
        name = "compares"
        needed_references = ("image", "mask")

    masked = Item("a", {"image": picture("a.png"), "mask": picture("m.png", 51, "L")})
    prompts = named([masked, Item("b", {"image": picture("b.png")})])
    with pytest.raises(ValueError, match="'compares' .* 'mask'.*an item has none"):
        PromptSet(tuple(prompts), items=prompts).check_rewards([Compares()])
    PromptSet(tuple(prompts)[:1], items=prompts).check_rewards([Compares()])
    with pytest.raises(ValueError, match="there are prompts only"):
        PromptSet(("a",)).check_rewards([Compares()])


def test_plain_data_brings_the_items_back_from_below_the_same_folder_only(picture, tmp_path):
    items = named([Item("blue", {"image": picture("sub/a.png")}, {"wish": "sky"})])
    prompts = PromptSet(("blue [a.png]",), ("red",), items)
    made = prompts.as_dict(tmp_path)
    assert made["held_out"] == ["red"]
    assert made["train"][0]["pictures"]["image"]["file"] == "sub/a.png"
    assert PromptSet.of_dict(made, tmp_path) == prompts
    for path in ("../a.png", "/etc/passwd", "sub/../../a.png", "a\0b"):
        made["train"][0]["pictures"]["image"]["file"] = path
        with pytest.raises(ValueError, match="lies outside"):
            PromptSet.of_dict(made, tmp_path)


def test_a_picture_that_changed_is_gone_or_is_none_is_one_sentence(picture, tmp_path):
    item = Item("x", {"image": picture("a.png")})
    picture("a.png", (1, 2, 3))
    with pytest.raises(ValueError, match="has changed since it was chosen"):
        item.pixels("image")
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match="can't be read: put it back"):
        item.references()
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="'a.png' can't be read as a picture"):
        Picture.of(tmp_path / "a.png")


def test_mask_and_image_are_floats_that_torch_may_train_with(picture):
    assert Item("x", {"image": picture("a.png")}).pixels("image").dtype == torch.float32
