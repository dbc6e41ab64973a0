"""A run in which something is never trained must not end as finished."""

import pytest
import torch
from torch import nn

NAMES = ("first", "second", "unused")


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
    """`policy(*without)`: a toy whose image is the sum of two layers; those that are named pass no gradient on."""

    def make(*without):
        class Module(toy.ToyModule):
            def __init__(self):
                super().__init__()
                self.adapter = nn.ModuleDict({name: Layer() for name in NAMES})

            def forward(self, latents, sigma, condition):
                x = condition.targets[:, None]
                self.adapter["unused"](x)
                parts = [self.adapter[name](x) for name in NAMES[:2]]
                image = sum(
                    part.detach() if name in without else part for name, part in zip(NAMES[:2], parts, strict=True)
                )
                sigma = sigma.view(-1, 1, 1, 1) if isinstance(sigma, torch.Tensor) else sigma
                return (latents - self.trust * image.view_as(latents)) / (1 - self.trust + self.trust * sigma)

        made = toy.ToyPolicy()
        made.module = Module()
        made.adapter_state = lambda: dict(made.module.adapter.named_parameters())
        return made

    return make


def test_a_layer_whose_output_nothing_uses_stops_no_run(toy, policy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 2}), policy=policy())
    assert trainer.run() == "finished"
    assert trainer.policy.module.adapter["first"].lora_B.weight.abs().max() > 0
    assert trainer.policy.module.adapter["unused"].lora_B.weight.abs().max() == 0


def test_a_layer_without_a_gradient_ends_the_run_by_its_name(toy, policy, tmp_path):
    trainer = toy.make(tmp_path / "run", policy=policy("second"))
    with pytest.raises(RuntimeError, match=r"No gradient reaches 1 of 3 layers with a LoRA \(second\): they would"):
        trainer.run()
    assert toy.events(trainer, "iteration") == []
    assert trainer.policy.module.adapter["second"].lora_B.weight.abs().max() == 0, "the look changes nothing"


def test_every_resume_looks_again(toy, policy, tmp_path):
    first = toy.make(tmp_path / "run", toy.config(run={"iterations": 2, "checkpoint_every": 1}), policy=policy())
    first.run()
    resumed = toy.make(tmp_path / "run", toy.config(run={"iterations": 3}), policy=policy("first"))
    with pytest.raises(RuntimeError, match=r"1 of 3 layers with a LoRA \(first\)"):
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
