"""The panel's images in the real frontend: gallery, viewer, newest group and comparison, with hostile names."""

import json
import secrets

import pytest
from filelock import FileLock
from playwright.sync_api import TimeoutError as NothingCame

from tests.browser.written_runs import HOSTILE, PROMPTS, sample, write_group, write_run

RUN, OTHER, GRID = "images-run-11111111", "other-run-22222222", "grid-run-33333333"
SHOW = "(id) => window.dispatchEvent(new CustomEvent('mixgrpo:show-run', { detail: { runId: id } }))"
TAB = "() => window.app.extensionManager.sidebarTab.activeSidebarTabId"
SET_TAB = "(tab) => { window.app.extensionManager.sidebarTab.activeSidebarTabId = tab; }"
# As the websocket gives it.
TELL = """(told) => window.app.api.dispatchEvent(new CustomEvent("mixgrpo.progress", { detail: told }))"""
# What follows a press of Run, once it is drawn.
FOLLOW = """
async (id) => {
  await (await import("/extensions/comfyui-mixgrpo/panel/panel.mjs")).follow(id);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}
"""
LATER = "() => { const now = performance.now() + 20_000; performance.now = () => now; }"
LOADED = "(image) => image.complete && image.naturalWidth > 0"
OVERFLOW = "(element) => element.scrollWidth - element.clientWidth"


@pytest.fixture(scope="module")
def written(server):
    """Three finished runs; the last one keeps a grid only, as those of 0.1.0 do."""
    write_run(server.output, RUN, HOSTILE)
    write_run(server.output, OTHER, "Other run", iterations=60, gain=0.25, rate=3e-4, prompts=(*PROMPTS[1:], "a cat"))
    grid = write_run(server.output, GRID, "Grid run", iterations=10, prompts=())
    (grid / "samples" / "iteration_000010.png").write_bytes((grid / "samples/group/000010_00.webp").read_bytes())
    return server


@pytest.fixture
def panel(page, written):
    """The panel, with nothing that the test before has left open."""
    page.evaluate("() => { delete window.hacked; }")
    page.messages.clear()
    page.evaluate(SHOW, RUN)
    panel = page.get_by_test_id("mixgrpo-panel")
    panel.get_by_test_id("mixgrpo-state").wait_for()
    yield panel
    assert page.evaluate("() => window.hacked") is None
    assert [message for message in page.messages if message[0] == "pageerror"] == []
    viewer = page.get_by_test_id("mixgrpo-viewer")
    if viewer.count():
        page.keyboard.press("Escape")
        viewer.wait_for(state="detached")
    wide = page.get_by_role("button", name="Back into the side bar")
    if wide.count():
        wide.click()


@pytest.fixture
def gallery(panel):
    panel.get_by_role("tab", name="Images").click()
    panel.locator(".mixgrpo-strip").first.wait_for()
    return panel


@pytest.fixture
def growing(page, written, panel):
    """The folder of a run of the test's own, which the panel shows."""
    folder = write_run(written.output, f"growing-{secrets.token_hex(4)}", "A growing run")
    page.evaluate(SHOW, folder.name)
    panel.locator(".mixgrpo-name").get_by_text("A growing run").wait_for()
    return folder


def tell(page, server, folder, iteration, *events):
    """What the server would tell after an iteration, at once."""
    status = {**server.get(f"/mixgrpo/runs/{folder.name}"), "iteration": iteration}
    page.evaluate(TELL, {"run_id": folder.name, "events": events, "status": status})


def evaluate(page, server, folder, iteration, *scores):
    """Another evaluation of a run, with a score for each prompt."""
    images = [
        sample(folder, iteration, number, PROMPTS[number], score, {"shape": score})
        for number, score in enumerate(scores)
    ]
    event = {
        "type": "sample",
        "iteration": iteration,
        "path": f"samples/iteration_{iteration:06d}.png",
        "images": images,
    }
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": 100.0 + iteration, **event}) + "\n")
    tell(page, server, folder, iteration, event)


def row(panel, number):
    return panel.locator(".mixgrpo-strip").nth(number)


def test_gallery_shows_each_prompt_at_each_iteration_with_its_scores(gallery):
    assert gallery.locator(".mixgrpo-strip .mixgrpo-prompt").all_inner_texts() == list(PROMPTS)
    captions = row(gallery, 1).locator("figcaption").all_inner_texts()
    assert [caption.split("\n")[0] for caption in captions] == [
        "before training", "iteration 10", "iteration 20", "iteration 30", "iteration 40",
    ]  # fmt: skip
    assert "shape 0.700 +0.400" in captions[-1] and "+" not in captions[0]
    alternatives = [image.get_attribute("alt") for image in row(gallery, 2).locator("img").all()]
    assert alternatives[-1] == f"{HOSTILE} (iteration 40)"


