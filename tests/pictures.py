"""Pictures that tests draw."""

from PIL import Image, ImageDraw, ImageFont


def writing(text, size=(480, 160)):
    """Black letters on white, large enough to be read."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((size[0] // 2, size[1] // 2), text, "black", ImageFont.load_default(56), anchor="mm")
    return image
