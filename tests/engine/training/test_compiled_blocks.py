"""torch.compile as a setting: the same training, nothing compiled in mid-run, and no compiler's failure ends it."""

import functools
import shutil
import sys

import torch
from torch import nn
from torch._dynamo.utils import counters

from mixgrpo_engine.block_swap import BlockSwap
from mixgrpo_engine.training import compiled_blocks

toy = sys.modules["toy"]


class Block(nn.Module):
    """Adds to its input in place, as FLUX's blocks do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4).requires_grad_(False)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x, options):
        x += self.linear(x).tanh()
        return x


class ModuleOfBlocks(toy.ToyModule):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, latents, sigma, condition):
        x = super().forward(latents, sigma, condition).flatten(1)
        for number, block in enumerate(self.blocks):
            x = block(x, options={"number": number})  # ComfyUI's blocks are told which they are
        return x.view_as(latents)


def trained(folder, compiles, **options):
    policy = toy.ToyPolicy()
    policy.module = ModuleOfBlocks()
    settings = toy.config(
        rollout={"prompts_per_iteration": 1},
        loss={"kl_weight": 0.01},
        run={"iterations": 3, "evaluate_every": 3, "compile_blocks": compiles},
    )
    trainer = toy.make(folder, settings, policy=policy, **options)
    return trainer, trainer.run()


def stages(trainer):
    return [event["name"] for event in toy.events(trainer, "stage")]


def test_a_compiled_training_is_the_same_and_compiles_before_its_first_call_only(tmp_path, monkeypatch):
    if not shutil.which("g++"):  # all but the machine code
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain, _ = trained(tmp_path / "plain", False)
    graphs = {}
    emit = type(plain.folder).emit
    monkeypatch.setattr(
        type(plain.folder),
        "emit",
        lambda self, event: (graphs.setdefault(event.type, counters["stats"]["unique_graphs"]), emit(self, event)),
    )
    before = counters["stats"]["unique_graphs"]
    compiled, outcome = trained(tmp_path / "compiled", True)
    assert outcome == "finished" and stages(compiled) == ["compile", "train"]
    assert "compiled, in" in toy.events(compiled, "stage")[1]["message"] and not toy.events(compiled, "notice")
    assert counters["stats"]["unique_graphs"] == graphs["evaluation"] > before
    for name, value in toy.adapter(plain).items():
        torch.testing.assert_close(toy.adapter(compiled)[name], value, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_a_training_goes_on_as_it_is_with_one_notice(tmp_path):
    plain, _ = trained(tmp_path / "plain", False)
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        compiled, outcome = trained(tmp_path / "compiled", True)
    assert outcome == "finished" and stages(compiled) == ["compile", "train"]
    (notice,) = toy.events(compiled, "notice")
    assert "can't be compiled" in notice["message"] and notice["message"].endswith("goes on without.")
    assert all(torch.equal(toy.adapter(compiled)[name], value) for name, value in toy.adapter(plain).items())


def test_a_model_of_unknown_blocks_is_one_notice(tmp_path):
    trainer = toy.make(tmp_path, toy.config(run={"iterations": 1, "compile_blocks": True}))
    assert trainer.run() == "finished" and not stages(trainer)
    (notice,) = toy.events(trainer, "notice")
    assert "its transformer blocks aren't known" in notice["message"]


class Swapped(ModuleOfBlocks):
    """Each call of its blocks fetches the weights first."""

    def __init__(self, number=2):
        super().__init__()
        self.swap = BlockSwap(self.blocks[:number], torch.device("cpu"))


def test_blocks_whose_weights_stay_in_host_memory_are_told(tmp_path, monkeypatch):
    some = compiled_blocks.CompiledBlocks(Swapped(1))
    assert (len(some), some.swapped) == (1, 1)
    patched = ModuleOfBlocks()
    patched.blocks[0].forward = functools.partial(patched.blocks[0].forward)  # by whatever else
    assert (len(compiled_blocks.CompiledBlocks(patched)), compiled_blocks.CompiledBlocks(patched).swapped) == (1, 0)
    monkeypatch.setitem(globals(), "ModuleOfBlocks", Swapped)
    trainer, outcome = trained(tmp_path / "run", True)
    assert outcome == "finished" and not stages(trainer)
    (notice,) = toy.events(trainer, "notice")
    assert "all its blocks' weights stay in host memory" in notice["message"]


def test_compiling_can_be_stopped(tmp_path):
    folder = tmp_path / "run"
    trainer, outcome = trained(
        folder, True, should_stop=lambda: (folder / "events.jsonl").read_text().count('"compile"') > 0
    )
    assert outcome == "cancelled" and not toy.events(trainer, "evaluation")