def test_a_failed_answer_is_asked_for_again_once_the_server_is_back(page, panel):
    shown = f"**/mixgrpo/runs/{RUN}"
    page.route(shown, lambda route: route.fulfill(status=500, json={"error": "It is away."}))
    panel.get_by_role("tab", name="Settings").click()
    panel.get_by_text("It is away.").wait_for()
    page.unroute(shown)
    page.evaluate("() => window.app.api.dispatchCustomEvent('reconnected')")
    panel.get_by_text("learning_rate").first.wait_for(state="attached")


def test_first_image_stays_in_sight_and_the_newest_is_shown_first(page, gallery):
    strips = gallery.locator(".mixgrpo-strips")
    assert strips.evaluate(OVERFLOW) > 0
    left, right = (strips.bounding_box()[side] for side in ("x", "width"))
    first, last = (row(gallery, 0).locator("figure").nth(number).bounding_box() for number in (0, -1))
    assert left - 1 <= first["x"] and last["x"] + last["width"] <= left + right + 1
    gallery.get_by_role("button", name="large").click()
    assert row(gallery, 0).locator("figure").last.bounding_box()["width"] > 1.5 * last["width"]


def test_the_end_stays_in_sight_on_a_full_screen_and_back(page, gallery):
    strips = gallery.locator(".mixgrpo-strips")
    at_end = "(e) => Math.abs(e.scrollLeft + e.clientWidth - e.scrollWidth) < 2"
    gallery.get_by_role("button", name="large").click()
    for name in ("Full screen", "Back into the side bar"):
        assert strips.evaluate(OVERFLOW) > 0
        page.get_by_role("button", name=name).click()
        page.wait_for_function(f"() => ({at_end})(document.querySelector('.mixgrpo-strips'))")
    strips.evaluate("(e) => { e.scrollLeft = 0; }")
    page.wait_for_timeout(200)
    gallery.get_by_role("button", name="small").click()
    assert strips.evaluate("(e) => e.scrollLeft") == 0, "somebody looks at the first ones"


def test_images_are_fetched_when_they_are_near(page, written, gallery):
    """Rows below what is seen: a run with many prompts opens as fast as one with few."""
    images = row(gallery, 0).locator("img")
    images.last.scroll_into_view_if_needed()
    page.wait_for_function(f"(e) => ({LOADED})(e)", arg=images.last.element_handle())
    assert {image.get_attribute("loading") for image in gallery.locator(".mixgrpo-strips img").all()} == {"lazy"}


def test_before_and_after_are_parted_by_dragging_and_by_keys(page, gallery):
    slider = gallery.locator(".mixgrpo-beforeAfter .mixgrpo-slider")
    handle = slider.get_by_role("slider")
    share = lambda: float(handle.input_value())  # noqa: E731
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert share() == 51
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.51, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=4)
    page.mouse.up()
    assert 18 <= share() <= 22
    clipped = slider.locator(".mixgrpo-before").evaluate("(e) => getComputedStyle(e).clipPath")
    assert clipped.startswith("inset(0")
    line = slider.locator(".mixgrpo-line").bounding_box()
    assert abs(line["x"] + line["width"] / 2 - (box["x"] + box["width"] * share() / 100)) < 2


def test_any_prompt_and_any_later_iteration_is_compared_with_the_first(gallery):
    block = gallery.locator(".mixgrpo-beforeAfter")
    block.get_by_label("Prompt").select_option(label=HOSTILE)
    block.get_by_label("Iteration that is compared").fill("2")
    alternatives = [image.get_attribute("alt") for image in block.locator("img").all()]
    assert alternatives == [f"{HOSTILE} (iteration 20)", f"{HOSTILE} (before training)"]
    assert "shape 0.500 +0.200" in block.inner_text()


