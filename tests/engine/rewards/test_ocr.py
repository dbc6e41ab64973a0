"""Text in pictures: read by the real RapidOCR, compared with known answers."""

import builtins
import importlib.metadata
import importlib.util
import random
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from mixgrpo_engine.rewards import Reward, asking, ocr
from mixgrpo_engine.rewards.ocr import Line, OcrReward, edit_distance, reading_order, similarity
from mixgrpo_engine.rewards.quoted import quoted_texts

# --- which text is wanted ---


@pytest.mark.parametrize(
    "prompt, texts",
    [
        ('a sign that says "Open Late"', ["Open Late"]),
        ("a sign that says \u201cOpen Late\u201d", ["Open Late"]),
        ("ein Schild: \u201eBis sp\u00e4t\u201c", ["Bis sp\u00e4t"]),
        ("a sign that says 'Open Late', at night", ["Open Late"]),
        ("a sign that says \u2018Open Late\u2019.", ["Open Late"]),
        ("'Yes' on the left and \"No\" on the right", ["Yes", "No"]),
        ("a mug: 'don't panic'", ["don't panic"]),
        ("a mug: \u2018don\u2019t panic\u2019", ["don\u2019t panic"]),
        ('the word "don\'t" on a wall', ["don't"]),
        ("a dog's bowl and two cats' toys", []),
        ("the dogs' bowls and the cats' beds", []),
        ("rock 'n' roll, '90s style, the kids' party", []),
        ("'tis the dogs' day", []),
        ("don\u2019t show a cat\u2019s tail", []),
        ("rock \u2019n\u2019 roll", []),
        ('an empty sign "" and another " "', []),
        ('a 12" record and a 7" one', []),
        ('a door with "Room 12" on it', ["Room 12"]),
        ("nothing quoted", []),
        ("", []),
    ],
)
def test_quoted_texts(prompt, texts):
    assert quoted_texts(prompt) == texts


def test_no_prompt_can_hold_the_server_up():
    assert quoted_texts("'a " * 20_000) == quoted_texts("\u2018a " * 20_000) == []


# --- how it is compared ---


def test_edit_distance_known_answers():
    for one, other, distance in [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("ab", "ba", 2)]:
        assert edit_distance(one, other) == distance


def test_edit_distance_is_the_recursive_definition():
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    rng = random.Random(0)
    for _ in range(60):
        one, other = ("".join(rng.choices("abc", k=rng.randrange(6))) for _ in range(2))
        assert edit_distance(one, other) == slow(one, other)


@pytest.mark.parametrize(
    "lines, score",
    [
        (["openlate"], 1),
        (["grandhotel", "openlate", "menu"], 1),
        (["welcomeopenlatetoday"], 1),  # anywhere
        (["open", "late"], 1),
        (["grand", "open", "late", "hotel"], 1),
        (["opemlate"], 7 / 8),
        (["grandhotel", "opemlate", "menu"], 7 / 8),  # other lines cost nothing
        (["open"], 4 / 8),
        (["late", "open"], 4 / 8),
        (["op", "late"], 6 / 8),
        (["openlatexx".replace("n", "m")], 5 / 8),
        ([], 0),
        (["zzzzzzzzzzzzzzzzzzzzzz"], 0),
        (["zzzz"] * 500, 0),
    ],
)
def test_similarity(lines, score):
    assert similarity(lines, "openlate") == pytest.approx(score)


def test_similarity_is_the_best_of_all_runs_of_lines():
    rng = random.Random(1)
    for _ in range(200):
        lines = ["".join(rng.choices("ab", k=rng.randrange(1, 5))) for _ in range(rng.randrange(5))]
        target = "".join(rng.choices("ab", k=rng.randrange(1, 7)))
        runs = ["".join(lines[i:j]) for i in range(len(lines)) for j in range(i + 1, len(lines) + 1)]
        least = min([len(target), *(edit_distance(run, target) for run in runs)])
        least = 0 if target in "".join(lines) else least
        assert similarity(lines, target) == 1 - least / len(target)


def test_reading_order():
    # Two pieces side by side, the right one a little higher; a line below; one above all.
    pieces = [Line("d", 5, 60, 80), Line("c", 50, 28, 48), Line("b", 5, 30, 50), Line("a", 40, 0, 20)]
    assert "".join(line.text for line in reading_order(pieces)) == "abcd"


