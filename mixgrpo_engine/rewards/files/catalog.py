"""The published weights that the scorers were made for: where they are, how large, under which licence.

Sizes and hashes are public knowledge about the pinned revision of each repository. Where no hash is known, `sha256` is
empty: a download is then checked against the hash that the hub itself states for the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownFile:
    """One file on the Hugging Face hub."""

    # What it is called on the disk; "model.safetensors" alone would say nothing there.
    name: str
    # "owner/name" on the hub, the file's path in it, and the commit that is meant.
    repo: str
    path: str
    revision: str
    # Bytes; approximate where sha256 is empty.
    size: int
    licence: str
    # Of the whole file, lower-case hexadecimal; "" when it isn't publicly known.
    sha256: str = ""
    # Other repositories that hold the same file: looked for in the hub's cache, never downloaded from.
    twins: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """The repository's page, for a person."""
        return f"https://huggingface.co/{self.repo}"

    @property
    def choice(self) -> str:
        """What to take, for the end of a sentence."""
        return f"{Path(self.path).name} of {self.page}"

    @property
    def terms(self) -> str:
        """Size and licence, such as "2.0 GB, Apache-2.0"."""
        return f"{size_text(self.size)}, {self.licence}"


# Human Preference Score v2.1 (arXiv 2306.09341), an OpenCLIP ViT-H/14 in half precision.
HPS = KnownFile(
    name="HPS_v2.1_compressed.pt",
    repo="xswu/HPSv2",
    path="HPS_v2.1_compressed.pt",
    revision="697403c78157020a1ae59d23f111aa58ced35b0a",
    size=1_972_490_005,
    licence="Apache-2.0",
    sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
)
# PickScore v1 (arXiv 2305.01569), a CLIP ViT-H/14 in transformers' layout.
PICK_SCORE = KnownFile(
    name="PickScore_v1.safetensors",
    repo="yuvalkirstain/PickScore_v1",
    path="model.safetensors",
    revision="a4e4367c6dfa7288a00c550414478f865b875800",
    size=3_940_000_000,
    licence="MIT",
)
# ImageReward v1.0 (arXiv 2304.05977); the repository has moved from THUDM to zai-org, and both names lead there.
IMAGE_REWARD = KnownFile(
    name="ImageReward.pt",
    repo="zai-org/ImageReward",
    path="ImageReward.pt",
    revision="5736be03b2652728fb87788c9797b0570450ab72",
    size=1_790_000_000,
    licence="Apache-2.0",
    twins=("THUDM/ImageReward",),
)
# The words that ImageReward's text encoder knows.
BERT_VOCAB = KnownFile(
    name="bert-base-uncased-vocab.txt",
    repo="google-bert/bert-base-uncased",
    path="vocab.txt",
    revision="86b5e0934494bd15c9632b12f734a8a67f723594",
    size=231_508,
    licence="Apache-2.0",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    twins=("bert-base-uncased",),
)
# CLIP ViT-L/14 (arXiv 2103.00020): CLIPScore, and the eyes of the aesthetic predictor.
CLIP_L = KnownFile(
    name="clip-vit-large-patch14.safetensors",
    repo="openai/clip-vit-large-patch14",
    path="model.safetensors",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    size=1_710_540_580,
    licence="MIT",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)
# The head of LAION's improved aesthetic predictor (github.com/christophschuhmann/improved-aesthetic-predictor); this
# repository is a copy of it, which the hash makes good.
AESTHETIC = KnownFile(
    name="sac+logos+ava1-l14-linearMSE.pth",
    repo="camenduru/improved-aesthetic-predictor",
    path="sac+logos+ava1-l14-linearMSE.pth",
    revision="main",
    size=3_714_759,
    licence="Apache-2.0",
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
)

FILES = (HPS, PICK_SCORE, IMAGE_REWARD, BERT_VOCAB, CLIP_L, AESTHETIC)


def by_name(name: str) -> KnownFile:
    """The known file of this name. Raises ValueError with one sentence for any other."""
    for file in FILES:
        if file.name == name:
            return file
    raise ValueError(f"'{name}' isn't a known file: choose one of {', '.join(file.name for file in FILES)}.")


def size_text(size: int) -> str:
    """Bytes for a person, in the decimal units of the hub: "2.0 GB", "232 kB"."""
    for unit, scale, digits in (("GB", 10**9, 1), ("MB", 10**6, 1), ("kB", 10**3, 0)):
        if size >= scale:
            return f"{size / scale:.{digits}f} {unit}"
    return f"{size} bytes"
