"""`make demo`: posts the template workflow to a real ComfyUI, follows the training, compares before and after.

Leaves in demo-output/: before.png, after.png, reward.png, overview.png (all three), the LoRA and report.json.
An interrupted demo goes on where it stopped; a finished one starts afresh.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mixgrpo_engine.prompt_files import of_text  # noqa: E402
from mixgrpo_engine.prompts import split  # noqa: E402
from scripts import comparison  # noqa: E402
from scripts.comfyui_server import ComfyServer, ServerError, check  # noqa: E402

WORKFLOW = ROOT / "workflows" / "api" / "shapes_alignment.json"
POLL_SECONDS = 1.0
CANCEL_SECONDS = 30.0
ENDED_ALREADY = 409  # what the server answers to the cancelling of a run that has ended meanwhile


def main() -> None:
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` ends the server then, too
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if (output / "report.json").exists():
        start_afresh(output)
    started = time.monotonic()
    try:
        with ComfyServer(output / "comfyui") as server:
            say(f"ComfyUI runs at {server.url} (log: {server.log})")
            demonstrate(server, arguments, output)
    except ServerError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: stopped. The server is ended, the run's checkpoint is kept: run it again to go on.")
    say(f"Done in {time.monotonic() - started:.0f} s. Everything is in {output}")


def start_afresh(output: Path) -> None:
    """Removes what a finished demo left, and nothing else that may lie in the folder."""
    if (output / "comfyui" / "server.log").exists():
        shutil.rmtree(output / "comfyui")
    for name in ("before.png", "after.png", "reward.png", "overview.png", "lora.safetensors", "report.json"):
        (output / name).unlink(missing_ok=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="where the results go")
    parser.add_argument("--seed", type=int, help="the training seed; the workflow's by default")
    parser.add_argument("--iterations", type=int, help="iterations; the workflow's by default")
    parser.add_argument("--images", type=int, default=8, help="images a held-out prompt in the comparison")
    return parser.parse_args()


def demonstrate(server: ComfyServer, arguments: argparse.Namespace, output: Path) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    train, prompts, algorithm = (find(workflow, f"MixGRPO_{kind}") for kind in ("Train", "Prompts", "Algorithm"))
    for name in ("seed", "iterations"):
        if getattr(arguments, name) is not None:
            train[name] = getattr(arguments, name)

    run = train_and_follow(server, workflow)
    summary = server.get(f"/mixgrpo/runs/{run}")
    for file in summary["files"] + summary["images"]:
        if file["filename"] == f"{run}.safetensors":
            lora = f"{file['subfolder'].removeprefix('loras/')}/{file['filename']}"
            (output / "lora.safetensors").write_bytes(server.view(file))
        elif file["filename"] == "reward.png":
            (output / "reward.png").write_bytes(server.view(file))

    held_out = split(of_text(prompts["text"]), prompts["held_out"], prompts["split_seed"]).held_out
    say(f"Sampling {len(held_out)} held-out prompts x {arguments.images} images with stock nodes, base and LoRA: more")
    say("images than the training measured itself by, so its own held-out figure differs ...")
    setting = comparison.Setting(
        prompts=held_out, images=arguments.images, steps=algorithm["steps"], cfg=algorithm["cfg"],
        width=train["width"], height=train["height"],
    )  # fmt: skip
    before = comparison.sample(server, setting, lora=None)
    after = comparison.sample(server, setting, lora)
    report = comparison.compare(setting, before, after)
    report |= {
        "run": run,
        "seeds": {"training": train["seed"], "images": comparison.FIRST_SEED},
        "iterations": summary["iteration"],
        **totals(server.get(f"/mixgrpo/runs/{run}/events?offset=0")["events"]),
    }
    comparison.draw(setting, before, after, output)
    (output / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    comparison.show(report)


def find(workflow: dict, kind: str) -> dict:
    """The inputs of the workflow's one node of a kind."""
    return next(node["inputs"] for node in workflow.values() if node["class_type"] == kind)


def totals(events: list[dict]) -> dict:
    """What the run took in all: training seconds (evaluations and checkpoints too) and image-forwards."""
    return {
        "train_seconds": [event["train_seconds"] for event in events if event["type"] == "done"][-1],
        "forwards": [event["forwards"] for event in events if event["type"] == "iteration"][-1],
    }


def train_and_follow(server: ComfyServer, workflow: dict) -> str:
    """Posts the workflow and shows one live line until its prompt ends; returns the run's id."""
    prompt_id = server.submit(workflow)
    say("The workflow is posted; the training runs in a worker process.")
    line = LiveLine()
    try:
        while (entry := server.history(prompt_id)) is None:
            for run in active_runs(server):
                line.show(run)
            time.sleep(POLL_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        line.end()
        say("Stopping the training; its checkpoint is kept ...")
        cancel_all(server)
        raise
    line.end()
    outputs = check(entry)["outputs"].values()
    say(next(text for values in outputs for text in values.get("text", [])))
    return next(run for values in outputs for run in values.get("run_id", []))


def active_runs(server: ComfyServer) -> list[dict]:
    return [run for run in server.get("/mixgrpo/runs")["runs"] if run["state"] in ("queued", "waiting", "running")]


def cancel_all(server: ComfyServer) -> None:
    """Ends what this server does: a worker outlives its server, and nobody wants this one to."""
    server.post("/queue", {"clear": True})
    server.post("/interrupt")
    deadline = time.monotonic() + CANCEL_SECONDS
    # The prompt first: until it has ended it may still start a worker.
    while server.get("/prompt")["exec_info"]["queue_remaining"] and time.monotonic() < deadline:
        time.sleep(0.2)
    while (runs := active_runs(server)) and time.monotonic() < deadline:
        for run in runs:
            try:
                server.post(f"/mixgrpo/runs/{run['run_id']}/cancel")
            except ServerError as error:
                if error.code != ENDED_ALREADY:
                    raise
        time.sleep(0.5)


class LiveLine:
    """One line that is written over and over; without a terminal, a new line every so often."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self._last = ("", 0.0)

    def show(self, run: dict) -> None:
        text, now = describe(run), time.monotonic()
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text:<{width}.{width}}", end="", flush=True)
        elif text != self._last[0] and now - self._last[1] >= 15:
            print(text, flush=True)
            self._last = (text, now)

    def end(self) -> None:
        if self.live:
            print()


def describe(run: dict) -> str:
    """A run in a line: stage, iteration, reward, time left."""
    parts = [f"  {run.get('stage') or run['state']}"]
    if run.get("iteration"):
        parts.append(f"iteration {run['iteration']}/{run['iterations']}")
        parts += [f"{name} {value:.3f}" for name, value in run["reward"].items() if value is not None]
        parts += [f"held-out {value:.3f}" for value in (run.get("held_out_reward") or {}).values() if value is not None]
        parts.append(f"{run['eta_seconds'] / 60:.1f} min left")
    return " | ".join(parts)


def say(message: str) -> None:
    print(f"demo: {message}", flush=True)


if __name__ == "__main__":
    main()
