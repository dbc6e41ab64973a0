"""Files of weights: what is read, and what is refused without being run."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mixgrpo_engine.rewards.files import weight_files

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def same(found):
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype


def test_safetensors(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    same(weight_files.read(tmp_path / "w.safetensors"))
    (tmp_path / "w.safetensors").rename(tmp_path / "W \u4e2d.SAFETENSORS")
    same(weight_files.read(str(tmp_path / "W \u4e2d.SAFETENSORS")))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_torch_files(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    torch.save(TENSORS, path)
    same(weight_files.read(path))
    torch.save({"state_dict": {**TENSORS, "step": 4}, "epoch": 3, "name": "x"}, path)
    same(weight_files.read(path))
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    same(weight_files.read(path))


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


def test_code_is_never_run(tmp_path):
    torch.save({"state_dict": {**TENSORS, "x": Attack(tmp_path / "hit")}}, tmp_path / "w.pt")
    (tmp_path / "w.bin").write_bytes(pickle.dumps(Attack(tmp_path / "hit")))
    with pytest.raises(ValueError, match="w.pt holds more than tensors, which could run code: take these weights as"):
        weight_files.read(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="w.bin can't be read as weights"):
        weight_files.read(tmp_path / "w.bin")
    assert not (tmp_path / "hit").exists()
    torch.load(tmp_path / "w.pt", weights_only=False)  # It would have been.
    assert (tmp_path / "hit").exists()


def test_a_torchscript_program_is_refused(tmp_path):
    """OpenAI's own ViT-L-14.pt is one."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "ViT-L-14.pt")
    with pytest.raises(ValueError, match="ViT-L-14.pt is a TorchScript program, which could run code: take these"):
        weight_files.read(tmp_path / "ViT-L-14.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    if name == "w.safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=name == "w.pt")
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>not found</html>", bytes(range(256)) * 4, b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} (can't be read as weights \(.+\): download it again|holds)"):
            weight_files.read(path)


@pytest.mark.parametrize("content", [{}, {"lr": 0.1}, [1, 2], torch.zeros(2), {"state_dict": 3}, {3: torch.zeros(1)}])
def test_no_tensors_by_name(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="w.pt holds no tensors by name: it isn't the weights of a scorer"):
        weight_files.read(tmp_path / "w.pt")


def test_a_tensor_without_numbers(tmp_path):
    torch.save({"a": torch.zeros(2), "b": torch.zeros(0, 4)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="w.pt holds no numbers for b: it isn't complete, download it again"):
        weight_files.read(tmp_path / "w.pt")


def test_no_file(tmp_path):
    for path in (tmp_path / "w.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no file .*: put the scorer's weights there"):
            weight_files.read(path)
