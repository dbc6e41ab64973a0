"""Graphs that nobody should queue, in a real server: whatever a node of the pack refuses, it refuses in a sentence.

The server's trainings end at once (stub/), and models are tiny.
"""

import copy
import json
import random
import re
from collections import Counter
from pathlib import Path

from tests.comfyui import graphs
from tests.faults import hostile

STUB = Path(__file__).parent / "stub"
BATCH = 40
NO_SENTENCES = re.compile(
    r"^(\w*\.)*(Type|Key|Attribute|Index|Assertion|Name|UnboundLocal|ZeroDivision|Recursion|Overflow|Unicode\w*|Import"
    r"|NotImplemented|StopIteration|JSONDecode|System|BrokenPipe|FileExists|IsADirectory|NotADirectory)Error$"
)
"""Types of exceptions that say where a program broke, and nothing to people."""

LONGEST = 1500  # characters of a sentence; errors may quote what was given, cut
SLOW = ("steps", "width", "height", "batch_size", "images_per_prompt", "group_size", "frames", "timeout", "seconds")
"""Inputs of which a large value is no fault, and a long wait."""


def bases() -> list[dict]:
    """Sound graphs, each small enough to be executed many times a second."""

    def node(class_type: str, **inputs: object) -> dict:
        return {"class_type": class_type, "inputs": inputs}

    image = node("EmptyImage", width=16, height=16, batch_size=2, color=255)
    scored = {
        "image": image,
        "shapes": node("MixGRPO_RewardShapes"),
        "jpeg": node("MixGRPO_RewardJPEG", kind="compressibility"),
        "mix": node("MixGRPO_RewardMix", reward_1=["shapes", 0], reward_2=["jpeg", 0], weight_2=0.5),
        "score": node("MixGRPO_Score", images=["image", 0], reward=["mix", 0], prompt="a red circle"),
        "pick": node("MixGRPO_PickBest", images=["score", 4], scores=["score", 2], top_k=1),
        "save": node("MixGRPO_SaveScored", images=["pick", 0], scores=["pick", 3], filename_prefix=hostile.MARK),
    }
    judged = {
        "image": image,
        "judge": node("MixGRPO_RewardJudge", urls="http://127.0.0.1:1", model="m"),
        "score": node("MixGRPO_Score", images=["image", 0], reward=["judge", 0], prompt="a red circle"),
        "show": node("PreviewAny", source=["score", 2]),
    }
    prompts = {
        "prompts": node("MixGRPO_Prompts", text="red\nblue\ngreen", file="none", held_out=1, split_seed=0),
        "show": node("PreviewAny", source=["prompts", 1]),
    }
    run = {
        "wait": node("MixGRPO_Wait", run_id="mgfuzz-0", timeout=1),
        "model": node("Test_Model", fail=""),
        "apply": node("MixGRPO_ApplyRun", model=["model", 0], run_id="mgfuzz-0", strength=1.0, which="last"),
        "count": node("Test_CountPatches", model=["apply", 0]),
    }
    sampled = {
        "model": node("Test_Model", fail=""),
        "sigmas": node("MixGRPO_Sigmas", model=["model", 0], steps=4),
        "show": node("PreviewAny", source=["sigmas", 0]),
        "sampler": node("MixGRPO_Sampler"),
        "guider": node("MixGRPO_HybridGuider", tuned=["model", 0], base=["model", 0], positive=["sigmas", 0]),
        "tell": node("PreviewAny", source=["sampler", 0]),
    }
    folder = {
        "folder": node("MixGRPO_DiffusersModel", folder="none"),
        "show": node("Test_CountPatches", model=["folder", 0]),
    }
    trainings = [graphs.train(hostile.MARK, mode=mode, sample_every=1) for mode in ("detached", "wait")]
    return [*trainings, trainings[0], scored, scored, judged, prompts, run, sampled, folder]


