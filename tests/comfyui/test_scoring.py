"""Scoring on a real server: the templates as API clients send them, lists, failures, and files."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_engine.rewards.jpeg import JpegReward
from mixgrpo_engine.rewards.server import application
from mixgrpo_engine.rewards.shapes import ShapesReward
from scripts.comfyui_server import ROOT
from tests.fake_judge import brightness, chat, fake_judge
from tests.pictures import writing
from tests.scorer_server import running


def workflow(name):
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def find(graph, kind):
    """The id of the graph's one node of a kind."""
    (node_id,) = (key for key, node in graph.items() if node["class_type"] == kind)
    return node_id


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def picture(server, file):
    root = {"output": server.output, "temp": server.base / "temp"}[file["type"]]
    return Image.open(root / file["subfolder"] / file["filename"])


def pixels(image):
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def ranked(server):
    """(graph, outputs) of the template rank_images."""
    graph = workflow("rank_images")
    return graph, server.outputs(graph)


def test_rank_images_ranks_as_the_engines_scorer_does(server, ranked):
    graph, outputs = ranked
    score, preview = outputs[find(graph, "MixGRPO_Score")], outputs[find(graph, "PreviewImage")]
    images = torch.stack([pixels(picture(server, file)) for file in preview["images"]])
    prompts = [graph[find(graph, "PrimitiveStringMultiline")]["inputs"]["value"]] * len(images)
    shapes, size = (reward.score(images, prompts) for reward in (ShapesReward(), JpegReward("compressibility")))
    expected = (shapes + 0.05 * size) / 1.05
    # The files are rounded to 8 bits, what was scored is not.
    assert len(images) == 12 and score["scores"] == pytest.approx(expected.tolist(), abs=0.02)
    assert max(score["scores"]) - min(score["scores"]) > 0.1, "else there is nothing to rank"
    assert "mean " in score["text"][0] and len(score["text"]) == 1


