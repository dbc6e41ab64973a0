"""What a folder must hold, its time shift, and what of it is refused."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from mixgrpo_engine.policies.diffusers_folder import DiffusersFolder, encode
from mixgrpo_engine.policies.encoded_prompts import EncodedPrompts


@pytest.fixture
def copy(folders, tmp_path):
    """`copy(kind)`: a folder of one's own to spoil."""

    def make(kind):
        return shutil.copytree(folders[kind], tmp_path / "model", dirs_exist_ok=True)

    return make


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_that_isnt_whole_is_refused_in_one_sentence(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no model folder"):
        DiffusersFolder(tmp_path / "nowhere")
    folder = copy("flux")
    shutil.rmtree(folder / "tokenizer_2")
    with pytest.raises(FileNotFoundError, match="no folder 'tokenizer_2'"):
        DiffusersFolder(folder)
    folder = copy("flux")
    next((folder / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match="vae holds no diffusion_pytorch_model.safetensors"):
        DiffusersFolder(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model_index.json"):
        DiffusersFolder(folder)


def test_a_missing_file_is_named_before_anything_is_loaded(copy, kind):
    folder = copy(kind)
    sharded = DiffusersFolder(folder).transformer(torch.float32)
    shutil.rmtree(folder / "transformer")
    sharded.save_pretrained(folder / "transformer", max_shard_size="300KB")
    DiffusersFolder(folder).require_files()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "tokenizer_config.json"]
    assert len(files) > 15
    for path in files:
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(FileNotFoundError, match=re.escape(path.parent.name if "token" in path.name else path.name)):
            DiffusersFolder(folder).require_files()
        path.write_bytes(kept)
    for part in ("tokenizer", "tokenizer_2"):  # as older folders have it
        (folder / part / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").touch()
    (folder / "tokenizer_2" / "spiece.model").touch()
    with pytest.raises(FileNotFoundError, match="/tokenizer holds neither .*vocab.json with merges.txt"):
        DiffusersFolder(folder).require_files()
    (folder / "tokenizer" / "merges.txt").touch()
    DiffusersFolder(folder).require_files()


def test_other_pipelines_and_schedulers_are_refused(copy):
    folder = copy("sd3")
    change(folder / "scheduler" / "scheduler_config.json", use_karras_sigmas=True)
    with pytest.raises(ValueError, match="sets use_karras_sigmas"):
        DiffusersFolder(folder).scheduler()
    change(folder / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler")
    with pytest.raises(ValueError, match="is a DDIMScheduler"):
        DiffusersFolder(folder).scheduler()
    change(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(ValueError, match="StableDiffusionPipeline, which can't be trained"):
        DiffusersFolder(folder)


def test_no_class_is_imported_because_a_folder_names_it(copy):
    folder = copy("sd3")
    change(folder / "model_index.json", text_encoder=["os", "system"], transformer=["evil", "Module"])
    loaded = DiffusersFolder(folder).text_pipeline(torch.float32, torch.device("cpu"))
    assert type(loaded.text_encoder).__name__ == "CLIPTextModelWithProjection"


def test_pickled_weights_are_not_read(copy):
    folder = copy("sd3")
    file = next((folder / "text_encoder").glob("*.safetensors"))
    torch.save({}, folder / "text_encoder" / "pytorch_model.bin")
    file.unlink()
    with pytest.raises(OSError, match="safetensors"):
        DiffusersFolder(folder).text_pipeline(torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("size", [64, 96])
def test_the_time_shift_is_the_schedulers(kind, folders, policy_of, size):
    policy = policy_of(kind, width=size, height=64)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folders[kind], subfolder="scheduler")
    options = {}
    if kind == "flux":
        tokens = size // 16 * 4
        options["mu"] = 0.5 + (1.15 - 0.5) / (4096 - 256) * (tokens - 256)
        assert policy.shift() == pytest.approx(math.exp(options["mu"]))
    else:
        assert policy.shift() == 3.0
    scheduler.set_timesteps(7, sigmas=np.linspace(1, 1 / 7, 7), **options)
    assert torch.allclose(policy.sigmas(7), scheduler.sigmas, atol=1e-6)
    assert torch.allclose(policy.sigmas(7, 1.0), torch.linspace(1, 0, 8))


def test_noise_of_a_seed_is_the_same_in_any_batch(kind, policy_of):
    policy = policy_of(kind)
    assert policy.noise([1, 2]).shape == (2, 16, 8, 8)
    assert torch.equal(policy.noise([1, 2])[1], policy.noise([2])[0])
    assert not torch.equal(policy.noise([1, 2])[0], policy.noise([2])[0])


def test_sizes_that_dont_fit_are_refused(kind, policy_of):
    with pytest.raises(ValueError, match="width is 72: it must be a multiple of 16"):
        policy_of(kind, width=72)
    if kind == "sd3":
        with pytest.raises(ValueError, match="400x64 is too large: this model knows positions up to 384 pixels"):
            policy_of(kind, width=400)


def test_models_that_need_a_picture_too_are_refused(copy, policy_of):
    folder = copy("flux")
    change(folder / "vae" / "config.json", latent_channels=4)
    for file in (folder / "vae").glob("*.safetensors"):
        file.unlink()
    from diffusers import AutoencoderKL

    AutoencoderKL.from_config(json.loads((folder / "vae" / "config.json").read_text())).save_pretrained(folder / "vae")
    with pytest.raises(ValueError, match="takes 16 channels and the VAE makes 4"):
        policy_of("flux", path=folder)


def test_sharded_weights_are_read(copy, policy_of):
    folder = copy("flux")
    whole = policy_of("flux")
    whole_state = {name: tensor.clone() for name, tensor in whole.module.transformer.state_dict().items()}
    transformer = DiffusersFolder(folder).transformer(torch.float32)
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(folder / "transformer", max_shard_size="300KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    sharded = policy_of("flux", path=folder).module.transformer.state_dict()
    assert all(torch.equal(tensor, sharded[name]) for name, tensor in whole_state.items())


def test_a_single_file_takes_the_transformers_place(copy, folders, kind, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(folders[kind] / "transformer" / "diffusion_pytorch_model.safetensors")
    name = next(name for name in weights if name.endswith("proj_out.weight"))
    file = tmp_path / "other.safetensors"
    save_file({**weights, name: weights[name] + 1}, file)
    folder = copy(kind)
    for weights_file in (folder / "transformer").glob("*.safetensors"):
        weights_file.unlink()
    loaded = DiffusersFolder(folder, file).transformer(torch.float32).state_dict()
    assert torch.equal(loaded[name], weights[name] + 1)
    assert all(torch.equal(loaded[other], weights[other]) for other in weights if other != name)
    with pytest.raises(FileNotFoundError, match="no transformer file"):
        DiffusersFolder(folder, tmp_path / "gone.safetensors")
    with pytest.raises(ValueError, match="must be a .safetensors file"):
        DiffusersFolder(folder, tmp_path / "model.ckpt")


def test_sd3_without_t5_encodes_as_its_pipeline_does(tmp_path):
    import diffusers

    from tests.engine.policies.tiny_pipelines import sd3

    path = sd3(tmp_path / "model", t5=False)
    folder, device = DiffusersFolder(path), torch.device("cpu")
    ours = encode(folder.text_pipeline(torch.float32, device), ["a red circle"], device, 32)
    stock = diffusers.StableDiffusion3Pipeline.from_pretrained(path, text_encoder_3=None, tokenizer_3=None)
    tokens, _, pooled, _ = stock.encode_prompt(
        "a red circle", None, None, do_classifier_free_guidance=False, max_sequence_length=32
    )
    assert torch.equal(ours["tokens"], tokens) and torch.equal(ours["pooled"], pooled)


def test_encoded_prompts_are_made_once_and_anew_for_another_model(tmp_path):
    prompts, asked = [f"prompt {number}" for number in range(70)] + ["prompt 3"], []

    def encode_by_number(some):
        asked.append(len(some))
        return {"tokens": torch.tensor([[float(prompt.split()[1])] for prompt in some])}

    store = EncodedPrompts(tmp_path, prompts, "one")
    for number in store.missing():
        store.make(number, encode_by_number)
    assert asked == [64, 6]
    again = EncodedPrompts(tmp_path, prompts, "one")
    assert again.missing() == []
    assert [float(again[f"prompt {number}"]["tokens"]) for number in (0, 63, 64, 69)] == [0, 63, 64, 69]
    with pytest.raises(KeyError, match="'another' was not encoded"):
        again["another"]
    (tmp_path / "000001.safetensors").write_bytes(b"half")
    assert again.missing() == [1]
    assert EncodedPrompts(tmp_path, prompts, "two").missing() == [0, 1]
    assert EncodedPrompts(tmp_path, ["other", *prompts], "one").missing() == [0, 1]
