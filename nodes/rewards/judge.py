"""MixGRPO_RewardJudge: a vision-language model behind an OpenAI-compatible server, asked about each picture."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.judge.client import ClientOptions
from ...mixgrpo_engine.rewards.judge.questions import PRESETS, Question
from ...mixgrpo_engine.rewards.judge.reward import FORMATS, JudgeOptions, JudgeReward, servers
from .. import owner_settings
from ..category import REWARDS, found_by
from ..setting_widgets import folded_but
from .reward_type import REWARD

CUSTOM = "custom"
QUESTIONS = [*PRESETS, CUSTOM]
FRONT = ("urls", "model", "preset", "question")


class MixGRPORewardJudge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardJudge",
            display_name="MixGRPO Reward: VLM Judge",
            category=REWARDS,
            **found_by("reward model", "VLM", "preference", "RLAIF", "LLM judge", "rating"),
            description="Asks a vision-language model (VLM) about each picture and takes the number in its answer: "
            "UnifiedReward or any other behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, OpenAI). "
            "The owner of this ComfyUI must allow the server's host.",
            inputs=folded_but(FRONT, [
                io.String.Input(
                    "urls", multiline=True, default="http://127.0.0.1:8000",
                    tooltip="The server, or several, one a line; they are asked in turn. http://host:port, .../v1, or "
                    "the whole address up to /chat/completions. No name, password or key: the owner sets the key.",
                ),
                io.String.Input("model", default="UnifiedReward", tooltip="The model's name as the server knows it."),
                io.Combo.Input(
                    "preset", options=QUESTIONS, default=QUESTIONS[0],
                    tooltip="What is asked. semantic: does the picture show what the prompt says. coherence: is it "
                    "without faults. style: is it beautiful. overall: all in one. Each gives 1 to 5. custom: your own "
                    "question below.",
                ),
                io.String.Input(
                    "question", multiline=True,
                    default="Prompt of the picture: {prompt}\nHow well does the picture fit it? End with a line "
                    "\"Score: X\", X from 0 to 10.",
                    tooltip="Your own question, for preset custom. {prompt} is replaced by the picture's prompt.",
                ),
                io.String.Input(
                    "score_template", default="Score: {score}",
                    tooltip="How the score stands in the answer to your own question, with {score} for the number. "
                    "The last place that fits counts. No regular expression: everything else is taken letter by "
                    "letter, but for case, white space and stars.",
                ),
                io.Float.Input(
                    "minimum", default=0.0, min=-1e6, max=1e6, step=0.01,
                    tooltip="The judge's number that becomes 0. With minimum and maximum both 0, the numbers stay as "
                    "the judge gives them.",
                ),
                io.Float.Input(
                    "maximum", default=0.0, min=-1e6, max=1e6, step=0.01,
                    tooltip="The judge's number that becomes 1. An answer outside minimum and maximum is no score.",
                ),
                io.Int.Input(
                    "concurrency", default=8, min=1, max=256,
                    tooltip="Pictures that are judged at the same time. Servers such as vLLM are faster with many.",
                ),
                io.Float.Input(
                    "timeout", default=60.0, min=0.1, max=3600.0, step=0.1,
                    tooltip="Seconds that one request may take.",
                ),
                io.Int.Input(
                    "retries", default=3, min=0, max=20,
                    tooltip="How often a request is repeated when the server is busy, fails or doesn't answer.",
                ),
                io.Float.Input(
                    "deadline", default=300.0, min=0.1, max=86400.0, step=0.1,
                    tooltip="Seconds for all pictures of a group together. Those without an answer by then get no "
                    "score, and the training goes on without them.",
                ),
                io.Int.Input(
                    "max_side", default=1024, min=64, max=4096,
                    tooltip="Pixels: larger pictures are made smaller before they are sent.",
                ),
                io.Combo.Input(
                    "image_format", options=list(FORMATS), default=FORMATS[0],
                    tooltip="How pictures are sent. jpeg (quality 95) is smaller, png exact.",
                ),
                io.Int.Input(
                    "max_tokens", default=1024, min=1, max=65536,
                    tooltip="Longest answer. A judge that thinks before it answers needs thousands.",
                ),
                io.Int.Input(
                    "seed", default=-1, min=-1, max=2**31 - 1, control_after_generate=False,
                    tooltip="Sent with each request if it is 0 or more. The temperature is 0 in any case.",
                ),
            ]),
            outputs=[REWARD.Output(display_name="reward", tooltip="For MixGRPO Train.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, urls: str | None = None) -> bool | str:
        """Refuses a host that isn't allowed before anything runs; urls from a link are known at execution only."""
        if urls is None:
            return True
        try:
            require_allowed(lines(urls))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> tuple[int, int]:
        # What the owner allows may have changed since.
        return owner_settings.version()

    @classmethod
    def execute(
        cls, urls: str, model: str, preset: str, question: str, score_template: str, minimum: float, maximum: float,
        concurrency: int, timeout: float, retries: int, deadline: float, max_side: int, image_format: str,
        max_tokens: int, seed: int,
    ) -> io.NodeOutput:  # fmt: skip
        options = JudgeOptions(
            urls=tuple(lines(urls)),
            model=model.strip(),
            question=Question(question, (score_template,)) if preset == CUSTOM else PRESETS[preset],
            to_unit=(minimum, maximum) if minimum or maximum else None,
            max_tokens=max_tokens,
            seed=None if seed < 0 else seed,
            max_side=max_side,
            image_format=image_format,
        )
        client = ClientOptions(concurrency=concurrency, timeout=timeout, retries=retries, deadline=deadline)
        require_allowed(options.urls)
        hosts, key = owner_settings.words("judge_hosts"), owner_settings.text("judge_key")
        return io.NodeOutput(JudgeReward(options, client, hosts, key))


def lines(text: str) -> list[str]:
    """The lines of a text that hold something. Raises ValueError for what isn't a text."""
    if not isinstance(text, str):
        raise ValueError("urls must be a text with one address a line.")
    return [line.strip() for line in text.splitlines() if line.strip()]


def require_allowed(urls: list[str] | tuple[str, ...]) -> None:
    """Raises ValueError with one sentence for a URL that can't be used, or whose host the owner doesn't allow."""
    try:
        servers(urls, owner_settings.words("judge_hosts"))
    except PermissionError as error:
        raise ValueError(
            f"{error} If this ComfyUI is yours, write it into {owner_settings.how_to_set('judge_hosts')}."
        ) from None


NODES = [MixGRPORewardJudge]
