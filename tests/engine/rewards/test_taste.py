"""Rewards by votes: what was learned, what is asked, what happens while nobody answers."""

import shutil
import threading
import time

import pytest
import torch

from mixgrpo_engine.rewards import asking, taste
from mixgrpo_engine.rewards.taste import LiveReward, TasteReward
from mixgrpo_engine.taste import preference
from mixgrpo_engine.taste.features import PictureStatistics, PromptFit
from mixgrpo_engine.taste.votes import VoteSet


def grey(*levels):
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 16, 16, 3).clone()


@pytest.fixture
def votes(tmp_path):
    return VoteSet(tmp_path / "bright")


def like_bright(votes, sheets=12):
    generator = torch.Generator().manual_seed(0)
    for number in range(sheets):
        levels = torch.rand(4, generator=generator)
        sheet = votes.add(grey(*levels.tolist()), f"prompt {number // 2}")
        order = levels.argsort(descending=True).tolist()
        votes.vote(sheet.id, [[order[0]], order[1:3], [order[3]]])


def test_it_gives_what_the_voter_would_choose(votes):
    like_bright(votes)
    reward = TasteReward(votes, [PictureStatistics()])
    scores = reward.score(grey(0.2, 0.8, 0.5), ["new"] * 3)
    assert scores.argsort(descending=True).tolist() == [1, 2, 0] and not reward.remarks
    learned = preference.Preference.load(votes.folder / "taste.safetensors")
    assert "12 votes, right on" in preference.in_words(learned.votes, learned.accuracy)


def test_new_votes_are_learned_at_the_next_call(votes):
    like_bright(votes, 2)
    reward = TasteReward(votes, [PictureStatistics()])
    first = reward.learned()
    reward.score(grey(0.2, 0.8), ["a"] * 2)
    assert reward.learned() is first
    sheet = votes.add(grey(0.3, 0.4), "b")
    VoteSet(votes.folder).vote(sheet.id, [[1], [0]])  # in another process
    assert reward.learned().votes == 3


def test_features_of_the_votes_are_computed_once(votes):
    like_bright(votes, 3)

    class Counted(PictureStatistics):
        calls = 0
        key = "counted"

        def of(self, images, prompts):
            Counted.calls += len(images)
            return super().of(images, prompts)

    first = TasteReward(votes, [Counted()]).learned()
    assert Counted.calls == 12
    assert torch.equal(TasteReward(votes, [Counted()]).learned().weights, first.weights) and Counted.calls == 12
    next(votes.folder.glob("features-*")).write_bytes(b"damaged")
    assert torch.equal(TasteReward(votes, [Counted()]).learned().weights, first.weights) and Counted.calls == 24


def test_images_unlike_all_votes_are_told(votes):
    like_bright(votes)
    reward = TasteReward(votes, [PictureStatistics()])
    reward.score(torch.rand(2, 16, 16, 3), ["a"] * 2)
    assert "2 of 2 images look unlike anything in the votes bright: their scores are guesses" in reward.remarks[0]


def test_a_training_that_leaves_what_was_voted_on_is_told(votes):
    """Bright is liked: brighter than all votes is above them, whether or not it looks strange."""
    like_bright(votes)
    reward = TasteReward(votes, [PictureStatistics()])
    for start in range(0, preference.RECENT, 8):
        reward.score(torch.cat([grey(0.5).expand(7, -1, -1, -1), grey(0.99)]), ["a"] * 8)
        assert not any("above every image" in remark for remark in reward.remarks), start  # an eighth is no more
    for above, through in ((14, reward), (16, LiveReward(votes, patience=0.01, instead=reward))):
        through.score(grey(0.98, 0.99), ["a"] * 2)
        assert f"{above} of the last 96 images score above every image in the votes bright" in through.remarks[-1]


def test_without_votes_it_says_so(votes):
    with pytest.raises(ValueError, match="'bright' hold no vote yet"):
        TasteReward(votes, [PictureStatistics()]).score(grey(0.0, 1.0), ["a"] * 2)


def test_it_shows_what_it_is_least_sure_of_now_and_then(votes):
    like_bright(votes)
    reward = TasteReward(votes, [PictureStatistics()], ask_every=2, source="run-1")
    for level in range(4):
        reward.score(torch.cat([grey(0.5, 0.5, 0.5, 0.5), torch.rand(3, 16, 16, 3)]) * (1 - level / 10), ["a"] * 7)
    pending = votes.read().pending
    assert len(pending) == 2 and {sheet.source for sheet in pending} == {"run-1"}
    reward.score(grey(0.1, 0.2), ["a", "b"])  # held-out images of several prompts
    assert len(votes.read().pending) == 2


