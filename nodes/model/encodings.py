"""The encoded prompts of a run on disk: written while they are made, read when they are asked for.

A run encodes its prompts once: the text encoder is freed before training, and a resumed run doesn't load it again.
A prompt may be megabytes (4 MB with FLUX's T5), and a run may need ten thousand of them: memory never holds more than
one file's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError

from ...mixgrpo_engine.encoded_texts import EncodedTexts
from ..comfy_types import Clip, Conditioning
from . import conditioning
from .conditioning import Encoded, ItemInputs
from .cut_prompts import CutPrompts

PROMPTS_A_FILE = 64
ITEMS_A_FILE = 8  # with pictures an item may be tens of megabytes


class StoredEncodings:
    """Encoded prompts in a folder of safetensors files, for whoever takes a `conditioning.Encoded`.

    File k holds the prompts from number k * a_file on. A file is there whole or not at all, so what a killed
    or cancelled worker has made is taken by the next one.
    """

    def __init__(
        self,
        folder: Path,
        prompts: Iterable[str],
        beside: StoredEncodings | None = None,
        of_items: bool = False,
    ) -> None:
        """prompts: all that the run needs, the negative one too; a repeated one counts once. What is added to their end
        later leaves the files before it as they are. beside: others that may be asked for here, too.
        of_items: what the items' own nodes have made."""
        self.folder, self.beside, self.of_items = folder, beside, of_items
        self.a_file = ITEMS_A_FILE if of_items else PROMPTS_A_FILE
        self.prompts = list(dict.fromkeys(prompts))
        self._files = {prompt: number // self.a_file for number, prompt in enumerate(self.prompts)}

    def missing(self) -> list[int]:
        """Numbers of the files that have yet to be made: they aren't there, or damaged, or hold other prompts."""
        return [number for number in sorted(set(self._files.values())) if not self._is_made(number)]

    def encode(
        self,
        clip: Clip | None,
        before_each: Callable[[int], None] = lambda done: None,
        text_of: Callable[[str], str] = str,
    ) -> None:
        """Makes the missing files by a text encoder; as make(). text_of: the words of a prompt's name.

        Raises ValueError when there is no CLIP.
        """
        look = CutPrompts(clip)
        self.make(lambda prompts, told: conditioning.encode_prompts(clip, prompts, told, look, text_of), before_each)

    def make(
        self,
        encode: Callable[[Sequence[str], Callable[[int], None]], Encoded],
        before_each: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Makes the missing files. before_each(done) is called before each prompt, with the number of all before it.

        encode(prompts, told) calls told(number of those before) before each of its own. An exception leaves the files
        that are whole.
        """
        self.folder.mkdir(exist_ok=True, parents=True)
        for number in self.missing():
            first = number * self.a_file

            def told(done: int, first: int = first) -> None:
                before_each(first + done)

            conditioning.save(encode(self._prompts_of(number), told), self._path(number))

    def texts(self) -> EncodedTexts:
        """What the encodings tell of their prompts, once they are all made; no tensor is read."""
        texts = EncodedTexts()
        for number in sorted(set(self._files.values())):
            texts.add(conditioning.encoded_texts(self._path(number)))
        return texts

    def latent_shapes(self) -> dict[str, tuple[int, ...]]:
        """Item -> ItemInputs.latent_shape, once they are all made; no tensor is read."""
        if not self.of_items:
            return {}
        files = (self._path(number) for number in sorted(set(self._files.values())))
        return {name: shape for file in files for name, shape in conditioning.latent_shapes(file).items()}

    def __getitem__(self, prompt: str) -> Conditioning:
        if prompt not in self._files and self.beside is not None:
            return self.beside[prompt]
        if prompt not in self._files:
            raise KeyError(conditioning.not_encoded(prompt))
        return conditioning.load(self._path(self._files[prompt]), [prompt])[prompt]

    def of_item(self, prompt: str) -> ItemInputs | None:
        """What an item's own nodes have made; None of a prompt that a text encoder has read."""
        if prompt not in self._files:
            return None
        return conditioning.load(self._path(self._files[prompt]), [prompt]).of_item(prompt)

    def __contains__(self, prompt: str) -> bool:
        return prompt in self._files or (self.beside is not None and prompt in self.beside)

    def __len__(self) -> int:
        return len(self.prompts)

    def _is_made(self, number: int) -> bool:
        try:
            return conditioning.stored_prompts(self._path(number)) == self._prompts_of(number)
        except (OSError, ValueError, SafetensorError):
            return False

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _prompts_of(self, number: int) -> list[str]:
        return self.prompts[number * self.a_file : (number + 1) * self.a_file]
