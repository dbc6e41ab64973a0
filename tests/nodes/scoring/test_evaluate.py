"""MixGRPO_Evaluate on the embedded model: stock images, paired figures, files."""

import csv
import json

import pytest
import torch

from tests.nodes.hidden_inputs import with_hidden

PROMPTS = ["a red circle on a white background", "a blue square", "two green triangles"]
STEPS, IMAGES, SEED = 3, 3, 11


class Red:
    """Mean of the red channel; NaN for every image of the prompt "a blue square" when told to."""

    name = "red"

    def __init__(self, fails=False):
        self.fails = fails

    def score(self, images, prompts):
        scores = images[..., 0].mean((1, 2))
        return torch.where(torch.tensor([self.fails and prompt == PROMPTS[1] for prompt in prompts]), torch.nan, scores)


class Blue(Red):
    name = "blue"

    def score(self, images, prompts):
        return 1000 * images[..., 2].mean((1, 2))


@pytest.fixture(scope="module")
def models(room):
    """(base, tuned, clip, vae): tuned is the embedded model with another time shift."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model, clip, vae = room("nodes.tiny.tiny_model").MixGRPOTinyModel.execute().result
    return model, ModelSamplingSD3().patch(model, 9.0)[0], clip, vae


@pytest.fixture
def evaluate(room, models, tmp_path, monkeypatch):
    """`evaluate(**changes)`: (grid, text, report, ui)."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))

    def run(**changes):
        base, tuned, clip, vae = models
        inputs = {
            "base": base, "tuned": tuned, "clip": clip, "vae": vae, "reward": Red(), "text": "\n".join(PROMPTS),
            "negative": "", "images_per_prompt": IMAGES, "batch_size": 8, "seed": SEED, "steps": STEPS, "cfg": 1.0,
            "sampler_name": "euler", "scheduler": "simple", "width": 64, "height": 64, "grid_prompts": 2,
            "filename_prefix": "evaluation",
        }  # fmt: skip
        node = with_hidden(room("nodes.scoring.evaluate").MixGRPOEvaluate, unique_id="1")
        with torch.inference_mode():
            output = node.execute.__func__(node, **{**inputs, **changes})
        grid, text, report = output.result
        return grid, text, json.loads(report, parse_constant=pytest.fail), output.ui

    return run


def ksampler(models, model, number, cfg=1.0, sampler="euler", negative=""):
    """Images of prompt `number` by the stock nodes."""
    import nodes

    _, _, clip, vae = models
    positive, negative = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPTS[number], negative))
    latent = {"samples": torch.zeros(IMAGES, 16, 8, 8)}
    with torch.inference_mode():
        (done,) = nodes.KSampler().sample(
            model, SEED + number, STEPS, cfg, sampler, "simple", positive, negative, latent
        )
        return nodes.VAEDecode().decode(vae, done)[0]


@pytest.mark.parametrize("settings", [{}, {"cfg": 3.0, "negative": "a red circle"}, {"sampler": "euler_ancestral"}])
def test_the_images_are_ksamplers(models, evaluate, settings):
    changes = {"sampler_name" if key == "sampler" else key: value for key, value in settings.items()}
    _, _, report, _ = evaluate(**changes)
    for side, model in zip(("base", "tuned"), models, strict=False):
        for number, entry in enumerate(report["prompts"]):
            expected = ksampler(models, model, number, **settings)[..., 0].mean((1, 2)).tolist()
            assert entry[side]["red"] == pytest.approx(expected, abs=1e-5)
            assert (entry["prompt"], entry["seed"]) == (PROMPTS[number], SEED + number)
    assert report["prompts"][0]["base"] != report["prompts"][0]["tuned"]


def test_the_batch_size_changes_nothing_but_memory(evaluate):
    whole, parts = evaluate()[2], evaluate(batch_size=2)[2]
    for one, other in zip(whole["prompts"], parts["prompts"], strict=True):
        assert one["tuned"]["red"] == pytest.approx(other["tuned"]["red"], abs=1e-4)