def test_viewer_goes_by_arrow_keys_and_escape_closes_nothing_else(page, gallery):
    page.get_by_role("button", name="Full screen").click()
    opened = row(gallery, 0).locator("button").nth(1)
    opened.click()
    viewer = page.get_by_test_id("mixgrpo-viewer")

    def shown():
        return viewer.locator(".mixgrpo-prompt").inner_text(), viewer.locator("footer b").first.inner_text()

    assert shown() == (PROMPTS[0], "iteration 10")
    assert "seed 9007199254740993" in viewer.inner_text() and "shape 0.400 +0.100" in viewer.inner_text()
    for key, expected in (
        ("ArrowRight", (PROMPTS[0], "iteration 20")),
        ("ArrowDown", (PROMPTS[1], "iteration 20")),
        ("ArrowDown", (PROMPTS[2], "iteration 20")),
        ("ArrowDown", (PROMPTS[2], "iteration 20")),
        ("ArrowLeft", (PROMPTS[2], "iteration 10")),
        ("ArrowLeft", (PROMPTS[2], "before training")),
        ("ArrowLeft", (PROMPTS[2], "before training")),
        ("ArrowUp", (PROMPTS[1], "before training")),
    ):
        page.keyboard.press(key)
        for _ in range(40):  # until it is drawn
            if shown() == expected:
                break
            page.wait_for_timeout(50)
        assert shown() == expected, key
    size = page.viewport_size
    box = viewer.bounding_box()
    assert (box["width"], box["height"]) == (size["width"], size["height"])
    corner = f"document.elementFromPoint({size['width'] - 40}, {size['height'] - 40}).closest('dialog')?.className"
    assert page.evaluate(corner) == "mixgrpo-viewer"
    page.keyboard.press("Escape")
    viewer.wait_for(state="detached")
    assert page.get_by_role("button", name="Back into the side bar").is_visible()
    assert opened.evaluate("(e) => e === document.activeElement")


def test_viewer_stays_at_its_prompt_when_another_becomes_the_most_improved(page, written, growing, gallery):
    prompts = gallery.locator(".mixgrpo-strip .mixgrpo-prompt")
    evaluate(page, written, growing, 50, 0.4, 0.5, 0.9)
    gallery.get_by_label("Order of the prompts").select_option("change")
    prompts.first.get_by_text(HOSTILE).wait_for()
    row(gallery, 0).get_by_alt_text("(iteration 50)").click()
    shown = page.get_by_test_id("mixgrpo-viewer").locator(".mixgrpo-prompt")
    evaluate(page, written, growing, 60, 0.4, 1.0, 0.3)
    gallery.get_by_alt_text("(iteration 60)").last.wait_for()
    assert shown.inner_text() == HOSTILE
    page.keyboard.press("Escape")
    prompts.first.get_by_text(PROMPTS[1]).wait_for()


def test_keys_in_the_viewer_keep_the_panel_at_its_run(page, written, growing, gallery):
    """Also when another run is started here."""
    other = f"**/mixgrpo/runs/{OTHER}"
    started = {**written.get(f"/mixgrpo/runs/{OTHER}"), "state": "queued"}
    page.route(other, lambda route: route.fulfill(json=started))
    name = gallery.locator(".mixgrpo-name")
    row(gallery, 0).locator("button").last.click()
    try:
        for keys, shown in (["ArrowLeft"], "A growing run"), ([], "Other run"):
            page.evaluate(LATER)
            for key in keys:
                page.keyboard.press(key)
            page.evaluate(FOLLOW, OTHER)
            assert name.inner_text() == shown
    finally:
        page.evaluate("() => { delete performance.now; }")
        page.unroute(other)


def test_frontends_own_keys_do_nothing_under_the_viewer(page, gallery):
    row(gallery, 0).locator("button").last.click()
    viewer = page.get_by_test_id("mixgrpo-viewer")
    viewer.locator(".mixgrpo-stage").click()
    posted = []
    page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    for key in ("w", "q", "n", "m", "Control+Enter"):
        page.keyboard.press(key)
    assert page.evaluate(TAB) == "mixgrpo"
    page.keyboard.press("ArrowLeft")
    assert viewer.locator("footer b").first.inner_text() == "iteration 30"
    assert [url for url in posted if url.endswith("/prompt")] == []
    page.keyboard.press("Escape")
    viewer.wait_for(state="detached")
    # The same key, where it is meant.
    page.keyboard.press("w")
    page.wait_for_function(f"() => ({TAB})() !== 'mixgrpo'")


def test_viewer_parts_before_and_after_and_its_keys_move_the_line(page, gallery):
    row(gallery, 0).locator("button").last.click()
    viewer = page.get_by_test_id("mixgrpo-viewer")
    viewer.get_by_role("button", name="Before/after").click()
    assert viewer.locator(".mixgrpo-tag").all_inner_texts() == ["before training", "iteration 40"]
    viewer.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    assert viewer.get_by_role("slider").input_value() == "49"
    page.keyboard.press("ArrowDown")
    assert viewer.locator(".mixgrpo-prompt").inner_text() == PROMPTS[1]


