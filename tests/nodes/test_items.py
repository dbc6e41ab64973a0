"""MixGRPO Prompts and Item: lists, folders and images become items; nothing outside the input folder is read."""

import json

import pytest
import torch
from PIL import Image


@pytest.fixture
def inputs(room, monkeypatch, tmp_path):
    """An input folder with pictures, beside a secret one."""
    import folder_paths

    folder = tmp_path / "input"
    (folder / "edits").mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "input_directory", str(folder))
    for name, colour in {"edits/cat.png": (255, 0, 0), "edits/dog.png": (0, 255, 0), "top.png": (0, 0, 255)}.items():
        Image.new("RGB", (8, 8), colour).save(folder / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    return folder


@pytest.fixture
def prompts_of(room, inputs):
    node = room("nodes.prompts").MixGRPOPrompts

    def make(file="none", text="", held_out=0, **images):
        return node.execute([text], [file], [held_out], [0], **images).result

    return make


def listed(folder, *rows):
    (folder / "edits" / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "edits/list.jsonl"


def test_a_list_names_pictures_beside_it_and_has_columns_of_its_own(room, inputs, prompts_of):
    rows = [{"prompt": "blue", "image": "cat.png", "seed": 3, "tags": ["a"]}, {"prompt": "blue", "image": "dog.png"}]
    prompts, train, _ = prompts_of(listed(inputs, *rows, {"prompt": "plain"}), text="typed")
    assert prompts.train == ("typed", "blue [cat.png]", "blue [dog.png]", "plain")
    assert train == "typed\nblue\nblue\nplain"
    assert prompts.items["blue [cat.png]"].columns == {"seed": "3", "tags": '["a"]'}
    assert prompts.items.keys() == {"blue [cat.png]", "blue [dog.png]"}


def test_a_csv_does_too(inputs, prompts_of):
    (inputs / "list.csv").write_text("Prompt,image,wish\nred,top.png,more\ngreen,,\n")
    prompts, *_ = prompts_of("list.csv")
    assert prompts.train == ("red [top.png]", "green")
    assert prompts.items["red [top.png]"].columns == {"wish": "more"}


def test_a_folder_of_captioned_pictures(room, inputs, prompts_of):
    for name in ("cat", "dog"):
        (inputs / "edits" / f"{name}.txt").write_text(f"make the {name} blue\n")
    assert "edits/" in room("nodes.prompts").files()
    assert prompts_of("edits/")[0].train == ("make the cat blue [cat.png]", "make the dog blue [dog.png]")
    (inputs / "edits" / "dog.txt").unlink()
    with pytest.raises(ValueError, match=r"'edits/dog.png' has no prompt: write one into dog.txt"):
        prompts_of("edits/")


def test_a_list_or_folder_is_another_one_only_when_something_in_it_changes(room, inputs):
    def found(name):
        return room("nodes.prompts").MixGRPOPrompts.fingerprint_inputs(file=[name], text=["x"])

    row = {"prompt": "blue", "image": "cat.png", "wish": "sky"}
    name = listed(inputs, row)
    (inputs / "list.csv").write_text("prompt\nred\n")
    (inputs / "plain.txt").write_text("red\n")
    for each in (name, "list.csv", "plain.txt", "none", None):
        assert found(each) == found(each)
    told = [found(listed(inputs, {**row, **more})) for more in ({}, {"wish": "sea"}, {"prompt": "red"})]
    Image.new("RGB", (8, 8), (1, 2, 3)).save(inputs / "edits" / "cat.png")
    told.append(found(listed(inputs, row)))
    for caption in ("cat", "dog"):
        (inputs / "edits" / f"{caption}.txt").write_text("make it blue")
    assert found("edits/") == found("edits/")
    told.append(found("edits/"))
    (inputs / "edits" / "dog.txt").write_text("make it red")
    told.append(found("edits/"))
    assert len(set(map(str, told))) == 6
    (inputs / "edits" / "dog.txt").unlink()
    for unusable in ("edits/", "gone.txt", "../secret.png"):
        assert found(unusable) != found(unusable), "asked again each time"


def test_images_of_a_graph_with_a_prompt_each_or_one_for_all(inputs, prompts_of):
    batches = [torch.full((2, 4, 4, 3), 0.2), torch.full((1, 8, 8, 3), 0.8)]
    batches[0][1] = 0.4
    prompts, *_ = prompts_of(text="brighter", images=batches)
    assert len(prompts.train) == 3 and len(list((inputs / "mixgrpo").iterdir())) == 3
    means = [float(prompts.items[name].pixels("image").mean()) for name in prompts.train]
    assert means == pytest.approx([0.2, 0.4, 0.8], abs=1 / 255)
    again, *_ = prompts_of(text="brighter", images=batches)
    assert again == prompts and len(list((inputs / "mixgrpo").iterdir())) == 3
    with pytest.raises(ValueError, match="got 3 images and 2 prompts: give one an image, or one for all"):
        prompts_of(text="a\nb", images=batches)


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/passwd", "link.png", "gone.png", "list.jsonl"])
def test_pictures_elsewhere_are_refused(inputs, prompts_of, path):
    (inputs / "edits" / "link.png").symlink_to(inputs.parent / "secret.png")
    with pytest.raises(ValueError, match=r"^Item 1 of 'list.jsonl': .*(lies outside|there is no picture)"):
        prompts_of(listed(inputs, {"prompt": "x", "image": path}))


def test_a_link_within_the_input_folder_is_fine(inputs, prompts_of):
    (inputs / "edits" / "link.png").symlink_to(inputs / "top.png")
    assert prompts_of(listed(inputs, {"prompt": "x", "image": "link.png"}))[0].train == ("x [top.png]",)


def test_item_gives_outputs_by_number_and_blocks_what_there_is_not(room, inputs, prompts_of):
    from comfy_execution.graph import ExecutionBlocker

    prompts, *_ = prompts_of(listed(inputs, {"prompt": "blue", "image": "cat.png", "wish": "sky"}), text="plain")
    node = room("nodes.items").MixGRPOItem
    text, image, mask, second, column = node.execute(1, " wish ", prompts).result
    assert (text, column) == ("blue", "sky") and image.shape == (1, 8, 8, 3) and image[0, 0, 0].tolist() == [1, 0, 0]
    assert isinstance(mask, ExecutionBlocker) and mask.message == "Item 1 has no mask."
    assert isinstance(second, ExecutionBlocker)
    assert isinstance(node.execute(0, "wish", prompts).result[4], ExecutionBlocker)
    with pytest.raises(ValueError, match="number is 2, but MixGRPO Prompts has 2 prompts"):
        node.execute(2, "", prompts)


# --- the cut graph ---


def graph(**changes):
    """A Train with an Item between prompts and positive."""
    link = {name: [name, 0] for name in ("model", "clip", "reward", "prompts")}
    nodes = {
        **{name: {"class_type": f"Some{name}", "inputs": {}} for name in link},
        "item": {"class_type": "MixGRPO_Item", "inputs": {"prompts": ["prompts", 0], "number": 7, "column": "c"}},
        "other": {"class_type": "MixGRPO_Item", "inputs": {"prompts": ["clip", 0], "number": 0}},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": ["item", 0]}},
        "plain": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "x"}},
        "train": {"class_type": "MixGRPO_Train", "inputs": {**link, "positive": ["text", 0], **changes}},
    }
    nodes["train"]["inputs"] = {name: value for name, value in nodes["train"]["inputs"].items() if value}
    return nodes


