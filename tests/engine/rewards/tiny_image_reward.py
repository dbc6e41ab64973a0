"""A tiny ImageReward with random weights in the published layout, and its equations in plain torch."""

import math

import torch
from torch.nn import functional as F

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "circle", "square", "on", "the", "left"),
    *("##s", "##ish", ",", "cat", "sky"),
]
WIDTH, TEXT_WIDTH, LAYERS, PATCH, SIZE, TOKENS = 128, 64, 2, 16, 32, 35


def write_vocab(folder):
    path = folder / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


def tensors(seed=0):
    """Every tensor of ImageReward.pt by its name, small and random."""
    generator = torch.Generator().manual_seed(seed)
    made = {}

    def weight(name, *shape, spread=0.2, around=0.0):
        made[name] = around + spread * torch.randn(*shape, generator=generator)

    def linear(name, out, into):
        weight(f"{name}.weight", out, into, spread=1.5 / math.sqrt(into))
        weight(f"{name}.bias", out)

    def norm(name, width):
        weight(f"{name}.weight", width, around=1.0)
        weight(f"{name}.bias", width)

    eyes = "blip.visual_encoder"
    weight(f"{eyes}.cls_token", 1, 1, WIDTH)
    weight(f"{eyes}.pos_embed", 1, 1 + (SIZE // PATCH) ** 2, WIDTH)
    weight(f"{eyes}.patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH, spread=0.05)
    weight(f"{eyes}.patch_embed.proj.bias", WIDTH)
    norm(f"{eyes}.norm", WIDTH)
    for index in range(LAYERS):
        block = f"{eyes}.blocks.{index}"
        norm(f"{block}.norm1", WIDTH)
        linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        linear(f"{block}.attn.proj", WIDTH, WIDTH)
        norm(f"{block}.norm2", WIDTH)
        linear(f"{block}.mlp.fc1", 2 * WIDTH, WIDTH)
        linear(f"{block}.mlp.fc2", WIDTH, 2 * WIDTH)

    text = "blip.text_encoder"
    weight(f"{text}.embeddings.word_embeddings.weight", len(WORDS) + 2, TEXT_WIDTH, spread=1.0)
    weight(f"{text}.embeddings.position_embeddings.weight", 40, TEXT_WIDTH, spread=0.5)
    made[f"{text}.embeddings.position_ids"] = torch.arange(40)[None]
    norm(f"{text}.embeddings.LayerNorm", TEXT_WIDTH)
    for index in range(LAYERS):
        layer = f"{text}.encoder.layer.{index}"
        for kind, into in (("attention", TEXT_WIDTH), ("crossattention", WIDTH)):
            linear(f"{layer}.{kind}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            linear(f"{layer}.{kind}.self.key", TEXT_WIDTH, into)
            linear(f"{layer}.{kind}.self.value", TEXT_WIDTH, into)
            linear(f"{layer}.{kind}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            norm(f"{layer}.{kind}.output.LayerNorm", TEXT_WIDTH)
        linear(f"{layer}.intermediate.dense", 2 * TEXT_WIDTH, TEXT_WIDTH)
        linear(f"{layer}.output.dense", TEXT_WIDTH, 2 * TEXT_WIDTH)
        norm(f"{layer}.output.LayerNorm", TEXT_WIDTH)

    sizes = [TEXT_WIDTH, 48, 32, 24, 16, 1]
    for index, into, out in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        linear(f"mlp.layers.{index}", out, into)
    return made


def reference(weights, pixels, tokens):
    """The score of one image (3, SIZE, SIZE), normalised, and one prompt's tokens without padding: the papers'
    equations (ViT, BERT, BLIP's cross-attention, ImageReward's head)."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x, eps):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / (variance + eps).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    def attend(query, key, value):
        heads = []
        for start in range(0, query.shape[-1], 64):
            q, k, v = (x[:, start : start + 64] for x in (query, key, value))
            heads.append((q @ k.T / 8).softmax(-1) @ v)
        return torch.cat(heads, -1)

    eyes = "blip.visual_encoder"
    kernel = weights[f"{eyes}.patch_embed.proj.weight"]
    patches = F.unfold(pixels[None], PATCH, stride=PATCH)[0].T
    x = patches @ kernel.flatten(1).T + weights[f"{eyes}.patch_embed.proj.bias"]
    x = torch.cat([weights[f"{eyes}.cls_token"][0], x]) + weights[f"{eyes}.pos_embed"][0]
    for index in range(LAYERS):
        block = f"{eyes}.blocks.{index}"
        query, key, value = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(f"{block}.attn.proj", attend(query, key, value))
        x = x + linear(f"{block}.mlp.fc2", gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6))))
    image = norm(f"{eyes}.norm", x, 1e-6)

    text = "blip.text_encoder"
    x = weights[f"{text}.embeddings.word_embeddings.weight"][tokens]
    x = x + weights[f"{text}.embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(f"{text}.embeddings.LayerNorm", x, 1e-12)
    for index in range(LAYERS):
        layer = f"{text}.encoder.layer.{index}"
        for kind, source in (("attention", None), ("crossattention", image)):
            seen = x if source is None else source
            query = linear(f"{layer}.{kind}.self.query", x)
            key, value = linear(f"{layer}.{kind}.self.key", seen), linear(f"{layer}.{kind}.self.value", seen)
            out = linear(f"{layer}.{kind}.output.dense", attend(query, key, value))
            x = norm(f"{layer}.{kind}.output.LayerNorm", x + out, 1e-12)
        hidden = gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", hidden), 1e-12)
    score = x[0]
    for index in (0, 2, 4, 6, 7):
        score = linear(f"mlp.layers.{index}", score)
    return (score.item() - 0.16717362830052426) / 1.0333394966054072
