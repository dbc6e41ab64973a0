"""The encoded prompts of a run on disk: made once, so that text encoders and transformer never share the memory.

A prompt may be megabytes (4 MB with FLUX's T5), and a run may have ten thousand of them: they are read when asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..encoded_texts import EncodedTexts, digest
from ..records import tensor_files

PROMPTS_A_FILE = 64
_PROMPTS, _SOURCE = "mixgrpo_prompts", "mixgrpo_source"  # entries of a file's metadata


class EncodedPrompts:
    """Encoded prompts in a folder of safetensors files: number k holds the prompts from k * PROMPTS_A_FILE on.

    A file is there whole or not at all, so what a killed run has made is taken by the next one.
    """

    def __init__(self, folder: Path, prompts: Iterable[str], source: str) -> None:
        """prompts: all that the run needs, the negative one too; a repeated one counts once.

        source: what else an encoding depends on, such as the model's path; files of another source are made anew.
        """
        self.folder, self.source = folder, source
        self.prompts = list(dict.fromkeys(prompts))
        self._places = {prompt: divmod(place, PROMPTS_A_FILE) for place, prompt in enumerate(self.prompts)}

    def missing(self) -> list[int]:
        """Numbers of the files that aren't there, or are damaged, or hold something else."""
        count = -(-len(self.prompts) // PROMPTS_A_FILE)
        return [number for number in range(count) if not self._is_made(number)]

    def make(
        self,
        number: int,
        encode: Callable[[Sequence[str]], dict[str, Tensor]],
        reads_whole: Callable[[str], dict[str, bool]] = lambda prompt: {},
    ) -> None:
        """Makes one file. encode(prompts) gives tensors by name, one row a prompt.

        reads_whole(prompt): by text encoder, whether it reads more than the prompt's beginning.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        prompts = self.prompts_of(number)
        tensors, texts = encode(prompts), EncodedTexts()
        for row, prompt in enumerate(prompts):
            texts.add_one(prompt, digest([tensor[row] for tensor in tensors.values()]), reads_whole(prompt))
        about = {_PROMPTS: json.dumps(prompts), _SOURCE: self.source, **texts.as_metadata()}
        tensor_files.save(tensors, self._path(number), about)

    def texts(self) -> EncodedTexts:
        """What the encodings tell of their prompts, once they are all made; no tensor is read."""
        texts = EncodedTexts()
        for number in range(-(-len(self.prompts) // PROMPTS_A_FILE)):
            with safe_open(self._path(number), framework="pt") as file:
                texts.add(EncodedTexts.of_metadata(file.metadata() or {}))
        return texts

    def prompts_of(self, number: int) -> list[str]:
        return self.prompts[number * PROMPTS_A_FILE : (number + 1) * PROMPTS_A_FILE]

    def __getitem__(self, prompt: str) -> dict[str, Tensor]:
        """The prompt's tensors by name, without the batch dimension, on the CPU."""
        if prompt not in self._places:
            raise KeyError(f"The prompt '{prompt}' was not encoded: give all prompts of a run before it starts.")
        number, row = self._places[prompt]
        with safe_open(self._path(number), framework="pt") as file:
            return {name: file.get_slice(name)[row] for name in file.keys()}  # noqa: SIM118 (it isn't a dict)

    def _is_made(self, number: int) -> bool:
        try:
            with safe_open(self._path(number), framework="pt") as file:
                about = file.metadata() or {}
        except (OSError, SafetensorError):
            return False
        return about.get(_SOURCE) == self.source and about.get(_PROMPTS) == json.dumps(self.prompts_of(number))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"
