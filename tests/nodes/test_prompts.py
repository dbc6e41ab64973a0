"""MixGRPO Prompts: names of files that come from a graph."""

import pytest


@pytest.mark.parametrize("name", ["gone.txt", "../secret.txt", "/etc/passwd", "x" * 300, "a\0b", "", ".", "a/" * 600])
def test_what_is_no_file_of_the_input_folder_is_one_sentence(room, monkeypatch, tmp_path, name):
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    with pytest.raises(ValueError, match="isn't in ComfyUI's input folder: put it there and choose it again.") as told:
        room("nodes.prompts").read_file(name)
    assert len(str(told.value)) < 400 and "\0" not in str(told.value)
