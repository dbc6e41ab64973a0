"""What scorers with a network share: batches, precision, devices, and images that can't be scored."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from mixgrpo_engine.memory.micro_batches import OutOfMemory
from mixgrpo_engine.rewards import asking
from mixgrpo_engine.rewards.networks.model_reward import ModelOptions, ModelReward, OwnResidence


class Brightness(ModelReward):
    """The images' mean, times a weight of 2, plus the prompt's length."""

    name = "brightness"

    def __init__(self, options=None, residence=None, limit=100):
        super().__init__(options, residence)
        self.limit, self.sizes, self.loads, self.dtypes = limit, [], 0, []

    def load(self):
        self.loads += 1
        module = nn.Linear(1, 1)
        nn.init.constant_(module.weight, 2.0)
        nn.init.zeros_(module.bias)
        return module

    def score_batch(self, module, images, prompts):
        self.sizes.append(len(images))
        self.dtypes.append(module.weight.dtype)
        if len(images) > self.limit:
            raise OutOfMemory("too many")
        means = images.mean((1, 2, 3))[:, None].to(module.weight.dtype)
        return module(means)[:, 0] + torch.tensor([len(prompt) for prompt in prompts])


def images_of(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 4, 6, 3).clone()


def test_scores_in_batches():
    reward = Brightness(ModelOptions(batch_size=2))
    scores = reward.score(images_of(0.0, 0.25, 0.5, 0.75, 1.0), ("", "a", "bb", "ccc", "dddd"))
    assert scores.tolist() == [0, 1.5, 3, 4.5, 6] and reward.sizes == [2, 2, 1]
    assert scores.dtype == torch.float32 and reward.loads == 1 and reward.failures == []


def test_all_at_once_and_none():
    reward = Brightness(ModelOptions(batch_size=0))
    assert reward.score(images_of(*[0.5] * 40), [""] * 40).tolist() == [1] * 40 and reward.sizes == [40]
    assert reward.score(torch.zeros(0, 4, 6, 3), []).shape == (0,) and reward.sizes == [40]


def test_values_outside_0_to_1_are_cut():
    assert Brightness().score(images_of(-1.0, 3.0), ["", ""]).tolist() == [0, 2]


def test_a_broken_image_is_nan_and_named():
    images = images_of(0.5, 0.5, 0.5)
    images[0, 0, 0, 0], images[2, 1, 1, 1] = torch.nan, torch.inf
    reward = Brightness()
    scores = reward.score(images, ["", "", ""])
    assert scores.isnan().tolist() == [True, False, True] and scores[1] == 1
    assert reward.failures == ["2 of 3 images hold values that aren't finite numbers."]
    reward.score(images_of(0.5), [""])
    assert reward.failures == []


def test_a_score_that_overflows_is_nan_and_named():
    class Overflowing(Brightness):
        def load(self):
            return nn.Linear(1, 1).requires_grad_(False).apply(lambda module: module.weight.fill_(60000.0))

    reward = Overflowing(ModelOptions(dtype="float16"))
    scores = reward.score(images_of(1.0, 0.0, 1.0) + 0.0, ["", "", ""])
    assert scores.isfinite().all()
    reward.module().weight.fill_(torch.inf)
    scores = reward.score(images_of(1.0, 1.0), ["", ""])
    assert scores.isnan().all()
    assert reward.failures == ["2 of 2 scores aren't finite numbers in float16: try bfloat16 or float32."]


def test_precision():
    reward = Brightness(ModelOptions(dtype="bfloat16"))
    assert reward.score(images_of(0.5), [""]).dtype == torch.float32 and reward.dtypes == [torch.bfloat16]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (ModelOptions(dtype="int8"), "dtype is 'int8': it must be one of float32, float16, bfloat16"),
        (ModelOptions(batch_size=-1), "batch_size is -1: it must be at least 0"),
    ],
)
def test_settings_that_can_t_be(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Brightness(options)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"images must be \(batch, height, width, 3\), not \(2, 3, 4, 6\)"):
        Brightness().score(torch.zeros(2, 3, 4, 6), ["", ""])
    with pytest.raises(ValueError, match="2 images, but 1 prompts"):
        Brightness().score(torch.zeros(2, 4, 6, 3), [""])


def test_halves_the_batch_when_memory_runs_out(caplog):
    reward = Brightness(ModelOptions(batch_size=8), limit=3)
    assert reward.score(images_of(*[0.5] * 8), [""] * 8).tolist() == [1] * 8
    assert reward.sizes == [8, 4, 2, 2, 2, 2]
    assert "Set batch_size of the reward 'brightness' to 2" in caplog.messages[-1]
    assert not reward.failures, "all images have a score"
    reward.score(images_of(*[0.5] * 8), [""] * 8)
    assert reward.sizes[6:] == [2, 2, 2, 2]


class Moves(nn.Linear):
    """Notes where it is sent; there is no second device here."""

    def __init__(self):
        super().__init__(1, 1)
        self.sent = []

    def to(self, *args, **kwargs):
        if args and isinstance(args[0], (str, torch.device)):
            self.sent.append(str(args[0]))
            return self
        return super().to(*args, **kwargs)


class Travelling(Brightness):
    def load(self):
        return Moves()


@pytest.mark.parametrize("keep, sent", [(False, ["cpu:0", "cpu"] * 2), (True, ["cpu:0", "cpu:0"])])
def test_off_the_device_when_not_in_use(keep, sent):
    reward = Travelling(ModelOptions(device="cpu:0", keep_loaded=keep))
    for _ in range(2):
        reward.score(images_of(0.5), [""])
    assert reward.module().sent == sent


def test_off_the_device_after_an_error():
    reward = Travelling(ModelOptions(device="cpu:0"), limit=0)
    with pytest.raises(OutOfMemory):
        reward.score(images_of(0.5), [""])
    assert reward.module().sent == ["cpu:0", "cpu"]


def test_off_the_device_when_only_a_part_fits_there():
    class TooLarge(Moves):
        def to(self, *args, **kwargs):
            super().to(*args, **kwargs)
            if args[0] == "cpu:0":
                raise OutOfMemory("too large")
            return self

    reward = Travelling(ModelOptions(device="cpu:0"))
    reward.load = TooLarge
    with pytest.raises(OutOfMemory):
        reward.score(images_of(0.5), [""])
    assert reward.module().sent == ["cpu:0", "cpu"]


def test_another_residence():
    log = []

    class Elsewhere:
        @contextmanager
        def occupied(self, module):
            log.append("in")
            yield
            log.append("out")

    reward = Brightness(residence=Elsewhere())
    reward.score(images_of(0.5), [""])
    assert log == ["in", "out"] and isinstance(Brightness().residence, OwnResidence)


def test_loaded_once_until_closed():
    reward = Brightness()
    for _ in range(2):
        reward.score(images_of(0.5), [""])
    assert reward.loads == 1
    reward.close()
    reward.score(images_of(0.5), [""])
    assert reward.loads == 2


def test_no_gradients_and_no_inference_tensors():
    """A server's nodes run under inference_mode; what is loaded there must stay usable outside."""
    reward = Brightness()
    with torch.inference_mode():
        reward.score(images_of(0.5), [""])
    assert not reward.module().weight.is_inference() and not reward.module().weight.requires_grad
    images = images_of(0.5).requires_grad_()
    assert not reward.score(images, [""]).requires_grad


def test_the_caller_can_stop_it_between_batches():
    class Cancelled(BaseException):
        pass

    def cancel():
        if len(reward.sizes) == 2:
            raise Cancelled

    reward = Brightness(ModelOptions(batch_size=1))
    with pytest.raises(Cancelled), asking(cancel):
        reward.score(images_of(*[0.5] * 5), [""] * 5)
    assert reward.sizes == [1, 1]
