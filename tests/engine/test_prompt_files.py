"""Prompts out of texts, files and lists: only line feeds end a line, and nothing of a prompt is lost in silence."""

import json

import pytest

from mixgrpo_engine import prompt_files
from mixgrpo_engine.standalone import run_file

# Python's splitlines() ends a line at each of these; to a text encoder they are white space within a prompt.
INNER = ["a\u2028b", "c\u2029d", "e\x85f", "g\x0bh", "i\x0cj", "k\x1cl", "m\rn"]


@pytest.fixture
def read(tmp_path):
    """`read(content, name)`: the prompts of a file with these bytes, or this text as UTF-8."""

    def read(content, name="prompts.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return prompt_files.read(path)

    return read


def test_only_line_feeds_end_a_line(read):
    assert prompt_files.of_text("\n".join(INNER)) == INNER
    assert prompt_files.of_text("\r\n".join(INNER) + "\r\n") == INNER
    assert read("\n".join(INNER)) == INNER


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark", "utf-16-be with mark"])
@pytest.mark.parametrize("name", ["p.txt", "P.JSONL", "p.csv"])
def test_every_encoding_gives_the_same_prompts(read, encoding, name):
    prompts = ["\u7ea2\u8272\u7684\u5706 \U0001f600", "a caf\u00e9, at \u201cnight\u201d", *INNER]
    if name == "P.JSONL":
        text = "\n".join(json.dumps({"prompt": prompt}, ensure_ascii=False) for prompt in prompts)
    elif name == "p.csv":
        text = "prompt\r\n" + "".join(f'"{prompt}"\r\n' for prompt in prompts)
    else:
        text = "\r\n".join(prompts)
    codec, _, mark = encoding.partition(" with ")
    assert read((("\ufeff" if mark else "") + text).encode(codec), name) == prompts


def test_pasted_byte_order_marks_are_dropped(read):
    assert prompt_files.of_text("\ufeffa cat\n\ufeff\na\ufeff dog\ufeff") == ["a cat", "a dog"]
    assert read("\ufeff\ufeffprompt,x\n\ufeffa cat,1\n", "p.csv") == ["a cat"]
    assert prompt_files.of_texts(["\ufeffa cat", "\ufeff"]) == ["a cat"]


def test_one_text_has_a_prompt_per_line_and_each_of_several_texts_is_one():
    assert prompt_files.of_texts(["a\nb"]) == ["a", "b"]
    assert prompt_files.of_texts(["a\nb", " c ", ""]) == ["a\nb", "c"]
    assert prompt_files.of_texts([]) == []


def test_jsonl_takes_the_prompt_of_every_object(read):
    text = '{"prompt": "two\\nlines", "seed": 1}\n\n{"id": 2, "prompt": " a cat "}\n{"prompt": ""}'
    assert read(text, "p.jsonl") == ["two\nlines", "a cat"]


def test_csv_takes_the_column_prompt(read):
    assert read('id,Prompt ,x\n1,"a cat, sitting\nand ""looking""",y\n\n2,a dog\n3', "p.csv") == [
        'a cat, sitting\nand "looking"',
        "a dog",
    ]
    assert read("id;prompt\n1;a cat, sitting\n", "p.csv") == ["a cat, sitting"]
    assert read("prompt\tid\na cat; two, three\t1\n", "p.csv") == ["a cat; two, three"]
    long = "word " * 40_000  # longer than Python's reader takes by itself
    assert read(f"prompt\n{long}\n", "p.csv") == [long.strip()]


WRONG = [
    ("caf\u00e9".encode("latin-1"), "p.txt", "isn't UTF-8 text: save it as UTF-8"),
    ("a cat".encode("utf-16-le"), "p.txt", "isn't whole text.*save that as UTF-8"),
    ("\ufeffa cat".encode("utf-32-le"), "p.txt", "isn't whole text"),
    (b"\xff\xfea", "p.txt", "isn't UTF-8 text"),
    ('{"prompt": "a"}\n{"prompt": 5}', "p.jsonl", 'Line 2 has no text "prompt"'),
    ('{"prompt": "a"}\n["b"]', "p.jsonl", 'Line 2 has no text "prompt"'),
    ('{"prompt": "a"}\n\nb', "p.jsonl", "Line 3 isn't JSON"),
    ('{"prompt": "\\ud83d"}', "p.jsonl", "isn't whole text"),
    ("a cat\na dog", "p.csv", "names no column 'prompt'"),
    ("", "p.csv", "names no column 'prompt'"),
    ("prompt\na cat\na cat, sitting", "p.csv", "Line 3 has 2 cells for 1 columns: put the prompt in quotes"),
    ('prompt\n"a cat\na dog\n', "p.csv", "isn't CSV near line 3"),
]


@pytest.mark.parametrize(("content", "name", "sentence"), WRONG)
def test_what_cannot_be_read_is_named_in_one_sentence(read, content, name, sentence):
    with pytest.raises(ValueError, match=f"The prompt file '{name}'.*{sentence}") as raised:
        read(content, name)
    assert "\n" not in str(raised.value)


def test_a_run_file_reads_what_the_node_reads(tmp_path):
    """prompts and held_out of run.json, as file and as list."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "a\u2028b"}\n{"prompt": "c"}\n', encoding="utf-8")
    (tmp_path / "held.csv").write_bytes("prompt\nd\n".encode("utf-16"))
    made = run_file._prompts("train.jsonl", "held.csv", tmp_path, 0)
    assert (made.train, made.held_out) == (("a\u2028b", "c"), ("d",))
    made = run_file._prompts(["\ufeffa\x0cb", " c", "c"], ["d\ne"], tmp_path, 0)
    assert (made.train, made.held_out) == (("a\x0cb", "c"), ("d\ne",))
    with pytest.raises(ValueError, match="prompts must be a list of prompts, or the path of a .txt, .jsonl or .csv"):
        run_file._prompts([1], 0, tmp_path, 0)