def test_a_training_waits_for_the_answer(votes, monkeypatch):
    monkeypatch.setattr(taste, "LOOK_SECONDS", 0.01)
    reward, images = LiveReward(votes, shown=3), grey(0.1, 0.3, 0.5, 0.7, 0.9)

    def answer():
        other = VoteSet(votes.folder)
        while not (pending := other.read().pending):
            time.sleep(0.01)
        other.vote(pending[0].id, [[1], [0, 2]])

    thread = threading.Thread(target=answer)
    thread.start()
    scores = reward.score(images, ["a"] * 5)
    thread.join()
    assert scores[[0, 2, 4]].tolist() == [0.25, 1, 0.25] and scores[[1, 3]].isnan().all()
    assert torch.equal(LiveReward(votes, shown=3).score(images, ["a"] * 5).nan_to_num(9), scores.nan_to_num(9)), (
        "what was answered before a kill is not asked again"
    )


def test_it_can_be_stopped_while_it_waits(votes):
    class Cancelled(Exception):
        pass

    def cancel():
        raise Cancelled

    with asking(cancel), pytest.raises(Cancelled):
        LiveReward(votes).score(grey(0.1, 0.9), ["a"] * 2)
    assert len(votes.read().pending) == 1


def test_nobody_there_leaves_out_or_takes_the_learned_taste(votes, monkeypatch):
    monkeypatch.setattr(taste, "LOOK_SECONDS", 0.01)
    images = grey(0.1, 0.9)
    left_out = LiveReward(votes, patience=0.05)
    assert left_out.score(images, ["a"] * 2).isnan().all() and left_out.failures == ["Nobody answered in time."]
    votes.skip(votes.read().pending[0].id)
    assert left_out.score(images, ["a"] * 2).isnan().all(), "skipped: the same group isn't waited for again"
    like_bright(votes)
    instead = LiveReward(votes, patience=0.05, instead=TasteReward(votes, [PictureStatistics()]))
    low, high = instead.score(images * 0.9, ["a"] * 2)
    assert low < high
    low, high = instead.score(images, ["a", "b"])
    assert low < high and not instead.failures, "held-out images are scored by what was learned"


def test_a_first_vote_that_prefers_nothing_teaches_nothing_yet(votes):
    votes.vote(votes.add(grey(0.3, 0.6), "a").id, [[0, 1]])
    reward = LiveReward(votes, instead=TasteReward(votes, [PictureStatistics()]))
    assert reward.score(grey(0.1, 0.9), ["a", "b"]).isnan().all() and reward.failures


def test_a_training_whose_votes_are_taken_back_goes_on_with_what_it_has_learned(votes):
    like_bright(votes, 1)
    reward, images = TasteReward(votes, [PictureStatistics()], source="run-1"), (grey(0.2, 0.8), ["a"] * 2)
    first = reward.score(*images)
    votes.undo()
    assert torch.equal(reward.score(*images), first)
    with pytest.raises(ValueError, match="no vote"):
        TasteReward(votes, [PictureStatistics()], source="run-1").score(*images)


def test_votes_on_prompts_that_the_model_does_not_know_wait_for_the_next_start(votes):
    def velocity(latents, sigma, prompts):
        assert all(prompt in ("", "prompt 0", "a") for prompt in prompts)
        return latents

    fit = PromptFit(
        velocity, lambda images: images.movedim(-1, 1), "toy", knows=lambda prompt: prompt in ("", "prompt 0", "a")
    )
    like_bright(votes, 2)  # of "prompt 0"
    reward = TasteReward(votes, [PictureStatistics(), fit], source="run-1")
    reward.score(grey(0.2, 0.8), ["a"] * 2)
    votes.vote(votes.add(grey(0.3, 0.4), "voted on meanwhile").id, [[1], [0]])
    reward.score(grey(0.2, 0.8), ["a"] * 2)
    assert reward.remarks[0].startswith("Votes on prompts that the training hasn't encoded (1) count from its next")
    assert reward.learned().votes == 2


def test_a_video_is_voted_on_by_its_middle_frame(votes):
    videos = torch.stack([torch.cat([grey(0.0), grey(level), grey(1.0)]) for level in (0.2, 0.7)])
    middle = votes.add(grey(0.2, 0.7), "a")
    votes.vote(middle.id, [[1], [0]])
    assert LiveReward(votes).score_videos(videos, ["a"] * 2).tolist() == [0, 1]


def test_what_an_earlier_run_has_asked_in_vain_is_the_next_ones_question(votes):
    first = votes.add(grey(0.1, 0.9), "a", "run-a")
    votes.add(grey(0.2, 0.9), "a", "run-a")
    again = votes.add(grey(0.1, 0.9), "a", "run-b")
    assert (again.id, again.source) == (first.id, "run-b")
    assert [sheet.source for sheet in VoteSet(votes.folder).read().pending] == ["run-a", "run-b"], "it is the newest"
    votes.vote(first.id, [[0], [1]])
    assert votes.add(grey(0.1, 0.9), "a", "run-c").source == "run-b", "an answered one stays whose it was"


