"""The text encoder: the words of the world, and a small causal transformer with the keys of ComfyUI's CLIP."""

import random
import re

import torch
from torch import nn
from torch.nn import functional as F

from mixgrpo_engine import shapes
from mixgrpo_engine.shapes import Spec

from . import data

LENGTH = 16  # tokens, the start and the end included
WIDTH, HEADS, LAYERS, MLP = 128, 2, 2, 256
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
STEPS, BATCH, LEARNING_RATE = 400, 128, 1.5e-3


def vocabulary() -> list[str]:
    """All words of the grammar; a word's place in the list is its token."""
    words = {word for specs in shapes.all_specs().values() for spec in specs for word in shapes.write(spec).split()}
    return [*SPECIAL, *sorted(words)]


_TOKENS = {word: token for token, word in enumerate(vocabulary())}


def tokens(caption: str) -> list[int]:
    """A caption as LENGTH tokens: start, words, end, padding."""
    words = [_TOKENS.get(word, UNKNOWN) for word in re.findall(r"[a-z]+", caption.lower())][: LENGTH - 2]
    return [START, *words, END, *[PAD] * (LENGTH - 2 - len(words))]


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))


class MLPBlock(nn.Module):
    """Two linear layers."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, MLP), nn.Linear(MLP, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Layer(nn.Module):
    """One transformer layer, norms first."""

    def __init__(self):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attn, self.mlp = Attention(), MLPBlock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """tokens (batch, 16) -> context (batch, 16, 128), pooled (batch, 128)."""

    def __init__(self):
        super().__init__()
        self.text_model = nn.Module()
        self.text_model.embeddings = nn.Module()
        self.text_model.embeddings.token_embedding = nn.Embedding(len(_TOKENS), WIDTH)
        self.text_model.embeddings.position_embedding = nn.Embedding(LENGTH, WIDTH)
        self.text_model.encoder = nn.Module()
        self.text_model.encoder.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.text_model.final_layer_norm = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.normal_(self.text_model.embeddings.token_embedding.weight, std=0.5)
        nn.init.normal_(self.text_model.embeddings.position_embedding.weight, std=0.2)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.text_model
        x = model.embeddings.token_embedding(tokens) + model.embeddings.position_embedding.weight
        for layer in model.encoder.layers:
            x = layer(x)
        context = model.final_layer_norm(x)
        end = (tokens == END).int().argmax(dim=1)
        pooled = context[torch.arange(len(tokens), device=tokens.device), end]
        return context, self.text_projection(pooled)


def _answers(spec: Spec) -> list[int]:
    """What a caption says, as class numbers; 0 for what it does not say."""
    second = spec.items[1] if len(spec.items) > 1 else ("", "", 0)

    def place(names, name) -> int:
        return [*names].index(name) + 1 if name in names else 0

    first = spec.items[0]
    return [
        place(shapes.COLORS, first[0]), place(shapes.SHAPES, first[1]), first[2],
        place(shapes.COLORS, second[0]), place(shapes.SHAPES, second[1]),
        place(shapes.RELATIONS, spec.relation), place(shapes.POSITIONS, spec.position),
        place(shapes.BACKGROUNDS, spec.background),
    ]  # fmt: skip


def warm_up(seed: int = 0, steps: int = STEPS, log=print) -> TextEncoder:
    """Teach the encoder to read before it learns with the denoiser: tell from the pooled output what was said."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = TextEncoder()
    sizes = [7, 4, 4, 7, 4, 5, 5, 4]
    head = nn.Linear(WIDTH, sum(sizes))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], LEARNING_RATE, betas=(0.9, 0.98))
    for step in range(1, steps + 1):
        specs = [data.random_spec(rng) for _ in range(BATCH)]
        read = torch.tensor([tokens(shapes.write(spec)) for spec in specs])
        answers = torch.tensor([_answers(spec) for spec in specs])
        guesses = head(model(read)[1]).split(sizes, dim=1)
        loss = sum(F.cross_entropy(guess, answers[:, i]) for i, guess in enumerate(guesses))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            right = torch.stack([guess.argmax(1) for guess in guesses], 1).eq(answers).all(1).float().mean()
            log(f"text step {step}/{steps} loss {loss.item():.4f} read right {right.item():.3f}")
    return model
