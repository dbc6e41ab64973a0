"""Diffusers folders in ComfyUI: the node, and a LoRA trained without ComfyUI in the stock loader."""

import json
import logging
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from mixgrpo_engine.config import AdapterConfig
from mixgrpo_engine.policies.diffusers_folder import DiffusersFolder
from mixgrpo_engine.policies.diffusers_policy import DiffusersPolicy, encode_prompts
from mixgrpo_engine.policies.encoded_prompts import EncodedPrompts
from tests.engine.policies import tiny_pipelines
from tests.nodes import tiny_models

PROMPTS = ["a red circle on the left", "two blue squares"]
SIGMA = 0.7


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of the same sizes as tiny_models."""
    root = tmp_path_factory.mktemp("models")
    return {"flux": tiny_pipelines.flux(root / "flux"), "sd3": tiny_pipelines.sd3(root / "sd3")}


def comfy_model(kind, folder, room):
    """The folder's transformer as a MODEL."""
    if kind == "sd3":
        return room("nodes.diffusers_model").load_model(DiffusersFolder(folder))
    # ComfyUI 0.3.75 takes every FLUX for one of 24 heads: a tiny one is told its sizes.
    import comfy.model_detection

    model = tiny_models.flux()
    weights = room("nodes.diffusers_model").read_weights(folder / "transformer")
    converted = comfy.model_detection.convert_diffusers_mmdit(weights, "")
    assert not weights
    result = model.model.diffusion_model.load_state_dict(converted, strict=False)
    assert not result.missing_keys and not result.unexpected_keys
    return model


@torch.no_grad()
def comfy_velocity(model, latents, condition):
    """The MODEL's own, its patches applied."""
    model.patch_model()
    inputs = {
        "c_crossattn": torch.stack([row.tokens for row in condition.rows]),
        "y": torch.stack([row.pooled for row in condition.rows]),
        "guidance": torch.full((len(latents),), 3.5),
    }
    sigma = torch.full((len(latents),), SIGMA)
    denoised = model.model.apply_model(latents, sigma, transformer_options={}, **inputs)
    model.unpatch_model()
    return (latents - denoised) / SIGMA


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_a_lora_trained_without_comfyui_acts_the_same_in_it(kind, models, room, comfy, tmp_path, caplog):
    import comfy.sd
    import comfy.utils

    folder = DiffusersFolder(models[kind])
    encoded = EncodedPrompts(tmp_path / "prompts", PROMPTS, kind)
    encode_prompts(folder, encoded, "cpu", torch.float32, 16)
    adapter = AdapterConfig(rank=4, alpha=2.0)
    policy = DiffusersPolicy(folder, encoded, width=64, height=64, adapter=adapter, seed=1)
    latents, condition = policy.noise([1, 2]), policy.condition(PROMPTS)
    model = comfy_model(kind, models[kind], room)

    def velocity():
        with torch.no_grad():
            return policy.module(latents, SIGMA, condition)

    base = velocity()
    assert (comfy_velocity(model, latents, condition) - base).abs().max() < 1e-4
    with torch.no_grad():
        for tensor in policy.adapter_state().values():
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
    policy.export(tmp_path / "run.safetensors", {})
    tensors = comfy.utils.load_torch_file(str(tmp_path / "run.safetensors"), safe_load=True)
    with caplog.at_level(logging.WARNING):
        patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    assert "not loaded" not in caplog.text.lower()
    assert sum(len(patches) for patches in patched.patches.values()) == len(policy.weights.layers) == len(tensors) // 2
    trained = velocity()
    difference = (comfy_velocity(patched, latents, condition) - trained).abs().max()
    assert difference < 1e-4 < 1e-2 < (trained - base).abs().max()


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_a_lora_trained_in_comfyui_acts_the_same_in_diffusers(kind, models, policy_of, room, comfy, tmp_path):
    """By the pipeline's own load_lora_weights."""
    import diffusers

    folder = DiffusersFolder(models[kind])
    encoded = EncodedPrompts(tmp_path / "prompts", PROMPTS, kind)
    encode_prompts(folder, encoded, "cpu", torch.float32, 16)
    without = DiffusersPolicy(folder, encoded, width=64, height=64, adapter=AdapterConfig(rank=1), seed=1)
    latents, condition = without.noise([1, 2]), without.condition(PROMPTS)
    model = comfy_model(kind, models[kind], room)
    policy = policy_of(model, alpha=2.0)
    tiny_models.train_a_little(policy)
    policy.export(tmp_path / "run.safetensors", {})
    patched, _ = comfy.sd.load_lora_for_models(model, None, load_file(tmp_path / "run.safetensors"), 1.0, 0.0)

    pipeline = diffusers.DiffusionPipeline.from_pretrained(models[kind])
    with torch.no_grad():
        base = without.module(latents, SIGMA, condition)
        pipeline.load_lora_weights(str(tmp_path / "run.safetensors"))
        without.module.transformer = pipeline.transformer
        trained = without.module(latents, SIGMA, condition)
    difference = (comfy_velocity(patched, latents, condition) - trained).abs().max()
    print(f"\n{kind}: {float(difference):.1e} of {float(trained.abs().max()):.1f}")
    assert difference < 1e-4 < 1e-2 < (trained - base).abs().max()


@pytest.fixture
def node(room, models, tmp_path, monkeypatch):
    """The node over an own models/diffusers folder with the tiny SD3; `node.root` is that folder."""
    import folder_paths

    root = tmp_path / "diffusers"
    shutil.copytree(models["sd3"], root / "some" / "sd3")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(root)], ["folder"]))
    module = room("nodes.diffusers_model")
    module.root = root
    return module