def test_a_set_that_is_deleted_while_a_training_waits_is_asked_again(votes, monkeypatch):
    monkeypatch.setattr(taste, "LOOK_SECONDS", 0.01)
    looks = []

    def person():
        looks.append(1)
        if len(looks) == 2:
            shutil.rmtree(votes.folder)
        if len(looks) == 5:
            VoteSet(votes.folder).vote(VoteSet(votes.folder).read().pending[0].id, [[1], [0]])

    with asking(person):
        assert LiveReward(votes).score(grey(0.1, 0.9), ["a"] * 2).tolist() == [0, 1]


def test_a_training_by_the_learned_taste_outlives_its_set(votes):
    like_bright(votes)
    reward = TasteReward(votes, [PictureStatistics()], source="run-1")
    held_out, group = (grey(0.2, 0.6), ["a", "b"]), (grey(0.2, 0.8), ["a"] * 2)
    first, of_group = reward.score(*held_out), reward.score(*group)
    later = TasteReward(votes, [PictureStatistics()], source="run-2")
    later.score(*group)
    shutil.rmtree(votes.folder)
    assert torch.equal(reward.score(*group), of_group) and torch.equal(reward.score(*held_out), first)
    assert torch.equal(later.score(*held_out), first), "its first held-out images come when the set is gone"


def test_prompt_fit_sees_whether_the_model_knows_the_image():
    """A model that is sure of the latents 1 where it has a prompt, and of 0 without."""

    def velocity(latents, sigma, prompts):
        known = torch.tensor([1.0 if prompt else 0.0 for prompt in prompts]).view(-1, 1, 1, 1)
        return (latents - known) / sigma

    images = torch.stack([torch.full((4, 4, 3), 1.0), torch.full((4, 4, 3), 0.0)])
    fit = PromptFit(velocity, lambda images: images.movedim(-1, 1), "toy")
    found = fit.of(images, ["one", "one"])
    assert found.shape == (2, 8) and sum(fit.blocks.values()) == 8
    torch.testing.assert_close(found[0, 0], torch.tensor(0.0), atol=1e-6, rtol=0)  # error with the prompt
    # In latents it is off by 1, in velocity by 1 / sigma.
    torch.testing.assert_close(found[1, 0], torch.tensor(1 / 0.85**2))
    torch.testing.assert_close(found[:, 1], torch.tensor([-1 / 0.85**2, 1 / 0.85**2]))
    torch.testing.assert_close(found[:, 2], torch.tensor([1 / 0.85**2, 0.0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[:, 3], torch.tensor([1 / 0.85**2] * 2))


@pytest.mark.parametrize("learned", [False, True], ids=["left out", "a taste that has no votes"])
def test_a_run_that_nobody_looks_at_waits(votes, monkeypatch, learned):
    monkeypatch.setattr(taste, "LOOK_SECONDS", 0.01)
    instead = TasteReward(votes, [PictureStatistics()]) if learned else None
    reward = LiveReward(votes, patience=0.02, instead=instead)
    for level in (0.1, 0.2):
        assert reward.score(grey(level, 0.9), ["a"] * 2).isnan().all()
    asked = []

    class Enough(Exception):
        pass

    def ask():
        asked.append(1)
        if len(asked) > 20:
            raise Enough

    with asking(ask), pytest.raises(Enough):
        reward.score(grey(0.3, 0.9), ["a"] * 2)
    reward.insists = False
    assert reward.score(grey(0.5, 0.9), ["a"] * 2).isnan().all(), "another reward teaches meanwhile"
    reward.insists = True
    votes.vote(votes.add(grey(0.3, 0.9), "a").id, [[1], [0]])
    assert reward.score(grey(0.3, 0.9), ["a"] * 2).tolist() == [0, 1]
    assert reward.score(grey(0.4, 0.9), ["a"] * 2).isfinite().all() == learned, "somebody is there: it is patient again"


def test_a_runs_held_out_images_are_scored_by_one_taste(votes):
    like_bright(votes, 6)
    reward, held_out = TasteReward(votes, [PictureStatistics()], source="run-1"), (grey(0.2, 0.6), ["a", "b"])
    first = reward.score(*held_out)
    like_bright(votes, 12)
    assert torch.equal(reward.score(*held_out), first)
    resumed = TasteReward(votes, [PictureStatistics()], source="run-1")
    assert torch.equal(resumed.score(*held_out), first) and resumed.learned().votes == 12
    other = TasteReward(votes, [PictureStatistics()], source="run-2")
    assert not torch.equal(other.score(*held_out), first)