def test_a_sampler_that_draws_noise_draws_other_noise_for_every_batch_and_the_same_for_both_models(
    evaluate, monkeypatch
):
    import comfy.sample

    asked, stock = [], comfy.sample.sample
    monkeypatch.setattr(comfy.sample, "sample", lambda *args, **kw: (asked.append(kw["seed"]), stock(*args, **kw))[1])
    evaluate(batch_size=1, sampler_name="euler_ancestral")
    base, tuned = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert base == tuned and len(set(base)) == len(base) == len(PROMPTS) * IMAGES
    assert base[::IMAGES] == [SEED, SEED + 1, SEED + 2], "the first batch is KSampler's"


def test_a_model_against_itself_is_a_draw(models, evaluate):
    _, text, report, _ = evaluate(tuned=models[0])
    result = report["summary"]["red"]
    assert result["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert result["win_rate"]["mean"] == 0.5 and "tuned wins 50%" in text


def test_the_figures_are_the_comparisons(room, evaluate):
    _, text, report, _ = evaluate()
    scores = {
        side: torch.tensor([entry[side]["red"] for entry in report["prompts"]], dtype=torch.float32)
        for side in ("base", "tuned")
    }
    expected = room("mixgrpo_engine.rewards.comparison").compare(scores["base"], scores["tuned"])
    assert report["summary"] == {"red": expected}
    assert f"red: {expected['base']:.4f} -> {expected['tuned']:.4f}" in text
    assert report["settings"]["seed"] == SEED and "paired t" in report["methods"]["difference"]


def test_failed_scores_are_left_out_and_told(evaluate):
    _, text, report, ui = evaluate(reward=Red(fails=True))
    result = report["summary"]["red"]
    assert (result["prompts"], result["images"], result["failed"]) == (2, 6, 3)
    assert report["prompts"][1]["base"]["red"] == [None] * 3
    assert "3 image pairs could not be scored and are left out" in text and "red: no score for 3 of 3" in text
    json.dumps(ui, allow_nan=False)
    text = evaluate(reward=Red(fails=True), text=PROMPTS[1])[1]
    assert "red: no image pair could be scored." in text


def test_what_a_scorer_remarks_is_told_once(evaluate):
    reward = Red()
    reward.remarks = ["These are guesses."]
    _, text, report, _ = evaluate(reward=reward, frames=1)
    assert report["remarks"] == ["red: These are guesses."] and text.endswith("\nred: These are guesses.")


def test_a_mix_reports_its_scorers_and_normalises_both_models_together(room, evaluate):
    mix = room("mixgrpo_engine.rewards.mix").mix
    _, text, report, _ = evaluate(reward=mix([(Red(), 1.0), (Blue(), 3.0)]))
    assert list(report["summary"]) == ["red", "blue", "total"] and report["shares"] == {"red": 0.25, "blue": 0.75}
    entry = report["prompts"][2]["tuned"]
    pairs = zip(entry["red"], entry["blue"], strict=True)
    assert entry["total"] == pytest.approx([red / 4 + 3 * blue / 4 for red, blue in pairs])
    assert all(f"{name}: " in text for name in ("red", "blue", "total"))
    report = evaluate(reward=mix([(Red(), 1.0), (Blue(), 1.0)], "batch"))[2]
    both = [report["summary"]["total"][side] for side in ("base", "tuned")]
    assert abs(sum(both)) < 1e-4 and abs(both[0]) > 1e-3, "one scale for both, or each would have mean 0"


def test_the_files_hold_every_score(evaluate, tmp_path):
    _, _, report, ui = evaluate(filename_prefix="compared/red", reward=Red(fails=True))
    assert [file["filename"] for file in ui["files"]] == ["red_00001_.json", "red_00001_.csv"]
    assert {(file["subfolder"], file["type"]) for file in ui["files"]} == {("compared", "output")}
    folder = tmp_path / "output" / "compared"
    assert json.loads((folder / "red_00001_.json").read_text()) == report
    with open(folder / "red_00001_.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["prompt", "seed", "image", "base red", "tuned red"] and len(rows) == len(PROMPTS) * IMAGES
    assert rows[1][:3] == [PROMPTS[0], str(SEED), "1"] and float(rows[1][3]) == report["prompts"][0]["base"]["red"][1]
    assert rows[3][3:] == ["", ""]
    assert evaluate(filename_prefix="compared/red")[3]["files"][0]["filename"] == "red_00002_.json"


@pytest.mark.parametrize("prefix", ["../outside", "a/../../b", "/tmp/absolute", "", "..", "folder/.."])
def test_a_prefix_that_leads_out_of_the_output_folder_is_refused_before_any_sampling(evaluate, tmp_path, prefix):
    class Never(Red):
        def score(self, images, prompts):
            raise AssertionError("It has sampled.")

    with pytest.raises(ValueError, match="must be a name inside ComfyUI's output folder"):
        evaluate(filename_prefix=prefix, reward=Never())
    assert not list(tmp_path.glob("*.json"))


def test_the_grid_shows_base_beside_tuned(models, evaluate):
    grid, *_ = evaluate()
    assert grid.ndim == 4 and grid.shape[0] == 1 and grid.dtype == torch.float32
    shown = [ksampler(models, model, number)[0] for number in (0, 1) for model in models[:2]]
    for place, image in enumerate(shown):
        wanted = ((image.clamp(0, 1) * 255).round() / 255).repeat_interleave(3, 0).repeat_interleave(3, 1)
        strip = grid[0, 26 : 26 + 192, 6 + place * 198 :][:, :192]
        assert (strip - wanted).abs().max() < 2 / 255, place
    alone, *_ = evaluate(grid_prompts=1)
    assert alone.shape[2] == 2 * 198 + 6


def test_prompts_are_the_held_out_ones(room, evaluate):
    split = room("mixgrpo_engine.prompts").split
    made = split([*PROMPTS, "a yellow circle"], 2, 0)
    _, text, report, _ = evaluate(text="", prompts=made)
    assert [entry["prompt"] for entry in report["prompts"]] == list(made.held_out) and "2 held-out prompts" in text
    _, text, report, _ = evaluate(text=f"{made.held_out[0]}\nmore\n", prompts=made)
    assert [entry["prompt"] for entry in report["prompts"]] == [*made.held_out, "more"]
    _, text, report, _ = evaluate(text="", prompts=split(PROMPTS, 0, 0))
    assert len(report["prompts"]) == 3 and "none are held out" in text
    with pytest.raises(ValueError, match="There are no prompts"):
        evaluate(text=" \n")


def test_it_stops_when_it_is_interrupted(evaluate):
    import comfy.model_management as management

    class Interrupting(Red):
        calls = 0

        def score(self, images, prompts):
            self.calls += 1
            management.interrupt_current_processing(True)
            return super().score(images, prompts)

    reward = Interrupting()
    try:
        with pytest.raises(management.InterruptProcessingException):
            evaluate(reward=reward)
    finally:
        management.interrupt_current_processing(False)
    assert reward.calls == 1


def test_progress_ends_at_its_total(evaluate, all_progress):
    import comfy.utils

    seen = []
    before = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append((value, total)))
    try:
        evaluate(batch_size=2)
    finally:
        comfy.utils.set_progress_bar_global_hook(before)
    total = 2 * len(PROMPTS) * 2 * STEPS  # models, prompts, batches, steps
    assert seen == [(step, total) for step in range(1, total + 1)]


def test_a_size_that_does_not_fit_is_one_sentence(evaluate):
    with pytest.raises(ValueError, match="width is 68: it must be a multiple of 8"):
        evaluate(width=68)


def test_rewards_that_cannot_compare_two_models_are_refused(room, evaluate):
    class Ranks(Red):
        compares_group = True

    class Sees(Red):
        uses_references, needed_references = True, ("image",)

    mix = room("mixgrpo_engine.rewards.mix").mix
    you = room("mixgrpo_engine.rewards.taste").LiveReward(None)
    ranks = "both models would get 1/2: connect another reward"
    for reward, message in ((Ranks(), ranks), (you, f"'you' .*{ranks}"), (Sees(), "compares with the picture 'image'")):
        for given in (reward, mix([(Red(), 1.0), (reward, 1.0)])):
            with pytest.raises(ValueError, match=message):
                evaluate(reward=given)