def test_a_run_without_single_images_shows_its_grid(page, panel):
    page.evaluate(SHOW, GRID)
    page.get_by_role("tab", name="Images").click()
    panel.locator(".mixgrpo-strips img").wait_for()
    assert "iteration_000010.png" in panel.locator(".mixgrpo-strips img").get_attribute("src")


def test_group_is_sorted_by_advantage_and_comes_anew(page, written, panel):
    panel.get_by_role("tab", name="Newest group").click()
    group = panel.locator(".mixgrpo-group")
    advantages = group.locator("figcaption > b")
    group.wait_for()
    assert HOSTILE in group.inner_text() and "trained steps 2 to 4" in group.inner_text()
    assert advantages.all_inner_texts() == ["+1.500", "+0.500", "+0.250", "±0", "−0.750", "−1.250"]
    bars = [bar.get_attribute("style") for bar in group.locator(".mixgrpo-advantage i").all()]
    assert bars[0] == "left: 50%; width: 50%;" and bars[4] == "left: 25%; width: 25%;"
    group.get_by_label("Order of the images").select_option("sampled")
    assert advantages.all_inner_texts()[:2] == ["−1.250", "+0.500"]
    group.locator("figure button").first.click()
    assert "shape 0.375" in page.get_by_test_id("mixgrpo-viewer").inner_text()
    page.keyboard.press("Escape")
    write_group(written.output / "mixgrpo" / RUN, 41, "the next prompt", (0.0, 0.0))
    status = written.get(f"/mixgrpo/runs/{RUN}")
    page.evaluate(TELL, {"run_id": RUN, "events": [], "status": {**status, "iteration": 41}})
    group.get_by_text("the next prompt").wait_for()
    assert "All 2 images got the same reward" in group.inner_text()


def test_viewer_stays_at_its_group_when_another_comes(page, written, growing, panel):
    panel.get_by_role("tab", name="Newest group").click()
    panel.locator(".mixgrpo-group figure button").last.click()
    viewer = page.get_by_test_id("mixgrpo-viewer")
    image = viewer.locator(".mixgrpo-stage img")
    before = viewer.inner_text(), image.get_attribute("src")
    assert HOSTILE in before[0] and "advantage −1.250" in before[0]
    write_group(growing, 41, "the next prompt")
    tell(page, written, growing, 41)
    panel.locator(".mixgrpo-group").get_by_text("the next prompt").wait_for()
    assert (viewer.inner_text(), image.get_attribute("src")) == before
    page.keyboard.press("ArrowLeft")
    viewer.get_by_text("advantage −0.750").wait_for()
    assert HOSTILE in viewer.inner_text()


def test_the_log_is_asked_for_while_the_panel_is_open(page, growing, panel):
    asked = f"**/mixgrpo/runs/{growing.name}/log**"
    status = growing / "status.json"
    ended = status.read_text()
    with FileLock(growing / "worker.lock"):  # a worker is there
        status.write_text(json.dumps({**json.loads(ended), "state": "running"}))
        panel.locator(".mixgrpo-head[data-state=running]").wait_for()
        panel.get_by_role("tab", name="Log").click()
        with page.expect_request(asked):
            pass
        page.evaluate(SET_TAB, None)
        panel.wait_for(state="detached")
        with pytest.raises(NothingCame), page.expect_request(asked, timeout=4000):
            pass
        with page.expect_request(asked):
            page.evaluate(SET_TAB, "mixgrpo")
        status.write_text(ended)


def test_buttons_keep_their_places_while_a_run_trains(page, written, panel):
    ended = written.get(f"/mixgrpo/runs/{RUN}")
    best = {**ended["best"], "lora": f"mixgrpo/{RUN}-best.safetensors"}
    working = {**ended, "state": "running", "stage": "train", "eta_seconds": 90.0, "actions": ["cancel"], "best": best}
    loras = [
        {"filename": f"{RUN}{end}.safetensors", "subfolder": "loras/mixgrpo", "type": "output"} for end in ("", "-best")
    ]

    def tell(**changes):
        page.evaluate(TELL, {"run_id": RUN, "events": [], "status": {**working, **changes}})
        page.wait_for_timeout(200)
        return [panel.locator(each).bounding_box() for each in (".mixgrpo-tabs", ".mixgrpo-actions >> nth=0")]

    use, which = panel.get_by_role("button", name="Use this LoRA"), panel.get_by_label("Which of the run's LoRAs")
    before = tell(files=[])
    assert not use.is_enabled() and "about 2 min" in panel.inner_text()
    assert tell(files=loras) == before and use.is_enabled()
    assert which.locator("option").all_inner_texts() == ["last", "best (iteration 40)"]
    assert tell(files=loras, best={**best, "lora": None}) == before  # a better one has come, and isn't published yet
    assert which.locator("option").all_inner_texts() == ["last", "best (an earlier one)"]
    assert tell(files=loras, cancelling=True) == before
    assert not panel.get_by_role("button", name="Stopping").is_enabled() and "about 2 min" not in panel.inner_text()
    tell(**{**ended, "files": loras})
    assert which.locator("option").first.inner_text() == "last (iteration 40)"
    assert "mixgrpo-primary" in use.get_attribute("class")
    tell(**ended)


