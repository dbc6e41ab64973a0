"""Items out of ComfyUI's input folder: lists with pictures, folders of captioned pictures, and images of a graph."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..mixgrpo_engine import prompt_files
from ..mixgrpo_engine.items import ENDINGS, IMAGE, PICTURES, Item, Picture, inside
from ..mixgrpo_engine.records.files import written_beside

OF_GRAPHS = "mixgrpo"  # folder for images that came by a wire


def root() -> Path:
    """ComfyUI's input folder: nothing outside it is read."""
    import folder_paths

    return Path(folder_paths.get_input_directory()).resolve()


def of_list(path: Path) -> list[Item]:
    """The items of a .txt, .jsonl or .csv file; pictures are named relative to its folder.

    Raises ValueError with one sentence for a file or picture that can't be used.
    """
    found = []
    for number, row in enumerate(prompt_files.rows(path), 1):
        columns = {name: text for name, text in row.items() if name not in (prompt_files.COLUMN, *PICTURES)}
        try:
            pictures = {name: _picture(path.parent / row[name]) for name in PICTURES if row.get(name)}
        except ValueError as error:
            raise ValueError(f"Item {number} of '{path.name}': {error}") from None
        if row[prompt_files.COLUMN] or pictures:
            found.append(Item(row[prompt_files.COLUMN], pictures, columns))
    return found


def of_folder(path: Path) -> list[Item]:
    """A picture and the text beside it, under the same name with .txt, are an item.

    Raises ValueError for a picture without text, or a folder without pictures.
    """
    found = []
    for picture in sorted(pictures_of(path)):
        caption = picture.with_suffix(".txt")
        if not caption.is_file():
            raise ValueError(f"The picture '{path.name}/{picture.name}' has no prompt: write one into {caption.name}.")
        text = "\n".join(prompt_files.read(inside(root(), caption)))
        found.append(Item(text, {IMAGE: _picture(picture)}))
    if not found:
        raise ValueError(f"The folder '{path.name}' holds no pictures ({', '.join(ENDINGS)}): put some there.")
    return found


def of_images(batches: Iterable[Tensor], prompts: Sequence[str]) -> list[Item]:
    """Images (batch, height, width, channels) in 0..1 with one prompt each, or one for all.

    They are kept in the input folder. Raises ValueError for another number of prompts.
    """
    images = [image for batch in batches for image in batch]
    if len(prompts) not in (1, len(images)):
        raise ValueError(
            f"MixGRPO Prompts got {len(images)} images and {len(prompts)} prompts: give one an image, or one for all."
        )
    texts = list(prompts) * (len(images) if len(prompts) == 1 else 1)
    return [Item(text, {IMAGE: _kept(image)}) for text, image in zip(texts, images, strict=True)]


def pictures_of(folder: Path) -> Iterator[Path]:
    """None in a folder that can't be read."""
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _picture(path: Path) -> Picture:
    found = inside(root(), path)
    if found.suffix.lower() not in ENDINGS or not found.is_file():
        raise ValueError(
            f"there is no picture '{str(path)[-200:]}': give a path beside the list ({', '.join(ENDINGS)})."
        )
    return Picture.of(found)


def _kept(image: Tensor) -> Picture:
    values = (image[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy()
    data = io.BytesIO()
    Image.fromarray(values).save(data, "PNG")
    path = root() / OF_GRAPHS / f"{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.png"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        with written_beside(path) as temporary:
            temporary.write_bytes(data.getvalue())
    return Picture.of(path)
