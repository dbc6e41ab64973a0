"""The known files: unmistakable names, whole hashes, and what people read about them."""

import re

import pytest

from mixgrpo_engine.rewards import __main__ as command
from mixgrpo_engine.rewards.files import catalog


@pytest.mark.parametrize("file", catalog.FILES, ids=lambda file: file.name)
def test_known_file_is_well_formed(file):
    assert re.fullmatch(r"[\w.+-]+\.(safetensors|pth?|txt)", file.name)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", file.repo)
    assert re.fullmatch(r"[0-9a-f]{64}|", file.sha256)
    # A name that may move is only trusted with a hash.
    assert re.fullmatch(r"[0-9a-f]{40}", file.revision) or file.sha256
    assert 10**5 < file.size < 10**10 and file.licence


def test_names_are_distinct_and_found():
    assert len({file.name for file in catalog.FILES}) == len(catalog.FILES)
    assert catalog.by_name("HPS_v2.1_compressed.pt") is catalog.HPS
    assert catalog.HPS.terms == "2.0 GB, Apache-2.0"
    assert catalog.BERT_VOCAB.terms == "232 kB, Apache-2.0"
    with pytest.raises(ValueError, match="'hps' isn't a known file: choose one of HPS_v2.1_compressed.pt"):
        catalog.by_name("hps")


def test_list_names_every_file_with_its_terms(capsys):
    assert command.main(["list"]) == 0
    text = capsys.readouterr().out
    for file in catalog.FILES:
        assert f"{file.name}  ({file.terms})" in text and file.page in text
        assert not file.sha256 or file.sha256 in text