@pytest.fixture
def cut(room):
    def make(nodes, guided=False, negative_prompt=""):
        names = [name for name in nodes["train"]["inputs"] if name != "prompts"]
        part = room("nodes.runs.graph").keep_inputs(nodes, "train", names)
        return room("nodes.runs.item_graph").leaves(part, "train", ["prompts", 0], guided, negative_prompt)

    return make


def test_item_becomes_a_leaf_and_its_number_tells_no_run_apart(cut):
    found = cut(graph(negative=["plain", 0], latent=["model", 1]))
    assert found["item"]["inputs"] == {"column": "c"}
    assert found.keys() == {
        "train",
        "model",
        "clip",
        "reward",
        "item",
        "text",
    }  # neither prompts nor the unused negative
    assert "negative" not in found["train"]["inputs"] and found["train"]["inputs"]["latent"] == ["model", 1]
    assert "plain" in cut(graph(negative=["plain", 0]), guided=True)
    plain = graph(positive=None)
    assert cut(plain).keys() == {"train", "model", "clip", "reward"}


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (graph(reward=["text", 0]), "reward of MixGRPO Train depends on a MixGRPO Item"),
        (graph(positive=["plain", 0]), "positive of MixGRPO Train is the same for every prompt"),
        (graph(positive=None, latent=["text", 0]), "latent of MixGRPO Train is connected without positive"),
        (graph(positive=["other", 0]), r"MixGRPO Item \(node other\) and MixGRPO Train have different prompts"),
    ],
)
def test_wires_that_a_training_cant_follow_are_refused(cut, nodes, told):
    with pytest.raises(ValueError, match=told):
        cut(nodes)


def test_pictures_that_nothing_sees_are_refused(room, inputs, prompts_of):
    train, item_graph = room("nodes.worker.train"), room("nodes.runs.item_graph")
    prompts, *_ = prompts_of(listed(inputs, {"prompt": "blue", "image": "cat.png"}))
    words_alone, with_picture = graph(), graph()
    with_picture["text"]["inputs"]["image"] = ["item", 1]
    looks = type("Looks", (), {"name": "looks", "uses_references": True})()
    assert not item_graph.takes_pictures(words_alone) and item_graph.takes_pictures(with_picture)
    with pytest.raises(ValueError, match="have pictures, but neither the model nor a reward sees them"):
        train.check_pictures(prompts, [], item_graph.takes_pictures(words_alone))
    train.check_pictures(prompts, [], True)
    train.check_pictures(prompts, [looks], False)
    train.check_pictures(prompts_of(text="plain")[0], [], False)


def test_two_negatives_are_refused(cut):
    with pytest.raises(ValueError, match="a negative and a negative_prompt"):
        cut(graph(negative=["plain", 0]), guided=True, negative_prompt="blurry")


def test_the_graph_of_an_item_is_a_fresh_one(room):
    nodes = graph()
    made = room("nodes.runs.item_graph").numbered(nodes, 3)
    made["text"]["is_changed"] = float("nan")
    assert made["item"]["inputs"]["number"] == 3 and nodes == graph()
