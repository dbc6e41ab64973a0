"""Which sheet is asked first, and which of its images in pairs."""

import torch

RED, GREY = (255, 0, 0), (128, 128, 128)


def coloured(*colours):
    """Plain images of these colours."""
    return torch.stack([(torch.tensor(colour) / 255).expand(8, 8, 3) for colour in colours])


def sheet(room, name, source=""):
    return room("mixgrpo_engine.taste.votes").Sheet(name, "prompt", ("a.webp", "b.webp"), source)


def test_the_newest_sheet_of_a_run_at_work_comes_first_then_the_oldest(room, runs):
    routes = room("nodes.votes.routes")
    pending = [sheet(room, *each) for each in (("old",), ("asked", "run"), ("other", "ended"), ("newest", "run"))]
    named = lambda **given: [each.id for each in routes.in_turn(pending, {"run"}, **given)]  # noqa: E731
    assert named() == ["newest", "asked", "old", "other"]
    assert named(first="other") == ["other", "newest", "asked", "old"]
    assert [each.id for each in routes.in_turn(pending, set())] == ["old", "asked", "other", "newest"]


def test_a_sheet_of_a_run_that_is_gone_waits_for_nobody(room, runs, folder):
    routes = room("nodes.votes.routes")
    at_work = routes._at_work([sheet(room, "a", folder.name), sheet(room, "b", "../x"), sheet(room, "c")])
    assert at_work == set()


def test_pairs_are_those_that_the_taste_tells_apart_least(room, runs):
    routes, preference = room("nodes.votes.routes"), room("mixgrpo_engine.taste.preference")
    votes = room("nodes.votes.sets").of_name("mine")
    asked = votes.add(coloured(*((shade, 0, 0) for shade in (250, 20, 120, 150))), "prompt")
    assert routes._hardest(votes, asked, None) == [0, 1]
    size = room("mixgrpo_engine.taste.statistics").COUNT
    redness = torch.eye(size, dtype=torch.float64)[:1]  # the first number is the mean of red
    learned = preference.Preference(
        {"statistics": size}, torch.zeros(size), torch.ones(size), redness, torch.ones(size)
    )
    assert routes._hardest(votes, asked, learned) == [2, 3]


def test_news_tell_of_sets_that_changed_in_any_process(room, runs):
    news, sets = room("nodes.votes.news"), room("nodes.votes.sets")
    news.take()
    votes = sets.of_name("mine")
    votes.add(coloured(RED, GREY), "prompt")
    assert news.take() == [{"name": "mine"}] and news.take() == []
    news.tell("other")
    assert news.take() == [{"name": "other"}]
    votes.log.unlink()
    assert news.take() == [{"name": "mine"}]


def test_a_set_is_used_by_who_learns_from_it_and_not_by_who_only_showed_a_group(room, runs, folder, monkeypatch):
    routes, votes = room("nodes.votes.routes"), room("nodes.votes.sets").of_name("mine")
    votes.add(coloured(RED, GREY), "prompt", folder.name)
    told = {"state": "running", "run_id": folder.name, "folder": str(folder.path)}
    monkeypatch.setattr(routes.overview, "summaries", lambda: [told])
    monkeypatch.setattr(routes, "_at_work", lambda pending: {sheet.source for sheet in pending})

    def of(kind, name="mine"):
        job = {"graph": {"1": {"class_type": kind, "inputs": {"votes": name}}}}
        monkeypatch.setattr(routes.stored, "job", lambda _: job)
        return routes._user(votes)

    assert of("MixGRPO_RewardShapes") == ""
    assert of("MixGRPO_RewardTaste") == of("MixGRPO_RewardYou", ["2", 0]) == folder.name
    votes.skip(votes.read().pending[0].id)
    assert of("MixGRPO_RewardTaste") == folder.name and of("MixGRPO_RewardTaste", "other") == ""