def test_the_saved_files_are_the_best_ones_with_their_scores_inside(server, ranked):
    graph, outputs = ranked
    saved = outputs[find(graph, "MixGRPO_SaveScored")]["images"]
    scores = outputs[find(graph, "MixGRPO_Score")]["scores"]
    entries = [json.loads(picture(server, file).text["mixgrpo_scores"]) for file in saved]
    assert [entry["score"] for entry in entries] == sorted(scores, reverse=True)[:4]
    assert [entry["rank"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        shapes, size = entry["parts"]["shapes"], entry["parts"]["compressibility"]
        assert scores[entry["image"]] == entry["score"] == pytest.approx((shapes + 0.05 * size) / 1.05)
        assert 0 <= shapes <= 1 and size < -0.5
    assert [file["filename"] for file in saved] == sorted(file["filename"] for file in saved)
    previews = outputs[find(graph, "PreviewImage")]["images"]
    for file, entry in zip(saved, entries, strict=True):
        same = pixels(picture(server, previews[entry["image"]])) == pixels(picture(server, file))
        assert same.all(), "the scores lie in the file of another image"
    assert json.loads(picture(server, saved[0]).text["prompt"])[find(graph, "KSampler")]["class_type"] == "KSampler"


def test_scores_are_saved_also_when_everything_else_comes_from_the_cache(server, ranked):
    graph, _ = ranked
    again = json.loads(json.dumps(graph))
    again[find(graph, "MixGRPO_SaveScored")]["inputs"]["filename_prefix"] = "scoring/again"
    saved = server.outputs(again)[find(graph, "MixGRPO_SaveScored")]["images"]
    assert len(saved) == 4 and all("mixgrpo_scores" in picture(server, file).text for file in saved)


@pytest.fixture
def owner(server):
    """`owner(url, ...)` allows a server's host, and writes other settings of the owner's."""
    file = server.base / "user" / "mixgrpo.json"
    yield lambda url, **more: file.write_text(json.dumps({"judge_hosts": [url.removeprefix("http://")], **more}))
    file.unlink(missing_ok=True)


@pytest.fixture
def image_and_judge(server, owner):
    """The template judge_images for a picture that says HELLO WORLD, and a judge that gives it 4 of 5 points."""

    async def respond(call):
        return chat("Alignment Score (1-5): 4" if "yellow hair" in call.text else "What?")

    image = server.base / "input" / "example.png"
    writing("HELLO WORLD").save(image)
    with fake_judge(respond) as judge:
        owner(judge.url)
        graph = workflow("judge_images")
        graph[find(graph, "MixGRPO_RewardJudge")]["inputs"]["urls"] = judge.url
        yield graph, judge
    image.unlink()


def test_judge_images_asks_the_judge_and_reads_the_text(server, image_and_judge):
    graph, judge = image_and_judge
    outputs = server.outputs(graph)
    (call,) = judge.calls
    assert call.body["model"] == "UnifiedReward" and call.images[0].size == (480, 160)
    (file,) = outputs[find(graph, "MixGRPO_SaveScored")]["images"]
    entry = json.loads(picture(server, file).text["mixgrpo_scores"])
    assert entry["parts"] == pytest.approx({"judge": 0.8, "ocr": 1.0})
    assert entry["score"] == pytest.approx(0.9)


def test_http_reward_asks_a_server_of_a_python_callable(server, owner):
    asked = []

    def score(images, prompts):
        asked.append([image.size for image in images])
        # The second one can't be scored.
        return [brightness(image) if place != 1 else None for place, image in enumerate(images)]

    with running(application(score, key="sk-1")) as url:
        owner(url, judge_key="sk-1")
        graph = workflow("http_reward")
        graph[find(graph, "MixGRPO_RewardHTTP")]["inputs"]["urls"] = url
        outputs = server.outputs(graph)
    assert asked == [[(64, 64)] * 8]
    shown, scored = outputs[find(graph, "PreviewImage")]["images"], outputs[find(graph, "MixGRPO_Score")]
    exact = [brightness(picture(server, file).convert("RGB")) for file in shown]
    # Preview Image cuts 8-bit levels off, the scorer's pictures are rounded.
    assert scored["scores"].pop(1) is None and exact.pop(1)
    assert scored["scores"] == pytest.approx(exact, abs=1)
    assert "1 of 8 images: the scorer gave no score" in scored["text"][0]
    assert len(outputs[find(graph, "MixGRPO_SaveScored")]["images"]) == 2


def test_judge_edits_shows_judges_the_source(server, owner, published):
    async def respond(call):
        if "Instruction Score" in call.text:
            return chat("Instruction Score (0-10): 9\nPreservation Score (0-10): 4\nQuality Score (0-10): 6")
        # The edit that went too far has white letters.
        first, second = map(brightness, call.images[1:])
        return chat("Image 1 is better." if first < second else "Image 2 is better.")

    image = server.base / "input" / "example.png"
    writing("HELLO").save(image)
    with fake_judge(respond) as judge:
        owner(judge.url)
        graph = workflow("judge_edits")
        for kind in ("MixGRPO_RewardJudge", "MixGRPO_RewardPairwiseJudge"):
            graph[find(graph, kind)]["inputs"]["urls"] = judge.url
        outputs = server.outputs(graph)
        assert sorted(len(call.images) for call in judge.calls) == [2, 2, 3, 3]
        assert all(np.array_equal(pixels(call.images[0]), pixels(judge.calls[0].images[0])) for call in judge.calls)
    best, worst = (
        json.loads(picture(server, file).text["mixgrpo_scores"])["parts"]
        for file in outputs[find(graph, "MixGRPO_SaveScored")]["images"]
    )
    assert best["judge"] == worst["judge"] == pytest.approx(0.6)
    assert (best["pairwise_judge"], worst["pairwise_judge"]) == (1, 0)
    # White paper may change and black letters may not: the negative of all of it turns the letters white.
    assert best["outside_mask"] == 1 and worst["outside_mask"] < 0.2
    assert best["clip_similarity"] != worst["clip_similarity"]
    image.unlink()


def greys(*grays):
    """EmptyImage nodes in one batch: their red channel is the redness reward's score."""
    graph = {
        str(place): node("EmptyImage", width=16, height=16, batch_size=1, color=gray << 16)
        for place, gray in enumerate(grays)
    }
    last = "0"
    for place in range(1, len(grays)):
        graph[f"batch{place}"] = node("ImageBatch", image1=[last, 0], image2=[str(place), 0])
        last = f"batch{place}"
    return graph, last


def test_lists_go_through_score_pick_best_and_save(server):
    graph, batch = greys(51, 204, 102)
    graph |= {
        "list": node("RebatchImages", images=[batch, 0], batch_size=1),
        "reward": node("Test_Reward", seconds=0.0, fail_at=0),
        "score": node(
            "MixGRPO_Score", images=["list", 0], reward=["reward", 0], prompt="a\nb\nc", prompt_per_line=True
        ),
        "pick": node("MixGRPO_PickBest", images=["score", 4], scores=["score", 0], top_k=2),
        "save": node("MixGRPO_SaveScored", images=["pick", 0], scores=["pick", 2], filename_prefix="scoring/list"),
        "stock": node("SaveImage", images=["pick", 0], filename_prefix="scoring/stock"),
        "table": node("PreviewAny", source=["score", 1]),
    }
    outputs = server.outputs(graph)
    assert outputs["score"]["scores"] == pytest.approx([0.2, 0.8, 0.4])
    reds = [int(np.asarray(picture(server, file))[0, 0, 0]) for file in outputs["save"]["images"]]
    assert reds == [204, 102] and len(outputs["stock"]["images"]) == 2
    assert float(outputs["table"]["text"][0]) == pytest.approx(1.4 / 3)


def test_images_of_different_sizes(server):
    graph = {
        "small": node("EmptyImage", width=16, height=16, batch_size=2, color=51 << 16),
        "large": node("EmptyImage", width=32, height=24, batch_size=1, color=204 << 16),
        "reward": node("Test_Reward", seconds=0.0, fail_at=0),
        "both": node("Test_ImageList", one=["small", 0], other=["large", 0]),
        "pick": node("MixGRPO_PickBest", images=["both", 0], reward=["reward", 0], top_k=2),
        "save": node("MixGRPO_SaveScored", images=["pick", 0], scores=["pick", 3], filename_prefix="scoring/sizes"),
        "stock": node("PreviewImage", images=["pick", 0]),
    }
    outputs = server.outputs(graph)
    assert [picture(server, file).size for file in outputs["save"]["images"]] == [(32, 24), (16, 16)]
    assert len(outputs["stock"]["images"]) == 2


def test_a_failed_score_is_null_in_the_history(server):
    graph, batch = greys(51, 204)
    graph |= {
        "reward": node("MixGRPO_RewardShapes"),
        "score": node(
            "MixGRPO_Score", images=[batch, 0], reward=["reward", 0], prompt="no such words", prompt_per_line=False
        ),
    }
    score = server.outputs(graph)["score"]
    assert score["scores"] == [None, None] and "mean - of 0 images; 2 could not" in score["text"][0]


def test_what_is_no_reward_is_one_sentence(server):
    graph, batch = greys(51)
    graph |= {
        "reward": node("Test_Anything", exits=False),
        "mix": node("MixGRPO_RewardMix", reward_3=["reward", 0]),
        "score": node("MixGRPO_Score", images=[batch, 0], reward=["mix", 0], prompt=""),
    }
    message = server.error(graph)["exception_message"]
    assert "reward_3 of MixGRPO Reward Mix is a string: connect a MixGRPO reward node." in message


@pytest.fixture(scope="module")
def compared(server):
    """(graph, outputs) of the template compare_models, made short."""
    graph = workflow("compare_models")
    graph[find(graph, "MixGRPO_Prompts")]["inputs"]["held_out"] = 3
    graph[find(graph, "MixGRPO_Evaluate")]["inputs"] |= {"steps": 4, "images_per_prompt": 2}
    return graph, server.outputs(graph)


def test_compare_models_leaves_text_grid_and_files(server, compared):
    graph, outputs = compared
    result = outputs[find(graph, "MixGRPO_Evaluate")]
    assert "3 held-out prompts x 2 images" in result["text"][0] and "shapes: " in result["text"][0]
    report, table = (
        server.get(f"/view?filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}")
        for file in result["files"]
    )
    summary = report["summary"]["shapes"]
    assert summary["prompts"] == 3 and summary["images"] == 6
    assert summary["difference"]["mean"] == pytest.approx(summary["tuned"] - summary["base"], abs=1e-6)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 6
    base = [float(row["base shapes"]) for row in rows]
    assert sum(base) / 6 == pytest.approx(summary["base"], abs=1e-6)
    (grid,) = outputs[find(graph, "SaveImage")]["images"]
    assert picture(server, grid).size == (4 * 198 + 6, 26 + 2 * (192 + 4 * 13 + 6))


def test_an_evaluation_is_the_stock_nodes_images(server, compared):
    """The same figures from KSampler, VAEDecode and Score."""
    graph, outputs = compared
    file, _ = outputs[find(graph, "MixGRPO_Evaluate")]["files"]
    report = json.loads((server.output / file["subfolder"] / file["filename"]).read_text())
    entry = report["prompts"][1]
    stock = {
        "model": node("MixGRPO_TinyModel"),
        "text": node("CLIPTextEncode", clip=["model", 1], text=entry["prompt"]),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=2),
        "sample": node(
            "KSampler", model=["model", 0], seed=entry["seed"], steps=4, cfg=1.0, sampler_name="euler",
            scheduler="simple", positive=["text", 0], negative=["text", 0], latent_image=["latent", 0], denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 2]),
        "reward": node("MixGRPO_RewardShapes"),
        "score": node("MixGRPO_Score", images=["decode", 0], reward=["reward", 0], prompt=entry["prompt"]),
    }  # fmt: skip
    assert server.outputs(stock)["score"]["scores"] == pytest.approx(entry["base"]["shapes"], abs=1e-5)


@pytest.mark.parametrize("scores", ["[[0.1, 0.9], [0.5]]", "[[[0.1], [0.9], [0.5]]]", "[0.1, 0.9, 0.5]"])
def test_scores_of_another_pack_pick_from_batches_of_several_sizes(server, scores):
    """One list a batch, rows as of a tensor (images, 1), and one list of all."""
    graph = {
        "two": node("EmptyImage", width=16, height=16, batch_size=2, color=255),
        "one": node("EmptyImage", width=32, height=16, batch_size=1, color=0),
        "images": node("Test_ImageList", one=["two", 0], other=["one", 0]),
        "scores": node("Test_Value", text=scores),
        "pick": node("MixGRPO_PickBest", images=["images", 0], scores=["scores", 0], top_k=0),
        "look": node("PreviewAny", source=["pick", 3]),
    }
    (report,) = server.outputs(graph)["look"]["text"]
    picked = [(entry["image"], entry["score"]) for entry in json.loads(report)["images"]]
    assert picked == [(1, 0.9), (2, 0.5), (0, 0.1)]
