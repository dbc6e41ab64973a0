"""`python -m mixgrpo_engine train run.json` and `... evaluate run.json`: the same runs as in ComfyUI, without it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

FINISHED, FAILED, MISUSED = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 finished or cancelled, 1 failed, 2 a wrong run file."""
    asked = _parser().parse_args(arguments)
    from .records import events, readable
    from .standalone import console, run_file, runner, settings_page

    readable.never_fail_to_print()
    if asked.command == "settings":
        _say(settings_page.page())
        return FINISHED

    try:
        run = runner.Run(run_file.read(asked.run_file, asked.reward), lambda event: _say(console.line(event)))
    except (ValueError, OSError) as error:
        _complain(error)
        return MISUSED
    should_stop = _listen(run.ranks.is_main_process)
    try:
        if asked.command == "train":
            runner.train(run, should_stop)
        else:
            for which, rewards in runner.evaluate(run, should_stop).items():
                _say(f"{which}: {events.scores(rewards)}")
    except runner.Stopped:
        _say("Cancelled.")
    except Exception as error:  # the outermost frame; the run folder has the traceback
        _complain(error)
        if asked.command == "train" and run.folder.events.exists():
            print(f"What happened stands in {run.folder.events}.", file=sys.stderr)
        return FAILED
    return FINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mixgrpo_engine",
        description="Aligns a diffusers model with human preference by MixGRPO, without ComfyUI. On several GPUs: "
        "accelerate launch -m mixgrpo_engine train run.json.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    about = {
        "train": "train as run.json says; a run that was cancelled or killed goes on from its last checkpoint",
        "evaluate": "score held-out prompts with the base model and with what the run has trained",
    }
    for name, text in about.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("run_file", metavar="run.json")
        command.add_argument(
            "--reward",
            action="append",
            default=[],
            metavar="MODULE:NAME",
            help="a reward of your own beside the run file's: an object with name and score(images, prompts), or a "
            "class of such, in a module on Python's path or in the working folder; may be given several times",
        )
    text = "print what can be set in run.json, as Markdown"
    commands.add_parser("settings", help=text, description=text)
    return parser


def _listen(is_main: bool) -> Callable[[], bool]:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; a second one ends the process at once."""
    asked = []

    def on_signal(number: int, _: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if is_main:
            _say("Stopping: the checkpoint is saved first. Press Ctrl-C again to end at once.")

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return lambda: bool(asked)


def _say(text: str) -> None:
    if text:
        print(text, flush=True)


def _complain(error: Exception) -> None:
    print(f"error: {str(error).strip() or type(error).__name__}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    from .distributed.ranks import leave

    sys.exit(leave(main()))
