"""MixGRPO_Train, MixGRPO_Wait, MixGRPO_ApplyRun: start a run, wait for it, use its LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..mixgrpo_engine.records import events
from ..mixgrpo_engine.records.readable import readable
from ..mixgrpo_engine.records.run_folder import RunFolder
from .algorithm import ALGORITHM, LORA
from .category import CATEGORY, found_by
from .comfy_types import Clip, Model, Vae
from .prompts import PROMPTS
from .rewards import REWARD
from .runs import (
    free_memory,
    job,
    launch,
    news,
    overview,
    paths,
    published_lora,
    stored_prompts,
    submit,
    sweep,
    turns,
    wait,
    workflow,
)
from .runs.item_graph import OF_ITEMS
from .setting_widgets import folded, setting, widget
from .worker import stash

RUN = io.Custom("MIXGRPO_RUN")
LAZY = ("model", "clip", "vae", "reward", "watch", *OF_ITEMS)


def run_widget(field: str, **options: Any) -> io.Input:
    return widget(setting("run", field), **options)


class MixGRPOTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Train",
            display_name="MixGRPO Train",
            category=CATEGORY,
            **found_by(
                "reinforcement learning", "RLHF", "GRPO", "Flow-GRPO", "DanceGRPO", "preference", "alignment", "reward",
                "fine-tune", "LoRA training", "train LoRA",
            ),
            description="LoRA training by reinforcement learning from a reward (GRPO, RLHF, preference alignment): "
            "makes the model's images score higher, in a background process. What is "
            "connected to model, clip, vae, reward and watch is loaded there, not in this server. Queueing the same "
            "graph again returns to the same run, or goes on with it where it stopped. A list of seeds, names or "
            "learning rates makes a run of each, one after another.",
            is_output_node=True,
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input(
                    "model", lazy=True, tooltip="The flow-matching model to train (SD3, FLUX and their kin)."
                ),
                io.Clip.Input("clip", lazy=True, tooltip="Encodes the prompts once, then its memory is freed."),
                io.Vae.Input("vae", lazy=True, tooltip="Decodes the training images for the reward."),
                REWARD.Input("reward", lazy=True, tooltip="What is wanted: scores images, higher is better."),
                PROMPTS.Input("prompts", tooltip="Prompts to train on, and held-out ones."),
                ALGORITHM.Input("algorithm", tooltip="How images are sampled and learned from."),
                io.String.Input(
                    "run_name", default="my-run",
                    tooltip="The run's folder and LoRA are named after it. Another name makes another run.",
                ),
                run_widget("iterations"),
                run_widget("seed", control_after_generate=False),
                run_widget("width"),
                run_widget("height"),
                run_widget("evaluate_every"),
                run_widget("evaluate_images"),
                run_widget("checkpoint_every"),
                run_widget("gradient_checkpointing"),
                run_widget("mixed_precision"),
                io.Combo.Input(
                    "mode", options=["wait", "detached"], default="wait",
                    tooltip="wait: this node ends when the training ends, and Cancel stops it. detached: it ends at "
                    "once, the training goes on in the background; use MixGRPO Wait later.",
                ),
                folded(
                    io.Combo.Input(
                        "if_exists", options=["reuse", "restart"], default="reuse",
                        tooltip="When the same run exists. reuse: join it, go on with it, or return its result. "
                        "restart: train again from the start as a run of its own; the old one stays.",
                    )
                ),
                LORA.Input(
                    "lora", optional=True,
                    tooltip="Size and layers of the LoRA. Without it: rank 32, the rest as the algorithm says.",
                ),
                REWARD.Input(
                    "watch", optional=True, lazy=True,
                    tooltip="A second reward that nothing is learned from. It only scores the held-out prompts and "
                    "chooses the best LoRA. If it falls while the trained reward rises, the model has found a way to "
                    "please the reward instead of people (reward hacking). Needs evaluate_every above 0.",
                ),
                run_widget("negative_prompt", optional=True),
                run_widget("guidance", optional=True),
                run_widget("frames", optional=True),
                run_widget("processes", optional=True),
                run_widget("sample_every", optional=True),
                run_widget("images_mb", optional=True),
                run_widget("evaluate_steps", optional=True),
                run_widget("try_anyway", optional=True),
                run_widget("compile_blocks", optional=True),
                run_widget("deterministic", optional=True),
                run_widget("swapped_blocks", optional=True),
                io.Conditioning.Input(
                    "positive", optional=True, lazy=True,
                    tooltip="For prompts with pictures: the conditioning that your nodes make of MixGRPO Item's "
                    "outputs, as you would wire it into a sampler. It is made in the training, once for every item. "
                    "Without it clip encodes the prompts.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, lazy=True,
                    tooltip="The negative one of every item, where cfg isn't 1. Without it clip encodes "
                    "negative_prompt, for all items alike.",
                ),
                io.Latent.Input(
                    "latent", optional=True, lazy=True,
                    tooltip="The empty latent that your sampler would begin from: its size is trained, in place of "
                    "width and height. Items may differ in it, with prompts_per_iteration 1. It must not have a noise "
                    "mask.",
                ),
            ],
            outputs=[
                RUN.Output(
                    display_name="run", is_output_list=True,
                    tooltip="The run, for MixGRPO Wait and MixGRPO Apply Run; one for each value of a list.",
                ),
                io.String.Output(
                    display_name="run_id", is_output_list=True,
                    tooltip="The run's name in its folder, its LoRA and the HTTP routes.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        # The disk decides whether there is something to do, not ComfyUI's cache.
        return float("nan")

    @classmethod
    def check_lazy_status(cls, **values: Any) -> list[str]:
        """In the server nothing heavy is ever loaded; in the worker everything that the cut graph still has."""
        missing = [name for name in LAZY if any(value is None for value in values.get(name, ()))]
        return missing if launch.in_worker() else []

    @classmethod
    async def execute(cls, **inputs: list) -> io.NodeOutput:
        if launch.in_worker():
            stash.put({name: inputs[name] for name in LAZY if name in inputs})
            return io.NodeOutput([], [])
        hidden = cls.hidden
        prompt, workflow_id = hidden.dynprompt.get_original_prompt(), workflow.id_of(hidden.extra_pnginfo)
        settings = sweep.members("MixGRPO Train", {name: inputs[name] for name in inputs if name not in LAZY})
        jobs = [made_of(each, place, len(settings), hidden) for place, each in enumerate(settings, 1)]
        sweeps = sweep.of_jobs(jobs)
        waits = any(each["mode"] == "wait" for each in settings)

        def keep(number: int, submission: submit.Submission) -> None:
            mine = settings[number]["mode"] == "wait", sweeps[number]
            trains = submission.action in submit.TRAINS
            workflow.keep(submission.folder, hidden.extra_pnginfo, prompt, hidden.unique_id, *mine, trains)
            news.tell(submission.folder.name)

        restarts = [each["if_exists"] == "restart" for each in settings]
        submissions = await wait.submit_all(list(zip(jobs, restarts, strict=True)), waits, keep)
        if any(each.action in submit.TRAINS for each in submissions):
            free_memory.free()
        folders = [each.folder for each in submissions]
        wait.tell_browser(workflow_id, hidden.unique_id, folders[0].name)
        if waits:
            waited = [folder for folder, each in zip(folders, settings, strict=True) if each["mode"] == "wait"]
            await wait.wait_for(waited, 0, hidden.unique_id, in_browser=bool(workflow_id))
        return run_output(folders, [(each.action, each.note) for each in submissions])


class MixGRPOWait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Wait",
            display_name="MixGRPO Wait",
            category=CATEGORY,
            description="Waits until a run has ended and shows its progress. Cancelling the prompt cancels the run.",
            is_output_node=True,
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                RUN.Input("run", optional=True, tooltip="From MixGRPO Train. Leave it open to name a run below."),
                io.String.Input(
                    "run_id", default="", optional=True,
                    tooltip="The id of a run, when none is connected above.",
                ),
                io.Int.Input(
                    "timeout", default=0, min=0, max=10_000_000,
                    tooltip="Seconds after which this node gives up with an error, while the run goes on. 0 never.",
                ),
            ],
            outputs=[
                RUN.Output(display_name="run", is_output_list=True, tooltip="The finished run, or all of a list."),
                io.String.Output(display_name="run_id", is_output_list=True, tooltip="Its id."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")

    @classmethod
    async def execute(cls, timeout: list[int], **of_runs: list) -> io.NodeOutput:
        folders = [find_run(**each) for each in sweep.members("MixGRPO Wait", of_runs)]
        workflow_id = workflow.id_of(cls.hidden.extra_pnginfo)
        wait.tell_browser(workflow_id, cls.hidden.unique_id, folders[0].name)
        patience = 0 if 0 in timeout else max(timeout)
        await wait.wait_for(folders, patience, cls.hidden.unique_id, in_browser=bool(workflow_id))
        return run_output(folders, [("finished", "")] * len(folders))


class MixGRPOApplyRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ApplyRun",
            display_name="MixGRPO Apply Run",
            category=CATEGORY,
            description="Puts a finished run's LoRA onto a model, as ComfyUI's own LoRA loader does. Nothing that is "
            "connected to model, clip and vae is loaded before the run has finished: the training has the GPU.",
            inputs=[
                io.Model.Input(
                    "model", lazy=True, tooltip="The model that was trained. It is loaded after the training only."
                ),
                RUN.Input("run", optional=True, tooltip="A finished run, from MixGRPO Train or Wait."),
                io.String.Input(
                    "run_id", default="", optional=True, tooltip="The id of a run, when none is connected above."
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-100.0, max=100.0, step=0.01,
                    tooltip="How strongly the LoRA acts: 0 not at all, 1 as trained.",
                ),
                io.Combo.Input(
                    "which", options=list(paths.WHICH), default=paths.LAST, optional=True,
                    tooltip="last: the LoRA at the end of the training. best: the one whose held-out prompts scored "
                    "best, by the watched reward if there is one; it needs a run with evaluate_every above 0.",
                ),
                io.Clip.Input(
                    "clip", optional=True, lazy=True,
                    tooltip="Passed through. It is loaded after the training only, as the model is.",
                ),
                io.Vae.Input(
                    "vae", optional=True, lazy=True,
                    tooltip="Passed through. It is loaded after the training only, as the model is.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the run's LoRA."),
                io.String.Output(display_name="lora_name", tooltip="The LoRA's name in ComfyUI's LoRA loaders."),
                io.Model.Output(
                    display_name="base_model", tooltip="The model as it was, without the LoRA, for a comparison."
                ),
                io.Clip.Output(display_name="clip", tooltip="What is connected to clip, once the run has finished."),
                io.Vae.Output(display_name="vae", tooltip="What is connected to vae, once the run has finished."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, run_id: str = "", which: str = paths.LAST, **_: Any) -> tuple | str:
        folder = overview.find(run_id.strip()) if run_id else None
        return published_lora.version(folder, which) if folder else run_id

    @classmethod
    def check_lazy_status(
        cls, run: dict | None = None, run_id: str = "", which: str = paths.LAST, **values: Any
    ) -> list[str]:
        published_lora.require_finished(find_run(run, run_id), which)
        return [name for name in ("model", "clip", "vae") if name in values and values[name] is None]

    @classmethod
    def execute(
        cls,
        model: Model,
        strength: float,
        run: dict | None = None,
        run_id: str = "",
        which: str = paths.LAST,
        clip: Clip | None = None,
        vae: Vae | None = None,
    ) -> io.NodeOutput:
        folder = find_run(run, run_id)
        tuned = published_lora.apply(folder, model, strength, which)
        return io.NodeOutput(tuned, published_lora.name(folder, which), model, clip, vae)


def made_of(settings: dict[str, Any], place: int, count: int, hidden: Any) -> dict:
    """The job of one of a Train node's runs. Raises ValueError with one sentence, which says which run it is about."""
    try:
        return job.make(hidden.dynprompt, hidden.unique_id, LAZY, **settings)
    except ValueError as error:
        if count == 1:
            raise
        raise ValueError(f"Run {place} of {count} can't be started, so none is: {error}") from None


