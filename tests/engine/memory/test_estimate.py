"""From bytes to batch sizes and sentences, with known answers."""

import pytest
import torch

from mixgrpo_engine.memory import estimate
from mixgrpo_engine.memory.estimate import GB, SLACK, WORKSPACE, Line, Needs

NEEDS = Needs(weights=10 * GB, adapter=GB, update=Line(GB, 2 * GB), rollout=Line(0, GB), kept=0, vae=GB, scorers=0)


def room_for(size):
    """Free bytes in which `size` fits beside NEEDS' constant part, with the margins."""
    return int(NEEDS.always + WORKSPACE + size * (1 + SLACK)) + 1


def test_a_line_goes_through_one_and_two_images():
    line = estimate.line_through({1: 130, 2: 160}.get)
    assert (line.fixed, line.each) == (100, 30) and line.of(4) == 220
    assert [line.images_in(room) for room in (0, 129, 130, 159, 160, 1000)] == [0, 0, 1, 1, 2, 30]


def test_batches_are_the_largest_that_fit(toy):
    config = toy.config()  # 12 images, minibatches of 6 with 2 steps
    plans = {size: estimate.plan(NEEDS, room_for(size * GB), config) for size in (3, 4.9, 5, 7, 11, 21, 27)}
    updates = {3: 1, 4.9: 1, 5: 2, 7: 3, 11: 5, 21: 10, 27: 12}
    assert {size: plan.update_batch for size, plan in plans.items()} == updates
    rollouts = {3: 3, 4.9: 4, 5: 5, 7: 7, 11: 11, 21: 0, 27: 0}
    assert {size: plan.rollout_batch for size, plan in plans.items()} == rollouts
    assert all(plan.fits for plan in plans.values())


def test_compiled_blocks_are_given_more_room(toy):
    made = estimate.plan(NEEDS, room_for(11 * GB), toy.config(run={"compile_blocks": True}))
    assert (made.rollout_batch, made.update_batch) == (10, 4)  # 11 and 5 without


def test_a_scorer_on_the_device_takes_its_room_from_the_rollout(toy):
    needs = Needs(**{**vars(NEEDS), "scorers": 4 * GB})
    made = estimate.plan(needs, room_for(13 * GB), toy.config())
    assert (made.rollout_batch, made.update_batch) == (9, 6)


def test_steps_that_are_not_trained_take_no_room_in_a_call(toy):
    settings = toy.config(window={"size": 5, "trained_share": 0.6}, optimizer={"updates": 5})  # 3 images, 3 steps
    assert estimate.plan(NEEDS, room_for(100 * GB), settings).update_batch == 9
    settings.rollout.group_size = 5000
    assert estimate.plan(NEEDS, room_for(10**6 * GB), settings).update_batch == 1024


def test_sizes_that_were_asked_for_stay(toy):
    config = toy.config(rollout={"batch_size": 11}, optimizer={"batch_size": 5})
    made = estimate.plan(NEEDS, room_for(5 * GB), config)
    assert (made.rollout_batch, made.update_batch) == (11, 5)


def test_only_what_can_not_fit_at_all_does_not_fit(toy):
    least = 14 * GB  # weights, adapter, and an update of one image
    assert NEEDS.least() == least
    assert estimate.plan(NEEDS, least, toy.config()).fits
    assert not estimate.plan(NEEDS, least - 1, toy.config()).fits


def test_a_large_vae_or_scorer_decides_too():
    needs = Needs(0, 0, Line(0, GB), Line(0, GB), vae=5 * GB, scorers=2 * GB)
    assert needs.least() == 7 * GB and needs.of_rollout(6) == 8 * GB


def test_adapter_bytes_are_those_of_adamw(toy):
    parameters = [torch.nn.Parameter(torch.zeros(1000))]
    optimizer = torch.optim.AdamW(parameters)
    parameters[0].grad = torch.ones(1000)
    optimizer.step()
    held = [parameters[0], parameters[0].grad, *optimizer.state[parameters[0]].values()]
    real = sum(tensor.nbytes for tensor in held if tensor.numel() > 1)
    assert estimate.adapter_bytes(parameters, toy.config()) == real
    assert estimate.adapter_bytes(parameters, toy.config(optimizer={"ema_decay": 0.9})) == real + 4000


