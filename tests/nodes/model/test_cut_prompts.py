"""Prompts that a text encoder cuts off, and prompts that it can't tell apart: ComfyUI's own tokenizers and classes."""

import pytest
import torch

from tests.nodes import tiny_models

WORDS = ["red", "green", "blue", "circle", "square", "on", "a", "white", "background", "two", "left", "of", "the"]


def words(count, last=""):
    """A prompt of so many words, a token each in CLIP's vocabulary."""
    return " ".join([WORDS[number * number % len(WORDS)] for number in range(count - bool(last))] + [last] * bool(last))


@pytest.fixture(scope="module")
def flux(comfy):
    return tiny_models.flux_clip()


@pytest.fixture(scope="module")
def hidream(comfy):
    return tiny_models.hidream_clip()


@pytest.fixture
def encode(room, conditioning):
    """`encode(clip, prompts)`: what encode_prompts gives when it looks for cut prompts."""
    return lambda clip, prompts: conditioning.encode_prompts(
        clip, prompts, look=room("nodes.model.cut_prompts").CutPrompts(clip)
    )


def same_encoding(clip, one, other):
    """By encoder: whether its own part of the conditioning is the same for both prompts."""
    (one, more), (other, others) = (clip.encode_from_tokens_scheduled(clip.tokenize(text))[0] for text in (one, other))
    return {
        "tokens": one.shape == other.shape and torch.equal(one, other),
        "pooled": torch.equal(more["pooled_output"], others["pooled_output"]),
    }


def test_flux_cuts_prompts_off_in_clip_only(flux, encode):
    # 77 places of CLIP, two of which are its own.
    short, full, long, longer = words(8), words(75), words(76), words(200)
    assert same_encoding(flux, words(75) + " red", words(75) + " blue") == {"tokens": False, "pooled": True}
    encoded = encode(flux, [short, full, long, longer])
    assert encoded.cut == {long: ["l"], longer: ["l"]} and encoded.encoders == ["l", "t5xxl"]


def test_hidream_cuts_t5_off_too(hidream, encode):
    short, long, longer = words(8), words(76), words(200)
    beginning = words(190)
    assert same_encoding(hidream, beginning + " red", beginning + " blue") == {"tokens": True, "pooled": True}
    encoded = encode(hidream, [short, long, longer])
    assert encoded.cut == {long: ["g", "l"], longer: ["g", "l", "t5xxl"]}
    assert encoded.encoders == ["g", "l", "t5xxl", "llama"]


def test_an_encoder_whose_further_rows_are_read_cuts_nothing_off(clip, encode):
    prompt = words(200)
    assert not same_encoding(clip, prompt + " red", prompt + " blue")["tokens"]
    assert encode(clip, [prompt, words(75)]).cut == {}


def test_looking_changes_no_encoding(flux, encode, conditioning):
    from tests.nodes.scoring.nested import same

    prompts = [words(8), words(200), words(150)]
    plain, looked = conditioning.encode_prompts(flux, prompts), encode(flux, prompts)
    assert all(same(plain[prompt], looked[prompt]) for prompt in prompts)
    assert plain.cut == {}


def test_whether_an_encoder_reads_on_is_tried_once(flux, encode, monkeypatch):
    calls, ours = [], flux.encode_from_tokens_scheduled
    monkeypatch.setattr(flux, "encode_from_tokens_scheduled", lambda tokens: calls.append(1) or ours(tokens))
    encode(flux, [words(100 + number) for number in range(5)])
    assert len(calls) == 6


@pytest.fixture
def texts(room, tmp_path):
    """`texts(clip, prompts)`: what the stored encodings tell of them."""

    def texts(clip, prompts):
        stored = room("nodes.model.encodings").StoredEncodings(tmp_path / "encodings", prompts)
        stored.encode(clip)
        return stored.texts()

    return texts


def test_the_stored_encodings_tell_what_was_cut_off(texts, flux, hidream, monkeypatch, room):
    monkeypatch.setattr(room("nodes.model.encodings"), "PROMPTS_A_FILE", 2)
    long, longer = words(100), words(200)
    found = texts(flux, ["red", long, "", longer])
    assert found.notice() == (
        "2 of 4 prompts are longer than a text encoder reads (l: 2): their ends reach only other text encoders. "
        f"The first: '{long}'."
    )
    assert texts(flux, ["red", "blue"]).notice() == ""


def test_prompts_with_one_encoding_are_named(texts, clip, hidream):
    found = texts(clip, ["a red  circle", "a cat", "A Red circle", "a blue circle"])
    with pytest.raises(ValueError, match="the same of the prompts 'a red  circle' and 'A Red circle', so") as raised:
        found.require_distinct()
    assert "beginning" not in str(raised.value) and "in all" not in str(raised.value)
    told = found.require_distinct(going_on=True)  # of a run that more iterations brought to them
    assert told.endswith("the prompts 'a red  circle' and 'A Red circle', so the model can't tell them apart.")
    assert texts(clip, ["a red circle", "a cat", "a blue circle", ""]).require_distinct() == ""
    one, other, third = (words(190) + end for end in (" red", " blue", " green"))
    with pytest.raises(ValueError, match="reads only their beginnings.*There are 2 such prompts"):
        texts(hidream, [one, other, third]).require_distinct()


def test_encodings_of_earlier_versions_are_taken_as_they_are(room, conditioning, clip, tmp_path):
    """A released run's folder stays readable: its files say nothing of cut or equal prompts."""
    from safetensors import safe_open

    from mixgrpo_engine.records import tensor_files

    stored = room("nodes.model.encodings").StoredEncodings(tmp_path / "encodings", ["a cat", "A cat"])
    stored.encode(clip)
    path = stored.folder / "000000.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    tensor_files.save(tensors, path, {key: about[key] for key in about if key != "mixgrpo_encoded_texts"})
    assert stored.missing() == []
    stored.texts().require_distinct()
    assert stored.texts().notice() == ""
