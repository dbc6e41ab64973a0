"""The nodes of a taste: names that are none, what a cached result depends on, and what answers in a voter's name."""

import pytest

from tests.nodes.votes.test_routes import GREY, RED, coloured


@pytest.fixture
def learners(room, runs):
    return room("nodes.votes.learners")


@pytest.mark.parametrize("name", ["", "../x", "My Taste", "a/b", "x" * 41, "-a"])
def test_a_name_that_is_none_is_refused_by_each_node(learners, name):
    for make in (learners.MixGRPORewardTaste, learners.MixGRPORewardYou):
        more = (4, 0, "left out") if make is learners.MixGRPORewardYou else ()
        with pytest.raises(ValueError, match=r"votes is '.*': it must be a name of small letters"):
            make.execute(name, *more)


def test_every_vote_makes_a_cached_taste_old(room, learners):
    stamp = lambda: learners.MixGRPORewardTaste.fingerprint_inputs(votes="mine")  # noqa: E731
    nothing = stamp()
    votes = room("nodes.votes.sets").of_name("mine")
    sheet = votes.add(coloured(RED, GREY), "prompt")
    asked = stamp()
    votes.vote(sheet.id, [[0], [1]])
    assert len({nothing, asked, stamp()}) == 3


def test_the_learned_taste_answers_only_where_it_was_chosen(room, learners):
    node = learners.MixGRPORewardYou
    left_out, learned = (node.execute("mine", 4, 0, each).result[0] for each in ("left out", "learned taste"))
    assert left_out.instead is None
    votes = room("nodes.votes.sets").of_name("mine")
    votes.vote(votes.add(coloured(RED, GREY), "prompt").id, [[0], [1]])
    held_out = learned.score(coloured(RED, GREY), ["one", "two"])  # of several prompts: nobody is asked
    assert held_out[0] > held_out[1] and not votes.read().pending


def test_which_prompts_a_training_encodes_beside_its_own(room, learners):
    package, votes = room("nodes.votes"), room("nodes.votes.sets").of_name("mine")
    first = votes.add(coloured(RED, GREY), "voted on")
    votes.vote(first.id, [[0], [1]])
    node = {"class_type": "MixGRPO_RewardTaste", "inputs": {"votes": "mine"}}
    assert package.prompts_of({"1": node}) == ["", "voted on"]
    votes.add(coloured(RED, GREY), "may be voted on")
    votes.skip(votes.add(coloured(RED, GREY), "skipped").id)
    votes.vote(votes.add(coloured(RED, GREY), "last").id, [[0], [1]])
    votes.vote(first.id, [[1], [0]])
    assert package.prompts_of({"1": node}) == ["", "voted on", "last"], "the files of a resume stay as they are"
    assert package.prompts_of({"1": {**node, "class_type": "MixGRPO_RewardShapes"}}) == []
    assert package.prompts_of({"1": {**node, "inputs": {"votes": ["2", 0]}}}) == [""]
    assert package.prompts_of({"1": {**node, "inputs": {"votes": "../mine"}}}) == [""]


def test_a_live_reward_knows_whether_the_training_learns_from_others(room, learners):
    you, taste = learners.MixGRPORewardYou.execute("mine", 4, 20, "left out").result[0], object()
    for weight, processes, insists in ((0.5, 1, False), (0.0, 1, True), (0.0, 2, False)):
        room("nodes.votes").tell_of_others({"you": you, "taste": taste}, {"you": 1.0, "taste": weight}, processes)
        assert you.insists is insists
