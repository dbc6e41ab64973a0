"""The engine's trainer on the real embedded model, through ComfyPolicy."""

import pytest
import torch

PROMPTS = ("a red circle on a white background", "two blue squares", "a green triangle above a yellow circle")


@pytest.fixture(scope="module")
def make(room, tmp_path_factory):
    """`make(groups of settings)` is a Trainer in a folder of its own, and its events."""
    tiny, conditioning, text_encoder = (
        room(f"nodes.{name}") for name in ("tiny.tiny_model", "model.conditioning", "tiny.text_encoder")
    )
    engine = {
        name.rpartition(".")[2]: room(f"mixgrpo_engine.{name}")
        for name in ("config", "prompts", "records.run_folder", "training.trainer")
    }
    with torch.no_grad():
        encoded = conditioning.encode_prompts(text_encoder.load_clip(tiny.TEXT_ENCODER), [*PROMPTS, ""])

    def build(**groups):
        values = {
            "rollout": {"steps": 8, "group_size": 4, "prompts_per_iteration": 2},
            "window": {"size": 3},
            "optimizer": {"updates": 2, "learning_rate": 1e-3},
            "adapter": {"rank": 4},
            "run": {"iterations": 1, "evaluate_every": 0, "width": 64, "height": 64},
        }
        for group, changes in groups.items():
            values[group] |= changes
        config = engine["config"].TrainConfig.from_dict(values)
        policy = room("nodes.model.policy").ComfyPolicy(
            tiny.load_model(), tiny.load_vae(), encoded, width=64, height=64, cfg=config.rollout.cfg,
            adapter=config.adapter, seed=0, gradient_checkpointing=config.run.gradient_checkpointing,
        )  # fmt: skip
        reward = room("mixgrpo_engine.rewards.shapes").ShapesReward()
        folder, events = engine["run_folder"].RunFolder(tmp_path_factory.mktemp("run")), []
        prompts = engine["prompts"].PromptSet(PROMPTS)
        return engine["trainer"].Trainer(policy, {"shapes": reward}, prompts, config, folder, events.append), events

    return build


@pytest.mark.parametrize("transition", ["flow_sde", "dance_sde", "cps"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_ratio_is_1_before_the_first_update(room, make, transition, cfg):
    trainer, _ = make(rollout={"transition": transition, "cfg": cfg})
    condition = trainer.policy.condition(PROMPTS[:2])
    trajectory = trainer.sampler.rollout(0, range(1, 4), PROMPTS[:2])
    rows = torch.tensor([6, 0, 3])  # a minibatch: other rows, another batch size
    for place in range(3):
        minibatch = room("mixgrpo_engine.training.policy_update").Minibatch(
            trajectory, condition, torch.ones(8), rows, [place], 3
        )
        (states,) = trainer.updates.split_into_calls(minibatch, 3)
        velocity = trainer.updates.velocity(minibatch, states)
        rows = torch.tensor([state.row for state in states])
        mean, std = trainer.updates.step_mean(minibatch, place, rows, velocity)
        new = room("mixgrpo_engine.transitions").log_prob(trajectory.states[place + 1, rows], mean.detach(), std)
        ratio = torch.exp(new - trajectory.log_probs[place, rows])
        # An update moves the ratio by about 1e-5: rounding has to be well below that.
        torch.testing.assert_close(ratio, torch.ones(len(rows)), atol=1e-6, rtol=0)


def test_an_update_changes_the_adapter_and_nothing_else(make):
    trainer, events = make()
    adapter = {id(tensor) for tensor in trainer.policy.adapter_state().values()}
    before = {name: tensor.clone() for name, tensor in trainer.policy.module.state_dict(keep_vars=True).items()}
    trainer.run()
    changed = set()
    for name, tensor in trainer.policy.module.state_dict(keep_vars=True).items():
        if not torch.equal(tensor, before[name]):
            changed.add(name)
            assert id(tensor) in adapter, name
    assert changed
    iteration = next(event for event in events if event.type == "iteration")
    assert iteration.grad_norm > 0 and 0 < iteration.ratio_deviation < 1e-2


def test_checkpointed_and_split_updates_give_the_same_adapter(room, make):
    plain, careful = make()[0], make(run={"gradient_checkpointing": True}, optimizer={"batch_size": 1})[0]
    for trainer in (plain, careful):
        condition = trainer.policy.condition(PROMPTS[:2])
        trajectory = trainer.sampler.rollout(0, range(1, 4), PROMPTS[:2])
        advantages = torch.linspace(-1, 1, 8)
        trainer.updates.accumulate(
            room("mixgrpo_engine.training.policy_update").Minibatch(
                trajectory, condition, advantages, torch.arange(8), range(3), 8
            )
        )
    for one, other in zip(plain.parameters, careful.parameters, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-3)
