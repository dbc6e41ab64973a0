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
CONFIG = {  # in the words of ComfyUI's CLIP classes
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": MLP,
    "hidden_act": "gelu",
    "max_position_embeddings": LENGTH,
    "eos_token_id": END,
}
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
STEPS, BATCH, LEARNING_RATE = 600, 128, 1.5e-3
UNKNOWN_WORDS = 0.01  # share of words that are made unknown


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
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(future, -torch.inf).softmax(dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(-2))


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

    def number(names, name) -> int:
        return [*names].index(name) + 1 if name in names else 0

    def thing(item) -> list[int]:
        return [number(shapes.COLORS, item[0]), number(shapes.SHAPES, item[1])]

    nothing = ("", "", 0)
    first, second = (*spec.items, nothing)[:2]
    places = dict.fromkeys(("left", "right", "top", "bottom"), nothing)
    if spec.kind == "relation":
        here, there = _PLACES[spec.relation]
        places |= {here: first, there: second}
    elif spec.kind == "position":
        places[spec.position] = first
    answers = [*thing(first), first[2], *thing(second), number(shapes.BACKGROUNDS, spec.background)]
    return answers + [answer for item in places.values() for answer in thing(item)]


_PLACES = {  # where the first and the second thing of a relation are
    "left": ("left", "right"),
    "right": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
_CLASSES = [7, 4, 4, 7, 4, 4, *[7, 4] * 4]


def warm_up(seed: int = 0, steps: int = STEPS, log=print) -> TextEncoder:
    """Teach the encoder to read: its pooled output must tell what was said, and what is where.

    A few words are made unknown. After this the encoder stays as it is, as in the large models.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = TextEncoder()
    head = nn.Linear(WIDTH, sum(_CLASSES))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for step in range(1, steps + 1):
        specs = [data.random_spec(rng) for _ in range(BATCH)]
        read = [tokens(shapes.write(spec)) for spec in specs]
        read = [[UNKNOWN if t > UNKNOWN and rng.random() < UNKNOWN_WORDS else t for t in line] for line in read]
        answers = torch.tensor([_answers(spec) for spec in specs])
        guesses = head(model(torch.tensor(read))[1]).split(_CLASSES, dim=1)
        loss = sum(F.cross_entropy(guess, answers[:, i]) for i, guess in enumerate(guesses))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            right = torch.stack([guess.argmax(1) for guess in guesses], 1).eq(answers).all(1).float().mean()
            log(f"text step {step}/{steps} loss {loss.item():.4f} read right {right.item():.3f}")
    return model.requires_grad_(False)
