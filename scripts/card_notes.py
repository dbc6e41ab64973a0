"""What the notes of a card's template say."""

from __future__ import annotations

from collections.abc import Iterable

from mixgrpo_engine.memory import estimate
from mixgrpo_engine.memory.cards import Card
from mixgrpo_engine.rewards.files import catalog
from scripts import model_files
from scripts.model_files import ModelFile

WHAT_IT_DOES = """## Align {model} with what people prefer, on a card of {gigabytes} GB

**Train** samples groups of images of a prompt, lets **HPS v2.1** and **CLIPScore** compare them, and learns a LoRA \
that makes the better ones more likely (MixGRPO, arXiv 2507.21802). **ImageReward** only watches: it scores the \
held-out prompts and chooses the best LoRA. If it falls while the other two rise, the model has found a way to please \
them instead of people.

1. Get the files named below, press R, then **Run**.
2. The training runs in a process of its own. Cancel stops it and keeps a checkpoint; queueing again goes on with it. \
How long an iteration takes on your card isn't known: look at the first ones.
3. **After the training** holds everything that samples back until the card is free. Then the same noises are drawn \
without and with the LoRA, which also appears as `mixgrpo/...` in every LoRA loader. *which* takes the best one instead.

Sixty prompts are a beginning, the paper has thousands: put them into a text file, one a line, and choose it in \
**Prompts**.

### Nothing of this was run on a GPU

The settings ({width} x {height}, rank {rank}, preset {preset}) are chosen by an **estimate** of the memory: at least \
{least}, with one image a model call and no scorer on the card.{swapped} The worker estimates it again for your card, \
chooses the batch sizes by what is free (that is what 0 stands for), and tells it in the run's events.

If memory runs out all the same:

- end what else uses the card, and set **device** of the rewards to *cpu*
- **rank** 16 or less of the LoRA, then smaller **width** and **height** of Train
- {smaller}
{remark}"""

WHERE_FILES_GO = """## Put these files into `ComfyUI/models`
{folder}
| file | from | size, licence | folder |
|---|---|---|---|
{rows}

Give a file the name in brackets where there is one. Nothing is downloaded by itself.
"""

ABOUT_THE_FOLDER = """
**The model** is a folder as diffusers saves it: `model_index.json` and a subfolder a part. Put it, or a link to it, \
into `ComfyUI/models/diffusers`: for example [{repo}]({page}) as `{name}`. FLUX.1 and SD3 folders load alike; for \
another model take the algorithm and the LoRA's rank from the template of its card. A single file in \
`models/diffusion_models` may take the place of the folder's transformer.
"""

SWAPPED = (
    " {size} of the model's weights, those of {share} blocks, then stay in the computer's own memory and come to the "
    "card while they are at work."
)

REWARD_FILES = (catalog.HPS, catalog.CLIP_L, catalog.IMAGE_REWARD, catalog.BERT_VOCAB)


def what_it_does(model: str, card: Card, preset: str, estimated: dict, smaller: str, remark: str) -> str:
    """model: its name for people. preset: in words. estimated: the card's entry in benchmarks/results/memory.json.

    smaller: what makes this model's memory smaller. remark: a last paragraph, or "".
    """
    config, blocks = card.config(), estimated["swapped_blocks"]
    return WHAT_IT_DOES.format(
        model=model,
        gigabytes=card.gigabytes,
        width=config.run.width,
        height=config.run.height,
        rank=config.adapter.rank,
        preset=preset,
        least=estimate.words(estimated["least"]),
        swapped=SWAPPED.format(size=estimate.words(estimated["in_host"]), share=blocks) if blocks else "",
        smaller=smaller,
        remark=f"\n{remark}\n" if remark else "",
    )


def where_files_go(files: Iterable[ModelFile], folder: str = "") -> str:
    """folder: the name of a model folder that takes the place of files."""
    rows = [f"| `{file.name}` | [{file.repo}]({file.page}) | {file.terms} | `{file.folder}` |" for file in files]
    rows += [
        f"| {_names(file)} | [{file.repo}]({file.page}) | {file.terms} | `reward_models` |" for file in REWARD_FILES
    ]
    medium = model_files.SD35_MEDIUM
    about = ABOUT_THE_FOLDER.format(repo=medium.repo, page=medium.page, name=folder) if folder else ""
    return WHERE_FILES_GO.format(folder=about, rows="\n".join(rows))


def _names(file: catalog.KnownFile) -> str:
    return f"`{file.name}`" if file.path == file.name else f"`{file.path}` (`{file.name}`)"