def make(draw: random.Random, running) -> dict:
    """A sound graph, with one to four things wrong."""
    graph = running._with_defaults(copy.deepcopy(draw.choice(bases())))
    for _ in range(draw.randint(1, 4)):
        name = draw.choice(list(graph))
        inputs, kind = graph[name]["inputs"], draw.random()
        specs = _specs(running, graph[name])
        which = draw.choice([*specs, *inputs, "x"])
        if kind < 0.5:
            inputs[which] = _near(draw, which, specs.get(which))
        elif kind < 0.65:
            inputs[which] = [draw.choice([*graph, "gone"]), draw.choice((0, 0, 1, 2, 9, -1, "0", None))]
        elif kind < 0.8:  # what ComfyUI checks of a widget it doesn't check of a link
            graph["value"] = {"class_type": "Test_Value", "inputs": {"text": _json(_near(draw, which, None))}}
            inputs[which] = ["value", 0]
        elif kind < 0.9:
            inputs.pop(which, None)
        elif kind < 0.95:
            graph[name]["class_type"] = draw.choice([node["class_type"] for node in graph.values()])
        else:
            graph[f"{name}:{draw.choice(hostile.TEXTS)[:20]}"] = copy.deepcopy(graph[name])
    for node in graph.values():
        # ComfyUI checks links of inputs that a node has; others it follows, and its executor ends for good where one of
        # them leads nowhere in the end.
        specs, inputs = _specs(running, node), node["inputs"]
        for name in [each for each in inputs if each not in specs and _is_link(inputs[each])]:
            if inputs[name] != ["value", 0] or not isinstance(graph["value"]["inputs"].get("text"), str):
                del inputs[name]
    return graph


def _specs(running, node: dict) -> dict[str, list]:
    """A node's inputs by name."""
    known = running.node_info(node["class_type"])["input"]
    return {**known.get("required", {}), **known.get("optional", {})}


def _is_link(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and isinstance(given[0], str)


def _near(draw: random.Random, name: str, spec: list | None) -> object:
    """A hostile value, or one at the bounds that the input has."""
    options = dict(spec[1]) if spec and len(spec) > 1 else {}
    choices = [options[each] for each in ("min", "max", "default") if each in options]
    choices += [bound + step for bound in choices for step in (-1, 1) if type(bound) in (int, float)]
    found = draw.choice(choices) if choices and draw.random() < 0.4 else hostile.value(draw)
    is_slow = name in SLOW and type(found) in (int, float) and not found < 100
    return 3 if is_slow else found


def _json(value: object) -> str:
    return json.dumps(value)


def complaint(data: dict) -> str:
    """What is wrong with an execution_error, "" when nothing is."""
    words, kind = data["exception_message"].strip(), data["exception_type"]
    if not data["node_type"].startswith("MixGRPO_"):
        return ""
    if NO_SENTENCES.search(kind):
        return f"{kind} says nothing to people"
    if re.search(r"\[Errno|Traceback|<class |object at 0x|0x[0-9a-f]{8}", words) or not words:
        return "its message is no sentence"
    return "its message is too long" if len(words) > LONGEST and data["node_type"] != "MixGRPO_Wait" else ""


def queue(running, graph: dict) -> tuple[str | None, str]:
    """(the prompt's id, what is wrong with the answer); None for a graph that ComfyUI itself refuses."""
    status, answer = running.request("POST", "/prompt", {"prompt": graph, "client_id": "fuzz"})
    if status == 200:
        return answer["prompt_id"], ""
    return None, "" if status == 400 else f"/prompt answers {status}: {str(answer)[:500]}"


def check(running, graphs_of: dict[str, dict], kinds: Counter) -> None:
    """Waits for prompts and looks at how they ended."""
    for prompt_id, graph in graphs_of.items():
        entry = running.result(prompt_id, 120)
        told = graphs.error_of(entry)
        kinds["executed" if told is None else "refused"] += 1
        if told and told["event"] == "execution_error" and (wrong := complaint(told)):
            seen = {name: told[name] for name in ("node_type", "exception_type", "exception_message", "traceback")}
            raise AssertionError(f"{wrong}: {json.dumps(seen, indent=1)[:4000]}\nThe graph: {json.dumps(graph)[:4000]}")


def ask(running, count: int, draw: random.Random) -> Counter:
    kinds, waiting = Counter(), {}
    for _ in range(count):
        graph = make(draw, running)
        log = running.log.stat().st_size
        prompt_id, wrong = queue(running, graph)
        if wrong and "/nodes/" in running.log.read_bytes()[log:].decode(errors="replace"):
            raise AssertionError(f"{wrong}\nThe graph: {json.dumps(graph)[:4000]}")
        if prompt_id is None:
            kinds["ComfyUI's own failure" if wrong else "invalid"] += 1
            continue
        waiting[prompt_id] = graph
        if len(waiting) == BATCH:
            check(running, waiting, kinds)
            waiting = {}
            running.request("POST", "/history", {"clear": True})
    check(running, waiting, kinds)
    return kinds


def fuzz(place: Path, count: int, seed: int):
    with hostile.server(place, {"stub": STUB}) as running:
        kinds = ask(running, count, random.Random(seed))
        hostile.require_quiet_log(running)
        hostile.require_nothing_outside(place, running)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    yield f"{count} graphs (seed {seed}): {told}; a sentence for each refusal, no file outside."