def find_run(run: dict | None = None, run_id: str | None = "") -> RunFolder:
    """The folder of a connected run or a typed id. Raises ValueError with one sentence when there is none."""
    wanted = run["run_id"] if run else (run_id or "").strip()
    if not wanted:
        raise ValueError("No run is given: connect a run, or write a run's id into run_id.")
    folder = overview.find(wanted)
    if folder is None:
        raise ValueError(f"There is no run '{readable(wanted, 200)}' in ComfyUI's output folder: check the id.")
    return folder


def run_output(folders: Sequence[RunFolder], told: Sequence[tuple[str, str]]) -> io.NodeOutput:
    """Outputs and ui of Train and Wait, always lists of the same keys. told: (action, what else to say) of each."""
    every, ids = [overview.summary(folder) for folder in folders], [folder.name for folder in folders]
    said = zip(every, told, strict=True)
    ui = {
        "images": [image for each in every for image in each["images"]],
        "text": ["\n".join(filter(None, [describe(each, action), note])) for each, (action, note) in said],
        "run_id": ids,
        "files": [file for each in every for file in each["files"]],
    }
    return io.NodeOutput([{"run_id": name} for name in ids], ids, ui=ui)


def describe(summary: dict, action: str) -> str:
    """A run in a few lines for people."""
    lines = [f"Run {summary['run_id']}: {summary['state']}, {wait.line(summary)}"]
    measured = stored_prompts.measured(summary.get("held_out_prompts"))
    if summary.get("held_out_reward"):
        lines.append(f"{measured.capitalize()}: {events.scores(summary['held_out_reward'])}")
    best = summary.get("best")
    if best and best.get("lora"):
        score = "" if best.get("score") is None else f" ({best['score']:.3f})"
        lines.append(f"Best on {measured} after iteration {best['iteration']}{score}: {best['lora']}")
    if summary["state"] == "finished":
        lines.append(f"LoRA: {summary.get('lora', '')}")
        if summary.get("message"):
            lines.append(summary["message"])
    elif action != "finished" and summary.get("stage") != turns.STAGE:
        lines.append(f"{action.capitalize()} in the background. Log: {summary['log']}")
    return "\n".join(lines)


NODES = [MixGRPOTrain, MixGRPOWait, MixGRPOApplyRun]