def test_runs_are_compared(page, panel):
    page.get_by_role("button", name="All runs").click()
    for run in (RUN, OTHER):
        panel.locator(f"[data-run={run}] input").check()
    panel.get_by_role("button", name="Compare 2").click()
    differences = panel.get_by_role("table", name="setting")
    differences.wait_for()

    def rows(table):
        return [tuple(line.locator("td").all_inner_texts()) for line in table.locator("tbody tr").all()]

    assert rows(differences) == [("run.iterations", "40", "60"), ("optimizer.learning_rate", "0.0001", "0.0003")]
    outcomes = panel.get_by_role("table", name="run")
    assert outcomes.locator("thead th").all_inner_texts()[1:] == [HOSTILE, "Other run"]
    assert ("held-out change", "+0.400 ± 0.020", "+0.250 ± 0.020") in rows(outcomes)
    legend = panel.locator(".u-legend")
    legend.get_by_text("Other run: shape, held out").wait_for()
    assert legend.get_by_text(f"{HOSTILE}: shape", exact=True).count() == 1
    panel.get_by_label("Scorer").select_option("taste")
    legend.get_by_text("Other run: taste, held out").wait_for()
    same = panel.locator(".mixgrpo-same")
    assert same.locator(".mixgrpo-prompt").all_inner_texts() == [PROMPTS[1], PROMPTS[2]]
    assert "iteration 40" in same.first.inner_text() and "iteration 60" in same.first.inner_text()
    same.first.locator("figure button").first.click()
    viewer = page.get_by_test_id("mixgrpo-viewer")
    page.keyboard.press("ArrowRight")
    assert viewer.locator("footer b").first.inner_text() == "Other run, iteration 60"
    page.keyboard.press("Escape")
    panel.get_by_role("button", name="Other run").first.click()
    panel.get_by_test_id("mixgrpo-state").wait_for()
    assert "Other run" in panel.locator(".mixgrpo-head").inner_text()


def test_the_runs_of_a_sweep_stand_together_in_their_order(page, written, panel):
    for position, (run_id, rate) in enumerate([(OTHER, 3e-4), (RUN, 1e-4)], 1):
        sweep = {
            "id": "s",
            "position": position,
            "of": 3,
            "values": {"learning_rate": rate, "negative_prompt": HOSTILE},
        }
        (written.output / "mixgrpo" / run_id / "queued.json").write_text(json.dumps({"sweep": sweep}))
    page.get_by_role("button", name="All runs").click()
    heading = panel.locator(".mixgrpo-sweep")
    heading.wait_for()
    assert heading.all_inner_texts() == ["Sweep of 3: 2 finished"], "nothing is left to cancel"
    members = panel.locator(".mixgrpo-member").all()
    assert [member.get_attribute("data-run") for member in members] == [OTHER, RUN]
    # Rows that aren't drawn yet have no inner text.
    told = f"1 of 3, learning rate 0.0003, negative prompt {HOSTILE}: finished"
    page.wait_for_function("([row, told]) => row.innerText.includes(told)", arg=[members[0].element_handle(), told])
    members[0].locator(".mixgrpo-open").click()
    panel.get_by_test_id("mixgrpo-state").wait_for()
    assert "1 of 3, learning rate 0.0003" in panel.locator(".mixgrpo-facts").first.inner_text()


@pytest.mark.parametrize("width", [300, 700])
def test_nothing_is_wider_than_the_panel(page, gallery, width):
    page.locator(".mixgrpo-root").evaluate("(e, width) => { e.style.width = `${width}px`; }", width)
    try:
        for tab in ("Images", "Newest group"):
            gallery.get_by_role("tab", name=tab).click()
            gallery.locator(".mixgrpo-scroll figure").first.wait_for()
            assert gallery.locator(".mixgrpo-scroll").evaluate(OVERFLOW) <= 0, tab
    finally:
        page.locator(".mixgrpo-root").evaluate("(e) => { e.style.width = ''; }")