def test_the_line_that_people_read(toy):
    made = estimate.plan(NEEDS, room_for(5 * GB), toy.config())
    text = estimate.Report(NEEDS, room_for(5 * GB), made, toy.config()).sentence()
    assert text == (
        "Memory, estimated: weights 10.0 GB, LoRA and optimizer 1.0 GB, update 1.0 GB + 2.0 GB an image without "
        "gradient_checkpointing, rollout 0 MB + 1.0 GB an image, VAE 1.0 GB; 17.0 GB free. rollout_batch_size 5, "
        "update_batch_size 2."
    )


BLOCKS = (3 * GB, 2 * GB, GB, GB, GB)  # of the weights, 2 GB aren't in blocks


def test_blocks_in_host_memory_leave_room_for_all_but_two_of_them():
    needs = {count: Needs(**{**vars(NEEDS), "blocks": BLOCKS, "swapped": count}) for count in range(6)}
    assert {count: each.in_host // GB for count, each in needs.items()} == {0: 0, 1: 1, 2: 3, 3: 5, 4: 7, 5: 8}
    # Two are there at once, the largest in the worst case: of one or two nothing is won.
    resident = {0: 10, 1: 10, 2: 10, 3: 9, 4: 8, 5: 7}
    assert {count: (each.always - GB) // GB for count, each in needs.items()} == resident


@pytest.mark.parametrize(
    ("asked", "checkpointing", "room", "expected"),
    [
        (-1, False, 3, (0, False, 0)),  # it fits as it is
        (-1, False, 2, (0, True, 0)),  # checkpointing is enough
        (-1, False, 1.5, (3, True, 5)),
        (-1, True, 0.5, (4, True, 7)),
        (-1, True, -9, (5, True, 8)),  # nothing is enough
        (0, False, -9, (0, False, 0)),
        (2, False, 100, (2, True, 3)),
        (9, True, 100, (5, True, 8)),
    ],
)
def test_as_few_blocks_as_it_takes_stay_in_host_memory(toy, asked, checkpointing, room, expected):
    """room: GB for one image, beside all weights and margins. An update takes 3 without checkpointing, and 2 with."""

    def needs_of(config):
        update = Line(0, (2 if config.run.gradient_checkpointing else 3) * GB)
        return Needs(**{**vars(NEEDS), "update": update, "blocks": BLOCKS})

    config = toy.config(run={"swapped_blocks": asked, "gradient_checkpointing": checkpointing})
    free = int(NEEDS.always + WORKSPACE + room * (1 + SLACK) * GB) + 1
    fitted, needs = estimate.fitted(needs_of, free, config)
    swapped, switched_on, in_host = expected
    assert (fitted.run.swapped_blocks, needs.swapped, needs.in_host) == (swapped, swapped, in_host * GB)
    assert fitted.run.gradient_checkpointing == switched_on


def test_what_swapping_costs_is_told(toy):
    needs = Needs(**{**vars(NEEDS), "blocks": BLOCKS, "swapped": 4})
    made = estimate.plan(needs, 20 * GB, toy.config())
    text = estimate.Report(needs, 20 * GB, made, toy.config(), switched_on=True).sentence()
    assert text.endswith(
        "4 of 5 blocks stay in host memory: 7.0 GB come over the bus in each model call and once more in its backward "
        "pass, 0.63 s each time at 12 GB/s (assumed), partly while others compute. gradient_checkpointing is switched "
        "on for it."
    )


def test_what_does_not_fit_names_the_first_change_that_helps(toy):
    def needs(update):
        return Needs(**{**vars(NEEDS), "update": Line(0, update * GB)})

    made = estimate.plan(NEEDS, 13 * GB, toy.config())
    others = (("switch on gradient_checkpointing", needs(3)), ("train at 384 x 384", needs(1)), ("z", needs(0)))
    text = estimate.Report(NEEDS, 13 * GB, made, toy.config(), others).too_much()
    assert "needs about 14.0 GB" in text and "13.0 GB are free: train at 384 x 384 (about 12.0 GB)." in text
    text = estimate.Report(NEEDS, 13 * GB, made, toy.config(), others[:1]).too_much()
    assert "a device with more memory" in text


@pytest.mark.parametrize(("size", "text"), [(0, "0 MB"), (1, "1 MB"), (300 * 2**20, "300 MB"), (1.5 * GB, "1.5 GB")])
def test_sizes_in_words(size, text):
    assert estimate.words(size) == text
