"""A run in which something is never trained must not end as finished."""

import pytest
import torch
from torch import nn

NAMES = ("first", "second", "unused")
PLACES = {"first": "blocks.0.first", "second": "blocks.0.second", "unused": "blocks.1.unused"}


class Layer(nn.Module):
    """B(A(x)), as a LoRA."""

    def __init__(self):
        super().__init__()
        self.lora_A, self.lora_B = nn.Linear(1, 2, bias=False), nn.Linear(2, 4, bias=False)
        nn.init.ones_(self.lora_A.weight)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.lora_B(self.lora_A(x))


@pytest.fixture
def policy(toy):
    """`policy(*without)`: a toy whose image is the sum of two layers; those that are named pass no gradient on.

    bypassed: layers that the model doesn't call, as where a block's code is another model's.
    """

    def make(*without, bypassed=()):
        class Module(toy.ToyModule):
            def __init__(self):
                super().__init__()
                self.adapter = nn.ModuleDict({name: Layer() for name in NAMES})

            def forward(self, latents, sigma, condition):
                x = condition.targets[:, None]
                self.adapter["unused"](x)
                parts = [self.adapter[name](x) for name in NAMES[:2]]
                called = [(name, part) for name, part in zip(NAMES[:2], parts, strict=True) if name not in bypassed]
                image = self.base(x) + sum(part.detach() if name in without else part for name, part in called)
                sigma = sigma.view(-1, 1, 1, 1) if isinstance(sigma, torch.Tensor) else sigma
                return (latents - self.trust * image.view_as(latents)) / (1 - self.trust + self.trust * sigma)

        made = toy.ToyPolicy()
        made.module = Module()
        made.adapter_state = lambda: {
            f"{PLACES[name]}.{part}": tensor
            for name, layer in made.module.adapter.items()
            for part, tensor in layer.named_parameters()
        }
        made.load_adapter_state = lambda state: [
            tensor.data.copy_(state[name]) for name, tensor in made.adapter_state().items()
        ]
        return made

    return make


def test_a_layer_whose_output_nothing_uses_stops_no_run(toy, policy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 2}), policy=policy())
    assert trainer.run() == "finished"
    assert trainer.policy.module.adapter["first"].lora_B.weight.abs().max() > 0
    assert trainer.policy.module.adapter["unused"].lora_B.weight.abs().max() == 0
    (notice,) = toy.events(trainer, "notice")
    assert "1 of 3 layers with a LoRA do nothing" in notice["message"] and "blocks.1.unused" in notice["message"]


def test_a_layer_without_a_gradient_ends_the_run_by_its_name(toy, policy, tmp_path):
    trainer = toy.make(tmp_path / "run", policy=policy("second"))
    with pytest.raises(
        RuntimeError, match=r"No gradient reaches 1 of 3 layers with a LoRA \(blocks\.0\.second\): they would"
    ):
        trainer.run()
    assert toy.events(trainer, "iteration") == []
    assert trainer.policy.module.adapter["second"].lora_B.weight.abs().max() == 0, "the look changes nothing"


@pytest.mark.parametrize("bypassed", [["second"], ["first", "second"]])
def test_layers_that_the_model_does_not_call_end_the_run(toy, policy, tmp_path, bypassed):
    """Their LoRA changes nothing, and yet they aren't in the last block, where that may be right."""
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 1}), policy=policy(bypassed=bypassed))
    if len(bypassed) == 2:  # something to pass a gradient back through
        trainer.policy.module.trust.requires_grad_(True)
    with pytest.raises(RuntimeError, match="No gradient reaches"):
        trainer.run()


def test_every_resume_looks_again(toy, policy, tmp_path):
    first = toy.make(tmp_path / "run", toy.config(run={"iterations": 2, "checkpoint_every": 1}), policy=policy())
    first.run()
    resumed = toy.make(tmp_path / "run", toy.config(run={"iterations": 3}), policy=policy("first"))
    with pytest.raises(RuntimeError, match=r"1 of 3 layers with a LoRA \(blocks\.0\.first\)"):
        resumed.run()


def test_an_update_without_any_gradient_is_told_and_ends_the_run_when_it_repeats(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.policy.module.adapter.register_forward_hook(lambda module, args, output: output * 0.0)
    with pytest.raises(RuntimeError, match="gradient is exactly 0 though its images have advantages"):
        trainer.run()
    (notice,) = toy.events(trainer, "notice")
    assert "nothing was learned" in notice["message"] and len(toy.events(trainer, "iteration")) == 1


def test_a_group_without_any_difference_is_no_failure(toy, tmp_path):
    class Same(toy.ToyReward):
        def score(self, images, prompts):
            return torch.ones(len(images))

    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 3}), Same())
    assert trainer.run() == "finished" and toy.events(trainer, "notice") == []
    (done,) = toy.events(trainer, "done")
    assert "In all 3 iterations no update was made" in done["message"] and "nothing was learned" in done["message"]
