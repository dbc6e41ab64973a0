"""Voting in the real frontend: keys and taps, undo, a reload, a second page, a hostile prompt; a training that asks."""

import re

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from mixgrpo_engine.taste.votes import VoteSet
from scripts.browser import wait_until_ready
from tests.browser.test_panel_images import SHOW as SHOW_RUN
from tests.browser.written_runs import HOSTILE, draw, write_run
from tests.comfyui.graphs import tiny

SHOW = "(name) => window.dispatchEvent(new CustomEvent('mixgrpo:show-votes', { detail: { name } }))"
HACKED = "() => window.hacked"
BADGE = "() => window.app.extensionManager.getSidebarTabs().find((tab) => tab.id === 'mixgrpo').iconBadge"
STICKING_OUT = """
() => [...document.querySelectorAll(".mixgrpo-panel *")]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > window.innerWidth + 1)
  .map((e) => e.className)
"""


class Ballot:
    """A person at a set of votes."""

    def __init__(self, page, name):
        self.page, self.name = page, name
        self.box = page.get_by_test_id("mixgrpo-votes")

    def open(self):
        self.page.evaluate(SHOW, self.name)
        self.box.wait_for()

    def wait_for(self, votes, waiting):
        """Until the page says so."""
        told = f"{votes} {'vote' if votes == 1 else 'votes'}, {waiting} waiting"
        self.box.get_by_test_id("mixgrpo-progress").get_by_text(told, exact=True).wait_for()

    def prompt(self):
        return self.box.get_by_test_id("mixgrpo-prompt").inner_text()

    def wait_for_prompt(self, text):
        self.box.get_by_test_id("mixgrpo-prompt").get_by_text(text, exact=True).wait_for()

    def keys(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def tap(self, number):
        self.box.get_by_role("button", name=re.compile(rf"^Image {number}\b")).click()

    def button(self, name):
        return self.box.get_by_role("button", name=name, exact=True)


def a_set(output, name, prompts):
    """A set of sheets of four images each."""
    votes = VoteSet(output / "mixgrpo" / "votes" / name)
    file = output / "drawn.webp"
    for number, prompt in enumerate(prompts):
        images = []
        for share in (0.1, 0.4, 0.7, 1.0):
            draw(file, share, number)
            with Image.open(file) as picture:
                images.append(to_tensor(picture.convert("RGB")).movedim(0, -1))
        votes.add(torch.stack(images), prompt)
    file.unlink()
    return votes


def orders(votes):
    """Prompt -> what was chosen."""
    return {sheet.prompt: order for sheet, order in votes.read().voted()}


def test_votes_by_keys_and_taps_survive_a_reload_and_meet_another_page(server, page):
    votes = a_set(server.output, "browser", [HOSTILE, "two", "three", "four", "five", "six"])
    ballot = Ballot(page, "browser")
    ballot.open()
    ballot.wait_for(0, 6)
    assert ballot.prompt() == HOSTILE and page.evaluate(HACKED) is None

    ballot.keys("3", "2")
    ballot.wait_for(1, 5)
    ballot.tap(1)
    assert ballot.box.locator("[data-pick=best]").count() == 1
    ballot.tap(4)
    ballot.wait_for(2, 4)
    assert orders(votes) == {HOSTILE: ((2,), (0, 3), (1,)), "two": ((0,), (1, 2), (3,))}

    page.reload(wait_until="domcontentloaded")
    wait_until_ready(page)
    ballot.open()
    ballot.wait_for(2, 4)
    assert ballot.prompt() == "three"
    ballot.keys("z")
    ballot.wait_for_prompt("two")
    ballot.keys("1", "Enter")
    ballot.wait_for_prompt("three")
    ballot.button("Skip").click()
    ballot.wait_for(2, 3)
    ballot.button("Undo").click()
    ballot.wait_for(2, 4)
    assert orders(votes)["two"] == ((0,), (1, 2, 3))

    with page.context.browser.new_page() as other_page:
        other_page.goto(f"{server.url}/", wait_until="domcontentloaded")
        wait_until_ready(other_page)
        other = Ballot(other_page, "browser")
        other.open()
        other.wait_for_prompt("three")
        other.keys("4", "1")
        ballot.wait_for_prompt("four")  # somebody has answered the other one
        ballot.keys("p")
        ballot.button("Equal").click()
        other.wait_for_prompt("five")
    ballot.keys("ArrowRight")
    ballot.wait_for(5, 1)
    assert len(orders(votes)["four"]) == 1 and [len(tier) for tier in orders(votes)["five"]] == [1, 1]

    page.get_by_role("button", name="Full screen").click()
    try:
        for size in ((360, 740), (1600, 1000)):
            page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            page.wait_for_timeout(200)
            assert page.evaluate(STICKING_OUT) == []
    finally:
        page.set_viewport_size({"width": 1600, "height": 1000})
        page.get_by_role("button", name="Back into the side bar").click()
    ballot.box.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.locator("[data-testid=mixgrpo-sets]").wait_for()
    assert not votes.log.exists() and page.evaluate(HACKED) is None


@pytest.mark.parametrize("frontend", ["bundled"], indirect=True)
def test_a_training_that_asks_is_seen_and_goes_on_after_the_vote(server, page):
    write_run(server.output, "voted-run-11111111", "Voted run")
    page.evaluate(SHOW_RUN, "voted-run-11111111")
    panel = page.get_by_test_id("mixgrpo-panel")
    panel.get_by_role("tab", name="Newest group").click()
    panel.get_by_role("button", name="Vote on this group").click()
    page.get_by_role("dialog").locator("input").fill("live")
    page.get_by_role("dialog").locator("input").press("Enter")
    ballot = Ballot(page, "live")
    ballot.wait_for(0, 2)  # six images: a sheet of four, and one of two

    graph = tiny("by you", iterations=20, mode="detached", if_exists="restart")
    you = {"votes": "live", "shown": 4, "patience": 0, "unanswered": "left out"}
    graph["reward"] = {"class_type": "MixGRPO_RewardYou", "inputs": you}
    run_id = server.run(graph)["train"]["run_id"][0]
    try:
        page.wait_for_function("() => document.title.includes('Your vote: ')", timeout=120_000)
        page.locator(".p-toast-message").get_by_text("by you asks for your vote").wait_for()
        assert page.evaluate(BADGE) == "!"
        ballot.wait_for(0, 3)
        ballot.keys("s")  # the older sheet, which was shown already
        ballot.box.locator(".mixgrpo-asks").wait_for()
        ballot.keys("1", "2")
        ballot.wait_for(1, 2)  # the next group
    finally:
        server.post(f"/mixgrpo/runs/{run_id}/cancel")
    page.wait_for_function("() => !document.title.includes('Your vote: ')", timeout=60_000)
