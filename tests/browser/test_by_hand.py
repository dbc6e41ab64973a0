"""From an empty canvas to a picture with one's own LoRA, by mouse and keys alone: no template, nothing scripted."""

import pytest

from tests.browser.by_hand import Person
from tests.browser.test_panel import ITERATION

TINY, PROMPTS, SHAPES = "MixGRPO_TinyModel", "MixGRPO_Prompts", "MixGRPO_RewardShapes"
ALGORITHM, TRAIN = "MixGRPO_Algorithm", "MixGRPO_Train"
LORA, CLIP, LATENT, KSAMPLER = "LoraLoaderModelOnly", "CLIPTextEncode", "EmptySD3LatentImage", "KSampler"
DECODE, SAVE = "VAEDecode", "SaveImage"
PROMPT = "a red circle on a white background"
WORDS = ".mixgrpo-on-node .mixgrpo-words"
MARKED = "() => window.app.graph._nodes.filter((node) => node.has_errors).map((node) => node.type)"
SHOWN = "() => window.app.graph._nodes.find((node) => node.type === 'SaveImage').imgs?.length > 0"


@pytest.fixture
def person(page, frontend):
    page.messages.clear()
    yield Person(page, f"by_hand_{frontend}")
    ours = [(kind, text) for kind, text in page.messages if "mixgrpo" in text.lower() and "api.comfy.org" not in text]
    assert [text for kind, text in ours if kind in ("error", "pageerror")] == []


def test_a_training_is_built_run_and_used_by_hand(server, page, person):
    build_a_training(person)
    person.shoot("built")
    prompt_id = person.run()
    run_id = follow(page, person)
    server.wait(prompt_id)

    build_a_picture(person, page, run_id)
    outputs = server.wait(person.run())["outputs"]
    (image,) = (image for values in outputs.values() for image in values.get("images", []))
    assert server.view(image)
    page.wait_for_function(SHOWN, timeout=60_000)
    page.wait_for_timeout(500)
    person.shoot("sampled")


def build_a_training(person):
    person.new_workflow()
    person.open_library("MixGRPO")
    person.drag_in("MixGRPO Tiny Model", (400, 190))
    person.drag_in("MixGRPO Reward: Shapes", (620, 190))
    person.drag_in("MixGRPO Prompts", (400, 330))
    person.drag_in("MixGRPO Algorithm", (400, 630))
    person.drag_in("MixGRPO Train", (900, 140))
    for output in ("model", "clip", "vae"):
        person.wire(TINY, output, TRAIN, output)
    person.wire(SHAPES, "reward", TRAIN, "reward")
    person.wire(PROMPTS, "prompts", TRAIN, "prompts")
    person.wire(ALGORITHM, "algorithm", TRAIN, "algorithm")

    prompts = [PROMPT, "a blue square on a black background", "a green triangle", "a red square on a white background"]
    person.write_text(PROMPTS, "\n".join(prompts))
    person.write(ALGORITHM, "steps", 5)
    person.write(ALGORITHM, "group_size", 4)
    person.write(TRAIN, "run_name", "by hand")
    person.write(TRAIN, "iterations", 10)
    person.write(TRAIN, "width", 64)
    person.write(TRAIN, "height", 64)
    person.press(TRAIN, "more settings")
    person.write(TRAIN, "evaluate_every", 5)
    person.press(TRAIN, "more settings")  # now called "fewer settings"

    assert person.posted(PROMPTS)["text"].split("\n") == prompts
    algorithm, train = person.posted(ALGORITHM), person.posted(TRAIN)
    assert (algorithm["preset"], algorithm["steps"], algorithm["group_size"]) == ("custom", 5, 4)
    assert {name for name, value in train.items() if isinstance(value, list)} == {
        "model", "clip", "vae", "reward", "prompts", "algorithm"
    }  # fmt: skip
    assert [train[name] for name in ("iterations", "width", "height", "evaluate_every")] == [10, 64, 64, 5]


def follow(page, person):
    """Watches the training on the node and in the panel until it has ended; the run's id."""
    words = page.locator(WORDS)
    page.get_by_role("button", name="MixGRPO runs").first.click()
    panel = page.get_by_test_id("mixgrpo-panel")
    row = panel.locator(".mixgrpo-row", has_text="by hand").first
    row.wait_for(timeout=60_000)
    run_id = row.get_attribute("data-run")
    row.locator(".mixgrpo-open").click()
    page.wait_for_function(f"() => Number({ITERATION}) >= 2", timeout=240_000)
    first = int(page.evaluate(f"() => Number({ITERATION})"))
    page.wait_for_function(f"() => Number({ITERATION}) > {first}", timeout=60_000)
    assert " of 10" in words.inner_text() or words.inner_text().startswith("On prompts")
    person.shoot("training")
    page.wait_for_function(
        f"() => document.querySelector('{WORDS}').textContent.startsWith('On prompts')", timeout=240_000
    )
    assert f"mixgrpo/{run_id}.safetensors" in words.inner_text()
    said = panel.get_by_test_id("mixgrpo-state")
    said.get_by_text("On prompts").wait_for(timeout=60_000)
    assert page.locator(".mixgrpo-on-node img").count() == 1 and page.locator(".mixgrpo-on-node canvas").count() == 1
    page.wait_for_timeout(500)
    person.shoot("finished")
    return run_id


def build_a_picture(person, page, run_id):
    """In a workflow of its own, with ComfyUI's nodes; the LoRA comes out of the panel."""
    person.new_workflow()
    person.search_in("MixGRPO Tiny Model", (450, 190))
    person.select(TINY)
    page.get_by_test_id("mixgrpo-panel").get_by_role("button", name="Use this LoRA", exact=True).click()
    page.wait_for_function(f"() => window.app.graph._nodes.some((node) => node.type === '{LORA}')", timeout=60_000)
    person.search_in("CLIP Text Encode (Prompt)", (450, 360))
    person.search_in("EmptySD3LatentImage", (450, 660))
    person.search_in("KSampler", (1010, 190))
    person.search_in("VAE Decode", (1370, 190))
    person.search_in("Save Image", (1370, 320))
    person.write_text(CLIP, PROMPT)
    for widget in ("width", "height"):
        person.write(LATENT, widget, 64)
    person.write(KSAMPLER, "steps", 5)
    person.write(KSAMPLER, "cfg", 1)
    person.wire(TINY, "clip", CLIP, "clip")
    person.wire(LORA, "MODEL", KSAMPLER, "model")
    for name in ("positive", "negative"):
        person.wire(CLIP, "CONDITIONING", KSAMPLER, name)
    person.wire(LATENT, "LATENT", KSAMPLER, "latent_image")
    person.wire(KSAMPLER, "LATENT", DECODE, "samples")
    person.wire(TINY, "vae", DECODE, "vae")
    person.wire(DECODE, "IMAGE", SAVE, "images")
    assert page.evaluate(MARKED) == [], "no node is marked as one whose file is missing"
    assert person.posted(LORA)["lora_name"].replace("\\", "/") == f"mixgrpo/{run_id}.safetensors"
    person.shoot("picture")
