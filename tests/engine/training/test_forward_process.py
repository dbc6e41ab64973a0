"""DiffusionNFT in the loop: who samples, what is descended, and that a resume finds the old policy again."""

import pytest
import torch

from mixgrpo_engine.forward_process import nft_loss
from mixgrpo_engine.training.policy_update import Minibatch
from mixgrpo_engine.training.update_plan import trained_places

NFT = dict(
    rollout={"shared_noise": False, "tail_order": 2},
    window={"size": 0, "trained_share": 0.6},
    loss={"surrogate": "nft", "nft_beta": 0.5, "old_decay": 0.3, "old_decay_growth": 0.2, "kl_weight": 0.01},
)


def settings(toy, **groups):
    return toy.config(**{name: {**NFT.get(name, {}), **groups.get(name, {})} for name in {**NFT, **groups}})


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    trainer = toy.make(tmp_path_factory.mktemp("nft") / "run", settings(toy))
    trainer.run()
    return trainer


def test_it_learns_without_a_ratio(toy, whole):
    iterations = toy.events(whole, "iteration")
    assert {(event["ratio_deviation"], event["clip_fraction"]) for event in iterations} == {(None, None)}
    assert all(event["kl"] > 0 and event["updates"] == 2 for event in iterations[1:])
    first, last = toy.events(whole, "evaluation")[0], toy.events(whole, "evaluation")[-1]
    assert last["reward"]["toy"] > first["reward"]["toy"] + 0.05
    # 12 images run 6 steps and 3 noise levels; at each of these the new policy and the base model run too.
    assert [event["forwards"] for event in iterations] == [12 * (6 + 3 * 3) * number for number in range(1, 9)]


def test_the_old_policy_follows_at_its_decay(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", settings(toy))
    expected = [parameter.detach().clone() for parameter in trainer.parameters]
    for number in range(1, 4):
        trainer.step()
        decay = min(0.3, 0.2 * number)
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, trainer.parameters, strict=True)]
        torch.testing.assert_close(trainer.old.averages, [each.detach() for each in expected])


def test_the_old_policy_samples_and_the_new_one_learns(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", settings(toy))
    seen, calls = [], []
    collect, update = trainer.sampler.collect, trainer.updates.update
    trainer.sampler.collect = lambda *given: (seen.append(snapshot(trainer)), collect(*given))[1]
    trainer.updates.update = lambda *given: (calls.append(snapshot(trainer)), update(*given))[1]
    for _ in range(4):
        old, new = [each.clone() for each in trainer.old.averages], snapshot(trainer)
        trainer.step()
        torch.testing.assert_close(seen[-1], old, rtol=0, atol=0)
        torch.testing.assert_close(calls[-1], new, rtol=0, atol=0)
    assert not all(torch.equal(*pair) for pair in zip(seen[-1], calls[-1], strict=True)), "else the test says nothing"


def snapshot(trainer):
    return [parameter.detach().clone() for parameter in trainer.parameters]


def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(toy, tmp_path, whole):
    broken = toy.make(tmp_path / "run", settings(toy))
    broken.pulse.should_stop = lambda: broken.iteration >= 3
    assert broken.run() == "cancelled"
    resumed = toy.make(tmp_path / "run", settings(toy))
    assert resumed.run() == "finished" and toy.events(resumed, "stage")[0]["name"] == "resume"
    assert all(torch.equal(value, toy.adapter(resumed)[name]) for name, value in toy.adapter(whole).items())
    assert all(torch.equal(*pair) for pair in zip(whole.old.averages, resumed.old.averages, strict=True))
    assert resumed.old.updates == whole.old.updates == 8


@pytest.mark.parametrize("batch", [0, 2, 1000])
def test_gradient_is_that_of_the_equation_image_by_image(toy, tmp_path, batch):
    trainer = toy.make(tmp_path / "run", settings(toy, loss={"kl_weight": 0.0}, optimizer={"batch_size": batch}))
    condition, window = trainer.policy.condition(["up", "down"]), range(0, 5)
    trajectory, places = trainer.sampler.rollout(0, window, ["up", "down"]), trained_places(trainer.config, 5, 0)
    with torch.no_grad():  # the policy has moved since the rollout
        for parameter in trainer.parameters:
            parameter += 0.2
    rows, advantages = torch.tensor([10, 1, 7]), torch.linspace(-6, 6, 12)
    loss, *_ = trainer.updates.accumulate(Minibatch(trajectory, condition, advantages, rows, places, 4))
    terms = []
    for place in places:
        sigma = float(trajectory.sigmas[window[place]])
        for row in rows.tolist():
            state = trajectory.states[place, [row]]
            velocity = trainer.module(state, sigma, condition.select([row // 6]))
            old = trajectory.velocities[place, [row]]
            terms.append(nft_loss(velocity, old, state, trajectory.latents[[row]], sigma, advantages[[row]], 5.0, 0.5))
    expected = sum(terms) / (4 * len(places))  # one of the minibatch's images has no advantage
    torch.testing.assert_close(loss, expected.detach())
    for parameter, gradient in zip(trainer.parameters, torch.autograd.grad(expected, trainer.parameters), strict=True):
        assert gradient.norm() > 1e-3
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_how_images_are_rolled_out_changes_nothing(toy, tmp_path):
    whole, split = (toy.make(tmp_path / f"{size}", settings(toy, rollout={"batch_size": size})) for size in (0, 6))
    for trainer in (whole, split):
        trainer.step()
    torch.testing.assert_close(snapshot(whole), snapshot(split))
