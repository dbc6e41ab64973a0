"""What encoded prompts tell of their prompts: which were cut off, and which the model can't tell apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

METADATA = "mixgrpo_encoded_texts"  # the entry in a file of encoded prompts


@dataclass
class EncodedTexts:
    """Of some prompts."""

    digests: dict[str, str] = field(default_factory=dict)  # prompt -> of its encoding: equal ones have equal digests
    cut: dict[str, list[str]] = field(default_factory=dict)  # prompt -> text encoders that read only its beginning
    encoders: list[str] = field(default_factory=list)  # all of them

    def add(self, other: EncodedTexts) -> None:
        self.digests |= other.digests
        self.cut |= other.cut
        self.encoders = list(dict.fromkeys([*self.encoders, *other.encoders]))

    def add_one(self, prompt: str, digest: str, reads_whole: Mapping[str, bool]) -> None:
        """reads_whole: by text encoder, whether it reads more than the prompt's beginning."""
        cut = [encoder for encoder, whole in reads_whole.items() if not whole]
        self.add(EncodedTexts({prompt: digest}, {prompt: cut} if cut else {}, list(reads_whole)))

    def as_metadata(self) -> dict[str, str]:
        return {METADATA: json.dumps(asdict(self))}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> EncodedTexts:
        """Of a file's metadata; nothing is known of files of earlier versions."""
        return cls(**json.loads(metadata.get(METADATA, "{}")))

    def require_distinct(self, going_on: bool = False, maker: str = "The text encoder") -> str:
        """Raises ValueError when two prompts have the same encoding, naming the first two that do.

        going_on: of a run that has been trained, and can't get other prompts: the sentence is the answer then, as "" is
        where there are none. More iterations may bring such prompts. maker: of the encodings.
        """
        first: dict[str, str] = {}
        pairs = []
        for prompt, digest in self.digests.items():
            if digest in first:
                pairs.append((first[digest], prompt))
            first.setdefault(digest, prompt)
        if not pairs:
            return ""
        one, other = pairs[0]
        more = f" There are {len(pairs)} such prompts." if len(pairs) > 1 else ""
        cut = " It reads only their beginnings." if one in self.cut and other in self.cut else ""
        what = f"{maker} makes the same of the prompts '{one}' and '{other}', so the model can't tell them apart."
        if going_on:
            return f"{what}{cut}{more}"
        raise ValueError(f"{what}{cut} Remove one of them, or write it in other words.{more}")

    def notice(self) -> str:
        """A sentence about prompts that are cut off; "" without any."""
        if not self.cut:
            return ""
        counts = Counter(encoder for encoders in self.cut.values() for encoder in encoders)
        lost = sum(len(encoders) == len(self.encoders) for encoders in self.cut.values())
        if lost == len(self.cut):
            rest = "their ends have no effect"
        elif lost:
            rest = f"the ends of {lost} have no effect, the others' reach only other text encoders"
        else:
            rest = "their ends reach only other text encoders"
        return (
            f"{len(self.cut)} of {len(self.digests)} prompts are longer than a text encoder reads "
            f"({', '.join(f'{encoder}: {count}' for encoder, count in counts.items())}): {rest}. "
            f"The first: '{next(iter(self.cut))}'."
        )


def digest(tensors: Sequence[Tensor], about: Iterable[str] = ()) -> str:
    """Of a prompt's encoding: its tensors, and whatever else belongs to it as text."""
    made = hashlib.blake2b(digest_size=16)
    for text in about:
        made.update(text.encode())
    for tensor in tensors:
        made.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()
