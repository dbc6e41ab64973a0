"""The names in LoRA files: none of torch.compile's, and a file that doesn't fit says so."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.nodes import tiny_models


@pytest.fixture
def run(runs, folder):
    """A finished run, and a function that gives it a LoRA."""
    folder.set_status(state="finished")

    def publish(policy):
        policy.export(folder.lora, {})
        runs.published_lora.publish(folder)
        return folder

    return publish


def compiled_blocks(model):
    """As packs do it that compile a model block by block."""
    blocks = model.model.diffusion_model.double_blocks
    for number, block in enumerate(blocks):
        blocks[number] = torch.compile(block, backend="eager")
    return model


def test_a_compiled_modules_name_never_reaches_a_file(room, runs, folder, policy_of):
    """Should a compiled module ever get as far as the LoRA: policies unwrap it before."""
    lora, config = room("mixgrpo_engine.lora"), room("mixgrpo_engine.config").AdapterConfig(rank=4)
    plain, model = policy_of(tiny_models.flux()), compiled_blocks(tiny_models.flux()).model
    names, network = room("nodes.model.lora_names").FileNames(model), model.diffusion_model
    layers = lora.inject(network, config)
    names.require(layers)
    assert any("_orig_mod" in name for name, _ in network.named_modules())
    assert layers == plain.adapted_layers and list(lora.state(network)) == list(plain.adapter_state())
    folder.set_status(state="finished")
    lora.export(network, folder.lora, rename=names.rename)
    assert not any("_orig_mod" in name for name in load_file(folder.lora))
    runs.published_lora.publish(folder)
    assert len(runs.published_lora.apply(folder, tiny_models.flux(), 1.0).patches) == len(layers)
    # A checkpoint of before may hold such names.
    state = {name.replace("blocks.0.", "blocks.0._orig_mod."): t for name, t in plain.adapter_state().items()}
    plain.load_adapter_state(state)


def test_apply_takes_all_layers(runs, run, policy_of):
    model = tiny_models.flux()
    policy = policy_of(model)
    tuned = runs.published_lora.apply(run(policy), model, 1.0)
    assert len(tuned.patches) == len(policy.adapted_layers) and not model.patches


@pytest.mark.parametrize("other", ["sd3", "chroma", "wider"])
def test_apply_onto_another_model_fails_with_a_count(comfy, runs, run, policy_of, other):
    folder = run(policy_of(tiny_models.flux()))
    if other == "wider":  # the same names: the stock loader takes it, and only logs when it can't add it
        model = tiny_models.flux()
        for block in model.model.diffusion_model.single_blocks:
            block.linear2 = torch.nn.Linear(320, 96)
    else:
        model = getattr(tiny_models, other)()
    # Of two double blocks 14 each, q, k and v counted for themselves, and of two single blocks 6.
    count = {"sd3": r"\d+", "chroma": "34", "wider": "38"}[other]
    with pytest.raises(
        ValueError, match=rf"Only {count} of 40 layers of run {folder.name}'s LoRA fit this model, not tr"
    ):
        runs.published_lora.apply(folder, model, 1.0)


def test_apply_onto_a_compiled_model_fails_rather_than_in_part(comfy, runs, run, policy_of):
    folder = run(policy_of(tiny_models.flux()))
    with pytest.raises(ValueError, match="fit this model, not transformer.transformer_blocks.0.*: connect the model"):
        runs.published_lora.apply(folder, compiled_blocks(tiny_models.flux()), 1.0)


def test_a_file_of_before_with_alpha_applies_as_it_did(comfy, runs, run, policy_of):
    model = tiny_models.flux()
    policy = policy_of(model)
    folder = run(policy)
    before = {f"diffusion_model.{name}": t.detach().clone() for name, t in policy.adapter_state().items()}
    before |= {f"diffusion_model.{name}.alpha": torch.tensor(2.0) for name in policy.adapted_layers}
    save_file(before, runs.paths.lora_file(folder.name))
    assert len(runs.published_lora.apply(folder, model, 1.0).patches) == len(policy.adapted_layers)


def test_layers_that_no_loader_could_find_are_refused_before_the_training(comfy, room, policy_of, monkeypatch):
    import comfy.lora

    known = comfy.lora.model_lora_keys_unet

    def without_some(model, keys):
        return {
            name: value for name, value in known(model, keys).items() if "single_blocks.0.linear2" not in str(value)
        }

    monkeypatch.setattr(comfy.lora, "model_lora_keys_unet", without_some)
    with pytest.raises(ValueError, match="Only 25 of 26 layers .* not single_blocks.0.linear2: leave the others out"):
        policy_of(tiny_models.flux())


def test_names_that_fit_another_model_only_are_not_used(comfy, policy_of, tmp_path, room):
    """FLUX.2's fused layers are not FLUX.1's, though ComfyUI's map has them: even where only others are trained."""
    flux2 = tiny_models.flux2()
    policy = policy_of(flux2, tiny_models.vae(128), width=64, height=64, targets="mlp")
    policy.export(tmp_path / "run.safetensors", {})
    assert all(name.startswith("diffusion_model.double_blocks.") for name in load_file(tmp_path / "run.safetensors"))


def test_one_layer_without_another_name_keeps_all_of_comfyuis(comfy, policy_of, tmp_path):
    """diffusers reads what begins with "transformer." and says nothing of the rest."""
    policy = policy_of(tiny_models.chroma(), targets="img_attn, distilled_guidance_layer.in_proj")
    policy.export(tmp_path / "run.safetensors", {})
    assert all(name.startswith("diffusion_model.") for name in load_file(tmp_path / "run.safetensors"))
