"""The nodes of vision-language models as judges: asked about each picture, or about two at a time."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.judge.pair_questions import PAIR_PRESETS, PairQuestion
from ...mixgrpo_engine.rewards.judge.pairwise import PairwiseJudgeReward, PairwiseOptions
from ...mixgrpo_engine.rewards.judge.questions import PRESETS, Question
from ...mixgrpo_engine.rewards.judge.reward import JudgeOptions, JudgeReward
from ..category import REWARDS, found_by
from ..setting_widgets import folded_but
from .remote import RemoteReward, answer_inputs, client_options, network_inputs, packing_inputs, urls_input
from .reward_type import REWARD

CUSTOM = "custom"
QUESTIONS, PAIR_QUESTIONS = [*PRESETS, CUSTOM], [*PAIR_PRESETS, CUSTOM]
FRONT = ("urls", "model", "preset", "question")
CHAT = "http://host:port, .../v1, or the whole address up to /chat/completions."
SERVERS = (
    "UnifiedReward or any other behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, OpenAI). The "
    "owner of this ComfyUI must allow the server's host."
)


class MixGRPORewardJudge(RemoteReward):
    WHO = "judge"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardJudge",
            display_name="MixGRPO Reward: VLM Judge",
            category=REWARDS,
            **found_by("reward model", "VLM", "preference", "RLAIF", "LLM judge", "rating", "edit", "Kontext"),
            description=f"Asks a vision-language model (VLM) about each picture and takes the number in its answer: "
            f"{SERVERS}",
            inputs=folded_but(FRONT, [
                urls_input("http://127.0.0.1:8000", CHAT),
                _model_input(),
                io.Combo.Input(
                    "preset", options=QUESTIONS, default=QUESTIONS[0],
                    tooltip="What is asked. semantic: does the picture show what the prompt says. coherence: is it "
                    "without faults. style: is it beautiful. overall: all in one. Each gives 1 to 5. The questions "
                    "about edits show the source picture, too, and give 0 to 10: was the instruction followed, is the "
                    "rest as it was, does it look right; edit: all three, none of which makes up for another. custom: "
                    "your own question below.",
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
                *network_inputs(
                    "Pictures that are judged at the same time. Servers such as vLLM are faster with many."
                ),
                *packing_inputs(),
                *answer_inputs(),
                _source_input("the picture"),
            ]),
            outputs=[REWARD.Output(display_name="reward", tooltip="For MixGRPO Train.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, urls: str, model: str, preset: str, question: str, score_template: str, minimum: float, maximum: float,
        max_side: int, image_format: str, max_tokens: int, seed: int, show_source: bool = False, **network: Any,
    ) -> io.NodeOutput:  # fmt: skip
        addresses, hosts, key = cls.allowed(urls)
        own = preset == CUSTOM
        options = JudgeOptions(
            urls=addresses,
            model=model.strip(),
            question=Question(question, (score_template,), source=show_source) if own else PRESETS[preset],
            to_unit=(minimum, maximum) if minimum or maximum else None,
            max_tokens=max_tokens,
            seed=None if seed < 0 else seed,
            max_side=max_side,
            image_format=image_format,
        )
        return io.NodeOutput(JudgeReward(options, client_options(**network), hosts, key))


class MixGRPORewardPairwiseJudge(RemoteReward):
    WHO = "judge"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardPairwiseJudge",
            display_name="MixGRPO Reward: VLM Judge by Comparison",
            category=REWARDS,
            **found_by("pairwise", "win rate", "tournament", "Pref-GRPO", "VLM", "preference", "RLAIF", "LLM judge"),
            description="Shows a vision-language model (VLM) the images of a group two at a time, in both orders, and "
            f"gives each its win rate. Comparisons don't drift in scale, as scores do: {SERVERS}",
            inputs=folded_but((*FRONT, "calls"), [
                urls_input("http://127.0.0.1:8000", CHAT),
                _model_input(),
                io.Combo.Input(
                    "preset", options=PAIR_QUESTIONS, default=PAIR_QUESTIONS[0],
                    tooltip="What is asked about two pictures. better: which shows the prompt better and is of better "
                    "quality. think: the same of a judge that reasons first (UnifiedReward-Think; raise max_tokens). "
                    "semantic, coherence, style, overall: UnifiedReward 2 divides a point between the two. edit: which "
                    "edit of the source picture is better. custom: your own question below.",
                ),
                io.String.Input(
                    "question", multiline=True,
                    default="Two pictures of one prompt: {prompt}\nWhich one fits it better? End with \"Image 1 is "
                    "better.\" or \"Image 2 is better.\"",
                    tooltip="Your own question, for preset custom. {prompt} is replaced by the prompt. The answer must "
                    "say \"Image 1 is better\", \"Image 2 is better\" or \"equally good\"; the last place counts.",
                ),
                io.Int.Input(
                    "calls", default=0, min=0, max=100_000,
                    tooltip="Requests for a group, at most: each image meets as many others as that allows; of an "
                    "odd number some meet one less. 0 compares all with all: 132 requests for 12 images, 12 are the "
                    "least.",
                ),
                *network_inputs(
                    "Comparisons that are asked for at the same time. Servers such as vLLM are faster with many."
                ),
                *packing_inputs(),
                *answer_inputs(),
                _source_input("the two pictures"),
            ]),
            outputs=[
                REWARD.Output(
                    display_name="reward",
                    tooltip="0 to 1, and 1/2 on average in every group. For MixGRPO Train; to see progress, connect "
                    "another reward to watch there.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, urls: str, model: str, preset: str, question: str, calls: int, max_side: int, image_format: str,
        max_tokens: int, seed: int, show_source: bool = False, **network: Any,
    ) -> io.NodeOutput:  # fmt: skip
        addresses, hosts, key = cls.allowed(urls)
        options = PairwiseOptions(
            urls=addresses,
            model=model.strip(),
            question=PairQuestion(question, source=show_source) if preset == CUSTOM else PAIR_PRESETS[preset],
            calls=calls,
            max_tokens=max_tokens,
            seed=None if seed < 0 else seed,
            max_side=max_side,
            image_format=image_format,
        )
        return io.NodeOutput(PairwiseJudgeReward(options, client_options(**network), hosts, key))


def _model_input() -> io.String.Input:
    return io.String.Input("model", default="UnifiedReward", tooltip="The model's name as the server knows it.")


def _source_input(shown: str) -> io.Boolean.Input:
    return io.Boolean.Input(
        "show_source", default=False, optional=True,
        tooltip=f"For preset custom: the picture that was edited is shown before {shown}. The presets about edits "
        "always do.",
    )  # fmt: skip


NODES = [MixGRPORewardJudge, MixGRPORewardPairwiseJudge]