# --- on pictures ---


@pytest.fixture(scope="module")
def reward():
    """Each picture is really read, but only once: a read costs more than all else here."""
    reward, known = OcrReward(threads=1), {}
    read = reward._read

    def read_once(shown):
        pixels = shown.tobytes()
        if pixels not in known:
            known[pixels] = read(shown)
        return known[pixels]

    reward._read = read_once
    return reward


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_):
        raise AssertionError("OCR asked the network.")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def picture(*lines):
    """Black text on white, (176, 176, 3) in 0..1; lines: (x, y, text)."""
    image = Image.new("RGB", (176, 176), "white")
    for x, y, text in lines:
        ImageDraw.Draw(image).text((x, y), text, "black", ImageFont.load_default(24))
    return torch.from_numpy(np.asarray(image).copy()).float() / 255


PROMPT = 'a sign that says "Open Late"'
# A line of two words, two words side by side (the right one drawn first), and a word above another.
SIGN = picture((12, 8, "OPEN LATE"), (104, 48, "Fox"), (12, 48, "Red"), (12, 88, "Gold"), (12, 132, "Bird"))
WANTED = {
    "Open Late": 1,
    "Red Fox": 1,
    "Fox Red": 0.5,
    "Gold Bird": 1,
    "Bird Gold": 0.5,
    "Opem Late": 0.875,
    "Zumy": 0,
}


def test_pictures_with_the_text_score_high_and_others_low(reward):
    """And a picture without text among them, which is not mixed up with the others."""
    images = torch.stack([picture(), *[SIGN] * len(WANTED)])
    scores = reward.score(images, [PROMPT, *(f'a sign that says "{text}"' for text in WANTED)])
    assert isinstance(reward, Reward) and scores.dtype == torch.float32 and reward.failures == []
    assert scores.tolist() == pytest.approx([0, *WANTED.values()])


def test_several_texts_count_the_same(reward):
    scores = reward.score(SIGN[None], ["'Open Late' on the left and \"Zumy\" on the right"])
    assert scores.tolist() == [0.5]


def test_no_quoted_text_and_broken_images_are_no_score(reward):
    images = torch.stack([SIGN] * 3)
    images[2] = torch.nan
    scores = reward.score(images, ["a cat's bowl", PROMPT, PROMPT])
    assert scores.isnan().tolist() == [True, False, True]
    assert [failure.split(":")[0] for failure in reward.failures] == ["1 of 3 images"] * 2
    assert "no text in quotes" in reward.failures[0] and "finite" in reward.failures[1]


def test_the_caller_can_stop_it_between_images(monkeypatch):
    class Cancelled(BaseException):
        pass

    def cancel():
        if len(read) == 2:
            raise Cancelled

    read, reward = [], OcrReward()
    monkeypatch.setattr(reward, "_read", lambda shown: read.append(shown) or [])
    with pytest.raises(Cancelled), asking(cancel):
        reward.score(torch.zeros(5, 8, 8, 3), ['"a"'] * 5)
    assert len(read) == 2


def test_wrong_input_is_refused(reward):
    with pytest.raises(ValueError, match="prompts"):
        reward.score(picture()[None], [])


def test_the_models_are_the_packages_own():
    models = ocr.packaged_models()
    assert models.keys() == {"Det", "Cls", "Rec"} and all(path.parent.name == "models" for path in models.values())


def test_a_package_without_its_models_is_refused_and_not_completed_from_the_network(monkeypatch, reward):
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
    with pytest.raises(RuntimeError, match="without its model for 'Det'.*-m pip install"):
        OcrReward().score(picture()[None], [PROMPT])


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rapidocr" else found(name))
    with pytest.raises(RuntimeError, match='-m pip install "rapidocr>=3') as error:
        OcrReward().score(picture()[None], [PROMPT])
    assert sys.executable in str(error.value) and "onnxruntime" not in str(error.value)


def test_importing_it_loads_no_ocr(monkeypatch):
    asked = []
    load = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: asked.append(name) or load(name, *rest))
    spec = importlib.util.spec_from_file_location("mixgrpo_engine.rewards.ocr_again", ocr.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert asked and not [name for name in asked if name.startswith(("rapidocr", "onnxruntime"))]
