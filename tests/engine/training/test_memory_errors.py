"""Memory that runs out at one chosen point of an iteration: the work is done again, and ends where it would have."""

import pytest
import torch

from mixgrpo_engine.memory.micro_batches import OutOfMemory
from mixgrpo_engine.training.experience import _scoring_thread

# An update moves the adapter by about 0.05; other batch sizes may round differently.
SAME = {"atol": 1e-6, "rtol": 1e-5}


class FailsAt:
    """Raises the error at its n-th call, counted from 1, and never again."""

    def __init__(self, number):
        self.left, self.raised = number, False

    def __call__(self, *_):
        self.left -= 1
        if self.left == 0:
            self.raised = True
            raise OutOfMemory("made up")


def in_model_calls(trainer, fail, wanted):
    """fail() before each model call for which wanted() is true."""
    trainer.module.register_forward_pre_hook(lambda *_: fail() if wanted() else None)


def in_rollout(trainer, fail):
    in_model_calls(trainer, fail, lambda: not torch.is_grad_enabled() and trainer.module.on)


def in_decode(trainer, fail):
    decode = trainer.policy.decode
    trainer.policy.decode = lambda latents: fail() or decode(latents)


def in_update_forward(trainer, fail):
    in_model_calls(trainer, fail, torch.is_grad_enabled)


def in_update_backward(trainer, fail):
    trainer.policy.module.adapter.weight.register_hook(lambda gradient: fail())


def in_base_call(trainer, fail):
    in_model_calls(trainer, fail, lambda: not trainer.module.on)


# Of 12 calls of the rollout and 6 of the updates, 3 a minibatch: the first, one in between, one of the second half.
POINTS = [
    (in_rollout, 1), (in_rollout, 4), (in_rollout, 9), (in_decode, 1), (in_decode, 2), (in_update_forward, 1),
    (in_update_forward, 3), (in_update_forward, 5), (in_update_backward, 1), (in_update_backward, 2),
    (in_update_backward, 6), (in_base_call, 1), (in_base_call, 3), (in_base_call, 5),
]  # fmt: skip


@pytest.fixture
def train(toy, tmp_path):
    """`train(inject, fail)` is a trainer after one iteration of 2 prompts with 6 images, in several calls each."""

    def run(inject=None, fail=None, **changes):
        settings = toy.config(
            rollout={"batch_size": 6}, optimizer={"batch_size": 3}, loss={"kl_weight": 0.5, "clip_range": 0.2},
            run={"iterations": 1, "evaluate_every": 0, **changes},
        )  # fmt: skip
        trainer = toy.make(tmp_path / f"{inject}", settings)
        with torch.no_grad():  # so that the base is another model than the policy
            trainer.policy.module.adapter.bias.fill_(0.3)
        if inject:
            inject(trainer, fail)
        assert trainer.run() == "finished"
        return trainer

    return run


@pytest.mark.parametrize(("inject", "number"), POINTS)
def test_an_iteration_ends_as_if_nothing_had_happened(toy, train, inject, number):
    fail = FailsAt(number)
    smooth, tight = train(), train(inject, fail)
    assert fail.raised, "the point was never reached"
    assert sum("Out of memory" in event["message"] for event in toy.events(tight, "notice")) == 1
    for name, value in toy.adapter(smooth).items():
        torch.testing.assert_close(toy.adapter(tight)[name], value, **SAME)
    assert (smooth.policy.module.adapter.bias - 0.3).abs().max() > 0.01
    one, other = (toy.events(trainer, "iteration")[0] for trainer in (smooth, tight))
    for figure in ("loss", "grad_norm", "ratio_deviation", "clip_fraction"):
        assert other[figure] == pytest.approx(one[figure], rel=1e-4, abs=1e-7), figure
    assert other["reward"] == one["reward"]


def test_several_errors_in_an_iteration_halve_until_one_image_is_left(toy, train):
    smooth, fails = train(), [FailsAt(1), FailsAt(2)]

    def inject(trainer, _):
        for fail in fails:
            in_update_backward(trainer, fail)

    tight = train(inject)
    assert all(fail.raised for fail in fails) and tight.updates.batch_size.size == 1
    for name, value in toy.adapter(smooth).items():
        torch.testing.assert_close(toy.adapter(tight)[name], value, **SAME)


def test_the_adapter_is_on_again_after_an_error_in_the_base_call(train):
    assert train(in_base_call, FailsAt(2)).module.on


def test_an_error_that_comes_again_and_again_ends_the_run_by_its_name(train):
    def always():
        raise OutOfMemory("made up")

    with pytest.raises(OutOfMemory, match="made up"):
        train(in_update_forward, always)


@pytest.mark.parametrize("beside", ["cpu", "cuda"])
def test_a_scorer_without_memory_ends_the_run_by_its_own_name(toy, tmp_path, beside):
    """In the training's own thread and in another one: no smaller rollout would help it."""

    class Huge(toy.ToyReward):
        name, calls = "huge", 0

        def score(self, images, prompts):
            self.calls += 1
            if self.calls > 2:
                raise OutOfMemory("Tried to allocate 3 GiB.")
            return super().score(images, prompts)

    scorer, settings = Huge(), toy.config(run={"evaluate_every": 0, "checkpoint_every": 50})
    trainer = toy.make(tmp_path / "run", settings, scorer)
    trainer.sampler._scoring = _scoring_thread(torch.device(beside))
    with pytest.raises(RuntimeError, match=r"reward 'huge' with 6 images: lower its batch_size .* 3 GiB") as raised:
        trainer.run()
    assert not isinstance(raised.value, OutOfMemory), "whoever hears that one gives advice about the model"
    assert scorer.calls <= 4 and trainer.sampler.batch_size.size == 0, "the rollout wasn't done again"
    assert not toy.events(trainer, "notice")
    assert [event["iteration"] for event in toy.events(trainer, "checkpoint")] == [1], "what was trained is kept"


def test_a_scorer_without_memory_is_named_in_an_evaluation_too(toy, tmp_path):
    class Huge(toy.ToyReward):
        def score(self, images, prompts):
            raise OutOfMemory("made up")

    with pytest.raises(RuntimeError, match="Out of memory in the reward 'toy'"):
        toy.make(tmp_path / "run", toy.config(), Huge()).run()
