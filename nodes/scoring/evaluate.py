"""MixGRPO_Evaluate: base against tuned model, on the same prompts and noises."""

from __future__ import annotations

from comfy_api.latest import io

from ...mixgrpo_engine.prompt_files import of_text
from ...mixgrpo_engine.prompts import PromptSet
from ...mixgrpo_engine.rewards import Reward
from ..category import SCORING, found_by
from ..comfy_types import Clip, Model, Vae
from ..model.conditioning import encode_prompts
from ..prompts import PROMPTS
from ..rewards import REWARD
from ..setting_widgets import folded_but
from . import evaluation_files, output_files
from .evaluation import evaluate
from .stock_sampling import Sampling

FRONT = ("text", "images_per_prompt", "steps", "cfg", "width", "height")


class MixGRPOEvaluate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        import comfy.samplers

        return io.Schema(
            node_id="MixGRPO_Evaluate",
            display_name="MixGRPO Evaluate",
            category=SCORING,
            **found_by("A/B test", "compare models", "benchmark", "win rate", "reward", "preference", "LoRA training"),
            description="Is the tuned model better, and how sure is that? Samples base and tuned model (a LoRA, a "
            "merge, any change) with the same prompts and noises, scores both, and gives means, win rate, 95% "
            "intervals, a side-by-side grid and a table: an A/B test.",
            is_output_node=True,
            inputs=folded_but(FRONT, [
                io.Model.Input("base", tooltip="The model to compare with, usually the one without the LoRA."),
                io.Model.Input("tuned", tooltip="The model in question: after a LoRA loader or MixGRPO Apply Run."),
                io.Clip.Input("clip", tooltip="Encodes the prompts, for both models."),
                io.Vae.Input("vae", tooltip="Decodes the images of both models."),
                REWARD.Input("reward", tooltip="Scores the images; a MixGRPO Reward Mix reports each of its scorers."),
                io.String.Input(
                    "text", multiline=True, default="",
                    tooltip="Prompts, one a line; added to those of prompts. A few dozen make narrow intervals.",
                ),
                io.String.Input(
                    "negative", multiline=True, default="", tooltip="The negative prompt. Unused at cfg 1."
                ),
                io.Int.Input(
                    "images_per_prompt", default=4, min=1, max=1024,
                    tooltip="Images of each prompt and model. More prompts tell more than more images of each.",
                ),
                io.Int.Input(
                    "batch_size", default=4, min=1, max=1024,
                    tooltip="Images of a prompt that are sampled at once: less takes less memory.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=False,
                    tooltip="Of the first prompt's noise; each prompt has the next one. KSampler makes the same images "
                    "of it.",
                ),
                io.Int.Input("steps", default=25, min=1, max=10000, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=100.0, step=0.1,
                    tooltip="Classifier-free guidance; 1 turns it off. Compare at the value that you will use.",
                ),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler",
                    tooltip="ComfyUI's sampler, as in KSampler.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple",
                    tooltip="ComfyUI's scheduler, as in KSampler.",
                ),
                io.Int.Input("width", default=512, min=16, max=8192, step=8, tooltip="Pixels of an image."),
                io.Int.Input("height", default=512, min=16, max=8192, step=8, tooltip="Pixels of an image."),
                io.Int.Input(
                    "grid_prompts", default=8, min=1, max=64,
                    tooltip="Prompts on the grid, one image of each model: only these images stay in memory.",
                ),
                io.String.Input(
                    "filename_prefix", default="mixgrpo/evaluation",
                    tooltip="Name of the JSON and CSV files in the output folder, as in Save Image.",
                ),
                PROMPTS.Input(
                    "prompts", optional=True,
                    tooltip="A MixGRPO Prompts node: its held-out prompts are taken, or all if none are held out.",
                ),
                io.Int.Input(
                    "frames", default=1, min=1, max=1024, optional=True,
                    tooltip="Frames of a video, for video models such as Wan (1, 5, 9, 13 ...); its score is the mean "
                    "over its frames. 1 samples images.",
                ),
            ]),
            outputs=[
                io.Image.Output(display_name="grid", tooltip="Base and tuned side by side, with their scores."),
                io.String.Output(display_name="text", tooltip="The result in a few lines."),
                io.String.Output(
                    display_name="json", tooltip="Settings, summary, and the scores of every image; null where scoring "
                    "failed."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, base: Model, tuned: Model, clip: Clip, vae: Vae, reward: Reward, text: str, negative: str,
        images_per_prompt: int, batch_size: int, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str,
        width: int, height: int, grid_prompts: int, filename_prefix: str, prompts: PromptSet | None = None,
        frames: int = 1,
    ) -> io.NodeOutput:  # fmt: skip
        chosen, source = prompt_list(text, prompts)
        # Before hours of sampling: a prefix that can't be used.
        output_files.place(filename_prefix, width, height)
        sampling = Sampling(
            steps=steps, cfg=cfg, sampler=sampler_name, scheduler=scheduler, width=width, height=height,
            images=images_per_prompt, batch_size=batch_size, seed=seed, frames=frames,
        )  # fmt: skip
        encoded = encode_prompts(clip, [*chosen, negative], lambda _: _raise_if_interrupted())
        result = evaluate(
            {"base": base, "tuned": tuned}, vae, reward, chosen, encoded, negative, sampling, grid_prompts,
            cls.hidden.unique_id,
        )  # fmt: skip
        report = evaluation_files.report(result, sampling, negative, source)
        summary = evaluation_files.summary(report)
        files = evaluation_files.write(report, filename_prefix)
        return io.NodeOutput(
            evaluation_files.grid(result, frames),
            summary,
            evaluation_files.dump(report),
            ui={"text": [summary], "files": files},
        )


def prompt_list(text: str, prompts: PromptSet | None) -> tuple[list[str], str]:
    """(distinct prompts, where they are from). Raises ValueError when there is none."""
    lines = of_text(text)
    given, source = [], "text"
    if prompts is not None:
        if prompts.has_pictures:
            raise ValueError(
                "The prompts have pictures, and MixGRPO Evaluate samples from text alone: sample with your own nodes "
                "and MixGRPO Item, and score by MixGRPO Score."
            )
        given = list(prompts.held_out or prompts.train)
        source = "held-out prompts" if prompts.held_out else "training prompts (none are held out)"
        source += " and text" if lines else ""
    chosen = list(dict.fromkeys([*given, *lines]))
    if not chosen:
        raise ValueError("There are no prompts: write some into text, one a line, or connect MixGRPO Prompts.")
    return chosen, source


def _raise_if_interrupted() -> None:
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


NODES = [MixGRPOEvaluate]