def test_the_folders_models_are_listed_and_nothing_else_is_loaded(node, tmp_path):
    (node.root / "other").mkdir()
    schema = node.MixGRPODiffusersModel.define_schema()
    assert list(schema.inputs[0].options) == ["some/sd3"] == list(node.folders())
    shutil.copytree(node.root / "some" / "sd3", tmp_path / "outside")
    for name in ("../outside", str(tmp_path / "outside"), "gone"):
        with pytest.raises(ValueError, match="There is no model"):
            node.MixGRPODiffusersModel.execute(name)


def test_model_clip_and_vae_are_loaded_by_comfyui(node, models, monkeypatch, comfy):
    import comfy.sd

    folder = node.root / "some" / "sd3"
    full = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        layers_per_block=2,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    full.save_pretrained(folder / "vae")
    # ComfyUI knows text encoders of real sizes only: what it is given is looked at instead.
    given = {}

    def record(parts, **options):
        given.update(parts=parts, **options)
        return "clip"

    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", record)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "shift": 5.0}))
    model, clip, vae = node.MixGRPODiffusersModel.execute("some/sd3").result
    assert clip == "clip" and given["clip_type"] is comfy.sd.CLIPType.SD3 and len(given["parts"]) == 3
    for number, part in enumerate(("text_encoder", "text_encoder_2", "text_encoder_3")):
        assert given["parts"][number].keys() == load_file(folder / part / "model.safetensors").keys()
    assert type(model.model).__name__ == "SD3"
    sampling = model.get_model_object("model_sampling")
    assert sampling.percent_to_sigma(0.5) == pytest.approx(5 / 6) and sampling.timestep(0.5) == 500

    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (full.decode(latents, return_dict=False)[0] / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert (vae.decode(latents).float().cpu() - expected).abs().max() < 0.02  # it may compute in bf16


@pytest.mark.parametrize("size, mu", [((1024, 1024), 1.15), ((512, 512), 0.63), ((256, 256), 0.5)])
def test_a_dynamic_shift_of_the_folder_is_that_of_the_given_size(size, mu, models, room):
    """FLUX.1 [dev]'s, as ModelSamplingFlux and diffusers have it."""
    from comfy_extras.nodes_model_advanced import ModelSamplingFlux

    node, model = room("nodes.diffusers_model"), tiny_models.flux()
    node.set_shift(model, node.folder_shift(DiffusersFolder(models["flux"]), *size))
    (expected,) = ModelSamplingFlux().patch(model, 1.15, 0.5, *size)
    ours, theirs = (each.get_model_object("model_sampling") for each in (model, expected))
    assert ours.shift == pytest.approx(mu) and ours.shift == pytest.approx(theirs.shift)
    assert torch.allclose(ours.sigmas, theirs.sigmas)


def test_a_single_file_takes_the_place_of_the_transformer(node, models, tmp_path, monkeypatch):
    import folder_paths

    root = tmp_path / "diffusion_models"
    root.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", ([str(root)], {".safetensors"}))
    own = node.load_model(DiffusersFolder(node.root / "some" / "sd3")).model.diffusion_model.state_dict()
    # In ComfyUI's own layout, and with other numbers.
    other = {f"model.diffusion_model.{name}": tensor + 1 for name, tensor in own.items()}
    save_file(other, root / "tuned.safetensors")
    save_file({"lora_A.weight": torch.zeros(2, 2)}, root / "lora.safetensors")
    (root / "pickled.ckpt").touch()
    assert node.MixGRPODiffusersModel.define_schema().inputs[1].options[1:] == sorted(node.single_files())
    monkeypatch.setattr(node, "load_clip", lambda source: "clip")
    monkeypatch.setattr(node, "load_vae", lambda source: "vae")

    def load(name):
        return node.MixGRPODiffusersModel.execute("some/sd3", name).result[0]

    loaded = load("tuned.safetensors").model.diffusion_model.state_dict()
    assert all(torch.allclose(loaded[name], own[name] + 1) for name in own)
    for name, sentence in {
        "lora.safetensors": "lora.safetensors can't be loaded as a transformer",
        "pickled.ckpt": "There is no file 'pickled.ckpt'",
        "../tuned.safetensors": "There is no file '../tuned.safetensors'",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            load(name)
    with pytest.raises(ValueError, match="tuned.safetensors is a SD3, and the folder flux is of FLUX.1"):
        node.load_model(DiffusersFolder(models["flux"], root / "tuned.safetensors"))


def test_sharded_weights_are_read_from_beside_their_index_only(node):
    part = node.root / "some" / "sd3" / "transformer"
    whole = node.read_weights(part)
    DiffusersFolder(part.parent).transformer(torch.float32).save_pretrained(part, max_shard_size="300KB")
    (part / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    sharded = node.read_weights(part)
    assert sharded.keys() == whole.keys() and all(torch.equal(whole[name], sharded[name]) for name in whole)
    index = part / "diffusion_pytorch_model.safetensors.index.json"
    names = json.loads(index.read_text())
    shard = sorted(set(names["weight_map"].values()))[0]
    (part / shard).unlink()
    with pytest.raises(FileNotFoundError, match=f"sd3/transformer lacks {shard}"):
        node.read_weights(part)
    first = next(iter(names["weight_map"]))
    for wrong in ("../vae/diffusion_pytorch_model.safetensors", "pytorch_model.bin", 7):
        index.write_text(json.dumps({"weight_map": {**names["weight_map"], first: wrong}}))
        with pytest.raises(ValueError, match="isn't a .safetensors file beside it"):
            node.read_weights(part)
    index.unlink()
    with pytest.raises(FileNotFoundError, match="holds no diffusion_pytorch_model.safetensors"):
        node.read_weights(part)
