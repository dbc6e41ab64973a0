"""Items: prompts with pictures and columns of their own, as editing, inpainting and image-to-video have them."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

if TYPE_CHECKING:
    from .rewards.references import References

IMAGE, SECOND, MASK = PICTURES = ("image", "image_2", "mask")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Picture:
    """A file, and the sha256 of what it held when it was chosen."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Picture:
        """Raises ValueError for a file that is no picture."""
        found = path.stat()
        return cls(path, _sha256(path, found.st_mtime_ns, found.st_size))

    def read(self) -> Image.Image:
        """Upright, 8 bits a channel, transparency as one of them.

        Raises ValueError when the file is gone, changed, or no picture.
        """
        try:
            data = self.path.read_bytes()
        except OSError:
            raise ValueError(f"The picture {self.path} can't be read: put it back where it was.") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ValueError(
                f"The picture {self.path} has changed since it was chosen: restore it, or queue the graph again, which "
                "makes another run."
            )
        image = _opened(data, self.path)
        try:
            image.load()
            return _in_channels(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(self.path, error) from None


@dataclass(frozen=True)
class Item:
    prompt: str
    pictures: Mapping[str, Picture] = field(default_factory=dict)  # by names of PICTURES
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The prompt, and the files' names if there are any."""
        files = ", ".join(picture.path.name for picture in self.pictures.values())
        return f"{self.prompt} [{files}]".strip() if files else self.prompt

    def pixels(self, name: str, read: Callable[[Picture], Image.Image] = Picture.read) -> Tensor | None:
        """float32 (height, width, 3) in 0..1, of a mask (height, width): 1 may change. None where there is none.

        Without a file of its own the mask is where the image is transparent, as in ComfyUI's LoadImage; colours may be
        transparent, too.
        """
        if name in self.pictures:
            return _values(read(self.pictures[name]).convert("L" if name == MASK else "RGB"))
        if name == MASK and IMAGE in self.pictures:
            image = read(self.pictures[IMAGE])
            if "A" in image.getbands():
                return 1 - _values(image.getchannel("A"))
        return None

    def all_pixels(self) -> dict[str, Tensor | None]:
        """pixels() of each of PICTURES. A file of two of them is read once."""
        read = cache(Picture.read)
        return {name: self.pixels(name, read) for name in PICTURES}

    def has(self, name: str) -> bool:
        """Whether pixels() would give something, from the file's head."""
        if name in self.pictures or name != MASK or IMAGE not in self.pictures:
            return name in self.pictures
        with Image.open(self.pictures[IMAGE].path) as image:
            return "A" in image.getbands() or _has_transparent_colours(image)

    def references(self) -> References:
        """For rewards that look at what an image was made from."""
        from .rewards.references import References

        found = {name: pixels for name, pixels in self.all_pixels().items() if pixels is not None}
        return References(found, self.columns)

    def as_dict(self, root: Path) -> dict[str, Any]:
        """Plain data; root: the folder below which the pictures are."""
        pictures = {
            name: {"file": picture.path.relative_to(root).as_posix(), "sha256": picture.sha256}
            for name, picture in self.pictures.items()
        }
        return {"prompt": self.prompt, "pictures": pictures, "columns": dict(self.columns)}

    @classmethod
    def of_dict(cls, made: Mapping[str, Any], root: Path) -> Item:
        """The reverse. Raises ValueError for a picture elsewhere than below root."""
        pictures = {
            name: Picture(inside(root, root / told["file"]), told["sha256"]) for name, told in made["pictures"].items()
        }
        return cls(made["prompt"], pictures, made["columns"])


def named(items: Iterable[Item]) -> dict[str, Item]:
    """The items by names that tell them apart and that people can read.

    Those of one prompt and the same pictures count once, as repeated prompts do: the first one.
    """
    found: dict[str, Item] = {}
    known: set[tuple] = set()
    numbers: Counter[str] = Counter()
    for item in items:
        pictures = tuple((name, picture.sha256) for name, picture in item.pictures.items())
        if (item.prompt, pictures) in known:
            continue
        known.add((item.prompt, pictures))
        name = item.label
        while name in found:
            numbers[item.label] += 1
            name = f"{item.label} #{numbers[item.label] + 1}"
        found[name] = item
    return found


def inside(root: Path, path: Path) -> Path:
    """The path without links and "..". Raises ValueError unless it lies below root."""
    try:
        found = path.resolve()
        if found.is_relative_to(root.resolve()):
            return found
    except (OSError, ValueError, RuntimeError):  # what can't be a path
        pass
    raise ValueError(f"The picture '{str(path)[-200:]}' lies outside ComfyUI's input folder: put it there.")


def _opened(data: bytes, path: Path) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def _in_channels(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits, which convert() would clip at 255
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    return image.convert("RGBA") if _has_transparent_colours(image) else image


def _has_transparent_colours(image: Image.Image) -> bool:
    """Instead of a channel for it, as a palette may have them. Pillow makes no channel of those of 16-bit grey."""
    return "transparency" in image.info and not image.mode.startswith("I")


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"'{path.name}' can't be read as a picture ({error}): replace it.")


@lru_cache(maxsize=2**17)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    """Of a file that begins as a picture does; looked at again when it has changed."""
    data = path.read_bytes()
    _opened(data, path)
    return hashlib.sha256(data).hexdigest()


def _values(image: Image.Image) -> Tensor:
    """(height, width, channels) in 0..1, of a single channel (height, width)."""
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, -1).squeeze(-1).float() / 255
