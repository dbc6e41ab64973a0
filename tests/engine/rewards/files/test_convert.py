"""The converter: same tensors, same scores, nothing overwritten, nothing executed."""

import pickle

import pytest
import torch
from safetensors.torch import load_file

from mixgrpo_engine.rewards import __main__ as command
from mixgrpo_engine.rewards.files.convert import convert
from mixgrpo_engine.rewards.image_reward import ImageRewardReward
from tests.engine.rewards import tiny_image_reward as tiny


def test_image_reward_scores_the_same(tmp_path):
    source, target = tmp_path / "ImageReward.pt", tmp_path / "ImageReward.safetensors"
    original = tiny.tensors()
    torch.save(original, source)
    assert convert(source, target) == len(original)
    made = load_file(target)
    assert made.keys() == original.keys() and all(made[name].dtype == original[name].dtype for name in made)
    assert all(torch.equal(made[name], original[name]) for name in made)
    vocab = tiny.write_vocab(tmp_path)
    images = torch.rand(2, 32, 40, 3, generator=torch.Generator().manual_seed(1))
    scores = [ImageRewardReward(path, vocab).score(images, ["a red circle", "cat"]) for path in (source, target)]
    # The last bit of a sum may depend on where in memory a tensor begins.
    torch.testing.assert_close(*scores, rtol=1e-6, atol=0)


def test_hps_layout_keeps_names_types_and_shared_tensors(tmp_path):
    shared = torch.randn(3, 4).half()
    tensors = {"visual.proj": shared, "text_projection": shared, "logit_scale": torch.tensor(4.6)}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "HPS_v2.1_compressed.pt")
    assert command.main(["convert", str(tmp_path / "HPS_v2.1_compressed.pt"), str(tmp_path / "hps.safetensors")]) == 0
    made = load_file(tmp_path / "hps.safetensors")
    assert made.keys() == tensors.keys()
    assert all(torch.equal(made[name], tensor) and made[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_refusals(tmp_path, capsys):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "taken.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="must end in .safetensors"):
        convert(tmp_path / "a.pt", tmp_path / "b.pt")
    with pytest.raises(ValueError, match="is already there"):
        convert(tmp_path / "a.pt", tmp_path / "taken.safetensors")
    assert (tmp_path / "taken.safetensors").read_bytes() == b"mine"
    assert command.main(["convert", str(tmp_path / "no.pt"), str(tmp_path / "b.safetensors")]) == 1
    assert "There is no file" in capsys.readouterr().err


class Trap:
    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_torch_file_is_not_run(tmp_path):
    trap = Trap()
    trap.path = tmp_path / "executed"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"a": trap}, protocol=2))
    with pytest.raises(ValueError, match="evil.pt (holds more than tensors|can't be read)"):
        convert(tmp_path / "evil.pt", tmp_path / "b.safetensors")
    assert not trap.path.exists() and not (tmp_path / "b.safetensors").exists()
