"""What a taste sees through the trained model: latents of pictures, and the base's velocities."""

import torch


def test_pictures_become_the_latents_that_they_came_from(policy_of, build):
    policy = policy_of(build())
    images = policy.decode(policy.noise([0, 1]))
    latents = policy.encode(images)
    assert latents.shape == policy.noise([0, 1]).shape and latents.isfinite().all()
    larger = torch.nn.functional.interpolate(images.movedim(-1, 1), scale_factor=2).movedim(1, -1)
    torch.testing.assert_close(policy.encode(larger), latents, atol=1e-4, rtol=1e-4)


def test_the_base_is_asked_without_its_lora_and_without_guidance(policy_of, build):
    policy = policy_of(build(), cfg=4.0)
    latents, prompts = policy.noise(range(5)), ["red", "green", "red", "", "long"]
    plain = policy_of(build())
    with plain.base(), torch.no_grad():
        wanted = plain.module(latents, 0.85, plain.condition(prompts))
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    torch.testing.assert_close(policy.base_velocity(latents, 0.85, prompts), wanted, atol=1e-5, rtol=1e-4)


def test_another_model_or_size_has_another_name(policy_of, build):
    model = build()
    name = policy_of(model).fingerprint()
    assert policy_of(model, rank=8).fingerprint() == name
    assert policy_of(model, width=32).fingerprint() != name


def test_a_training_gives_its_eyes_to_a_taste(policy_of, build, room, tmp_path):
    engine = {name: room(f"mixgrpo_engine.{name}") for name in ("rewards.taste", "taste.features", "taste.votes")}
    policy, votes = policy_of(build()), engine["taste.votes"].VoteSet(tmp_path / "mine")
    images = policy.decode(policy.noise(range(4)))
    votes.vote(votes.add(images, "a green cat").id, [[0], [1, 2], [3]])
    reward = engine["rewards.taste"].TasteReward(votes, [engine["taste.features"].PictureStatistics()])
    policy.encoded.conditionings["a (green:1.2) cat"] = policy.encoded.conditionings["green"]
    for _ in range(2):  # as what is trained on, and as what is watched
        room("nodes.votes").let_see(reward, policy, ["a (green:1.2) cat"])
    assert [sum(source.blocks.values()) for source in reward.sources] == [27, 8]
    scores = reward.score(images, ["a green cat"] * 4)
    assert scores.isfinite().all() and scores[0] > scores[3]
    assert room("nodes.rewards.plain_prompts").PlainPrompts(reward).uses_policy
