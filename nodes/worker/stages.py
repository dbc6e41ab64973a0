"""Loads what the training needs from the cut graph, in an order that keeps least in memory at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.encoded_texts import EncodedTexts
from ...mixgrpo_engine.prompts import PromptSet
from ...mixgrpo_engine.records.events import Notice, Stage
from ...mixgrpo_engine.records.run_folder import RunFolder
from ...mixgrpo_engine.training.pulse import Pulse
from ..comfy_types import Clip
from ..model.encodings import StoredEncodings
from ..runs import graph, item_graph
from . import item_stage, ranks, stash
from .compat import Comfy
from .report import Reporter
from .stop import Stop

HEAVY = {"MODEL", "VAE", "CLIP"}


class Loader:
    """Executes parts of the cut graph: first the text encoder alone, if it can be loaded alone, then the rest."""

    def __init__(self, job: dict, folder: RunFolder, comfy: Comfy, reporter: Reporter, stop: Stop) -> None:
        self.graph, self.node_id = job["graph"], job["node_id"]
        self.folder, self.comfy, self.reporter, self.stop = folder, comfy, reporter, stop
        self.iterations = job["config"]["run"]["iterations"]
        inputs = self.graph[self.node_id]["inputs"]
        self.per_item = item_graph.wanted(inputs)
        # All that the training itself needs: whatever is connected but what makes conditionings.
        self.wanted = [name for name in inputs if name not in ("clip", *self.per_item)]
        self.text_of: Callable[[str], str] = str

    def load(
        self, prompts: PromptSet, config: TrainConfig, beside: list[str]
    ) -> tuple[StoredEncodings, dict[str, Any]]:
        """(encoded prompts, {"model", "vae", "reward", maybe "watch"}). Stored encodings are taken (a resume).

        beside: what isn't trained on, but asked for.
        """
        needed = prompts.needed(config.run.iterations, config.rollout.prompts_per_iteration, config.run.seed)
        self.text_of, folder = prompts.text, self.folder.path / "encodings"
        if self.per_item:
            # Of the texts only those that the items' own nodes don't make.
            guided = config.rollout.cfg != 1 and item_graph.NEGATIVE not in self.per_item
            beside = [*[config.run.negative_prompt] * guided, *beside]
        else:
            needed = [config.run.negative_prompt, *needed]
        others = StoredEncodings(folder / "beside", beside) if beside else None
        stored = StoredEncodings(folder, needed, others, of_items=bool(self.per_item))
        while ranks.index() > 0 and _missing(stored):  # the first process makes them for all
            self.stop.check()
            time.sleep(0.5)
        if not _missing(stored):
            self._require_distinct(stored.texts())
            return stored, self._execute(*self.wanted)
        if self.per_item:
            if others and others.missing():
                self._encode_beside(self._execute("clip")["clip"], others)
                self.comfy.free()
            item_stage.make(self, stored, prompts)
            self._tell(stored)
            self.comfy.free()
            loaded = self._execute(*self.wanted)
        elif self._shares_a_loader():
            loaded = self._execute("clip", *self.wanted)
            self._encode(loaded.pop("clip"), stored)
            self.comfy.free()  # the plan counts what is free
        else:
            self._encode(self._execute("clip")["clip"], stored)
            self.comfy.free()
            loaded = self._execute(*self.wanted)
        return stored, loaded

    def _execute(self, *inputs: str) -> dict[str, Any]:
        """The values of some inputs of the Train node."""
        self.stop.check()
        self.reporter.emit(Stage("load", f"Loading {', '.join(inputs)}."))
        part = self.part(*inputs)
        with self.stop.calling(self.comfy.interrupt):
            self.comfy.execute(part, self.node_id)
        # ComfyUI resets its interrupt flag when it starts: a request from just before is noticed here.
        self.stop.check()
        values = stash.take()
        for name in inputs:  # a node may give nothing, or block what comes after it
            if values.get(name) is None:
                raise ValueError(f"{name} of MixGRPO Train got nothing in the worker: connect a node that loads it.")
        return {name: values[name] for name in inputs}

    def part(self, *inputs: str) -> dict:
        """The graph of some inputs of the Train node, whose node types are all there."""
        part = graph.keep_inputs(self.graph, self.node_id, inputs)
        for node in part.values():
            self.comfy.node_class(node["class_type"], self.folder.log)
        return part

    def _encode(self, clip: Clip, stored: StoredEncodings) -> None:
        """Raises StopRequested when the run is cancelled between two prompts; the files made so far stay.

        Raises ValueError when two prompts have the same encoding.
        """
        total = len(stored)
        self.reporter.emit(Stage("encode", f"Encoding {total} prompts."))
        pulse = Pulse(self.reporter.emit, self.stop.requested, self.iterations)

        def before_each(done: int) -> None:
            self.stop.check()
            pulse.progress("encode", done, total)

        stored.encode(clip, before_each, self.text_of)
        if stored.beside:
            self._encode_beside(clip, stored.beside)
        self.stop.check()
        self._tell(stored)

    def _encode_beside(self, clip: Clip, beside: StoredEncodings) -> None:
        beside.encode(clip, lambda _: self.stop.check())

    def _tell(self, stored: StoredEncodings) -> None:
        texts = stored.texts()
        self._require_distinct(texts)
        if notice := texts.notice():
            self.reporter.emit(Notice(self.reporter.checkpoint, notice))

    def _require_distinct(self, texts: EncodedTexts) -> None:
        maker = "What is connected to positive" if self.per_item else "The text encoder"
        if twins := texts.require_distinct(self.reporter.checkpoint > 0, maker):
            self.reporter.emit(Notice(self.reporter.checkpoint, twins))

    def _shares_a_loader(self) -> bool:
        """Whether one node gives both the text encoder and something else: loading twice would cost more."""
        clip, rest = (graph.keep_inputs(self.graph, self.node_id, inputs) for inputs in (["clip"], self.wanted))
        shared = (clip.keys() & rest.keys()) - {self.node_id}
        return any(HEAVY & self.comfy.output_types(clip[i]["class_type"], self.folder.log) for i in shared)


def _missing(stored: StoredEncodings) -> bool:
    return bool(stored.missing() or (stored.beside and stored.beside.missing()))
