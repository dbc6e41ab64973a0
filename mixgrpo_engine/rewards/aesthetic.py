"""LAION's improved aesthetic predictor: how much people like a picture, whatever it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from .files import catalog, kinds, weight_files
from .networks import clip_model, image_input
from .networks.model_reward import ModelOptions, ModelReward, Residence

# Linear layers, one after the other; there is dropout between them, but no activation.
_LAYERS = (0, 2, 4, 6, 7)


class AestheticReward(ModelReward[nn.ModuleDict]):
    """The rating that people would give, 1 to 10: 4 to 7 on pictures. Prompts are ignored.

    Source: christophschuhmann/improved-aesthetic-predictor: a small head on the image embeddings, of length 1, of
    OpenAI's CLIP ViT-L/14.
    """

    name = "aesthetic"

    def __init__(
        self,
        head: str | Path,
        clip: str | Path,
        options: ModelOptions | None = None,
        residence: Residence | None = None,
    ) -> None:
        """head: sac+logos+ava1-l14-linearMSE.pth, or the same as .safetensors. clip: OpenAI's ViT-L/14, the whole or
        its vision tower with the projection, in the layout of transformers or open_clip.

        Nothing is read before the first score; it then raises FileNotFoundError or ValueError with one sentence.
        """
        super().__init__(options, residence)
        self.head, self.clip = Path(head), Path(clip)

    def load(self) -> nn.ModuleDict:
        kinds.require(kinds.AESTHETIC, self.head, catalog.AESTHETIC.choice)
        kinds.require(kinds.EYES, self.clip, catalog.CLIP_L.choice)
        head = _head(self.head)
        clip = clip_model.load(self.clip, activation="quick_gelu", with_text=False)
        if head[0].in_features != clip.width:
            raise ValueError(
                f"{self.head.name} rates embeddings of {head[0].in_features} numbers, but {self.clip.name} gives "
                f"{clip.width}: choose OpenAI's CLIP ViT-L/14."
            )
        return nn.ModuleDict({"clip": clip, "head": head})

    def score_batch(self, module: nn.ModuleDict, images: Tensor, prompts: Sequence[str]) -> Tensor:
        clip, head = module["clip"], module["head"]
        assert isinstance(clip, clip_model.Clip)
        embeddings = clip.embed_images(image_input.cropped(images, clip.image_size))
        return head(embeddings.to(next(head.parameters()).dtype)).squeeze(-1)


def _head(path: Path) -> nn.Sequential:
    """The linear layers of the file, in float32."""
    tensors = weight_files.read(path)
    names = [(f"layers.{number}.weight", f"layers.{number}.bias") for number in _LAYERS]
    if tensors.keys() != {name for pair in names for name in pair}:
        raise ValueError(
            f"{path.name} isn't the head of LAION's improved aesthetic predictor: choose "
            "sac+logos+ava1-l14-linearMSE.pth."
        )
    layers = nn.Sequential()
    for weight, bias in ((tensors[weight].float(), tensors[bias].float()) for weight, bias in names):
        fits = weight.ndim == 2 and bias.shape == weight.shape[:1]
        if not fits or (layers and weight.shape[1] != layers[-1].out_features):
            raise ValueError(f"{path.name}: its layers don't fit each other, download it again.")
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], len(weight))
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        layers.append(layer)
    if layers[-1].out_features != 1:
        raise ValueError(f"{path.name} gives {layers[-1].out_features} numbers an image: it must give one.")
    return layers
