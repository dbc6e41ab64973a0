"""A training that goes on from a LoRA file: it begins at what ComfyUI's own loader makes of that file."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.nodes import tiny_models
from tests.nodes.model import stock

FORMS = {  # endings of a layer's two matrices, the up one first
    "peft": (".lora_B.weight", ".lora_A.weight"),
    "kohya": (".lora_up.weight", ".lora_down.weight"),
    "old diffusers": ("_lora.up.weight", "_lora.down.weight"),
    "dots": (".lora.up.weight", ".lora.down.weight"),
}


@pytest.fixture
def loras(comfy, tmp_path, monkeypatch):
    """ComfyUI's folder of LoRAs, empty."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    return tmp_path


def pair(weight, rank, generator):
    up, down = (
        torch.randn(weight.shape[0], rank, generator=generator),
        torch.randn(rank, weight.shape[1], generator=generator),
    )
    return 0.1 * up, 0.1 * down


def foreign(model, form, alpha=True, rank=3):
    """A LoRA as other trainers write it: two layers of other ranks and alphas, in one of the forms."""
    generator, up, down = torch.Generator().manual_seed(1), *FORMS[form]
    weights = {name: weight for name, weight in model.model.state_dict().items() if weight.ndim == 2}
    names = [name for name in weights if "mlp" in name or "attn.proj" in name][:2]
    tensors = {}
    for number, name in enumerate(names):
        b, a = pair(weights[name], rank + number, generator)
        name = name.removesuffix(".weight")
        if form == "kohya":
            name = "lora_unet_" + name.removeprefix("diffusion_model.").replace(".", "_")
        tensors |= {name + up: b, name + down: a}
        if alpha:
            tensors[name + ".alpha"] = torch.tensor(1.5 + number)
    return tensors


def stock_velocity(comfy, model, path, x, encoded):
    import comfy.sd
    import comfy.utils

    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    return stock.one_velocity(patched, x, 0.6, encoded["red"], encoded[""])


def assert_begins_at(comfy, model, policy, path, encoded):
    x = policy.noise([3])
    loaded = stock_velocity(comfy, model, path, x, encoded)
    with torch.no_grad():
        mine = policy.module(x, 0.6, policy.condition(["red"]))
        with policy.base():
            base = policy.module(x, 0.6, policy.condition(["red"]))
    assert (mine - loaded).abs().max() < 2e-5 * loaded.abs().max()
    assert (mine - base).abs().max() > 1e-2


def ranks(policy):
    return sorted(tensor.shape[0] for name, tensor in policy.adapter_state().items() if "lora_A" in name)


@pytest.mark.parametrize("own_alpha", [0.0, 8.0])
@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_it_begins_at_the_files_function(comfy, build, policy_of, encoded, loras, form, alpha, own_alpha):
    model = build()
    save_file(foreign(model, form, alpha), loras / "other.safetensors")
    policy = policy_of(model, start_from="other.safetensors", alpha=own_alpha, rank=9)
    assert ranks(policy) == [3, 4]
    assert_begins_at(comfy, model, policy, loras / "other.safetensors", encoded)


def scales(room, policy):
    lora = room("mixgrpo_engine.lora")
    return {lora.scale_of(layer) for _, layer in lora.adapted_layers(policy.module)}


def test_layers_that_were_split_for_diffusers_are_one_again(comfy, room, build, policy_of, encoded, loras):
    model = build()
    first = policy_of(model, alpha=2.0)
    tiny_models.train_a_little(first)
    first.export(loras / "mine.safetensors", {})
    assert all(name.startswith("transformer.") for name in load_file(loras / "mine.safetensors"))
    policy = policy_of(model, start_from="mine.safetensors")
    assert sorted(policy.adapted_layers) == sorted(first.adapted_layers)
    assert set(ranks(policy)) == {4}
    assert scales(room, policy) == scales(room, first) == {0.5}
    assert_begins_at(comfy, model, policy, loras / "mine.safetensors", encoded)


def test_split_layers_of_their_own_are_joined(comfy, policy_of, encoded, loras):
    """q, k and v by a trainer of diffusers: nothing shared, other alphas."""
    model, generator, tensors = tiny_models.flux(), torch.Generator().manual_seed(2), {}
    for number, part in enumerate(("to_q", "to_v")):
        b, a = pair(torch.empty(64, 64), 2 + number, generator)
        name = f"transformer.transformer_blocks.1.attn.{part}"
        tensors |= {f"{name}.lora_B.weight": b, f"{name}.lora_A.weight": a, f"{name}.alpha": torch.tensor(3.0)}
    b, a = pair(torch.empty(128, 64), 2, generator)  # its two halves are the other way round in diffusers
    tensors |= {"transformer.norm_out.linear.lora_B.weight": b, "transformer.norm_out.linear.lora_A.weight": a}
    save_file(tensors, loras / "split.safetensors")
    policy = policy_of(model, start_from="split.safetensors")
    assert policy.adapted_layers == ["double_blocks.1.img_attn.qkv", "final_layer.adaLN_modulation.1"]
    assert ranks(policy) == [2, 5]
    assert_begins_at(comfy, model, policy, loras / "split.safetensors", encoded)


def test_every_layer_learns(build, policy_of, loras):
    model = build()
    save_file(foreign(model, "peft"), loras / "other.safetensors")
    policy = policy_of(model, start_from="other.safetensors")
    x = policy.noise([1])
    policy.module(x, 0.7, policy.condition(["red"])).square().mean().backward()
    assert all(tensor.grad.any() for tensor in policy.adapter_state().values())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(2, 2)}, "not lora_te1_text"),
        ({"diffusion_model.double_blocks.7.img_mlp.0.lora_B.weight": torch.ones(2, 2)}, "not diffusion_model.double_b"),
        (
            {"diffusion_model.final_layer.linear.diff": torch.ones(64, 64)},
            "not diffusion_model.final_layer.linear.diff",
        ),
        (
            {
                "diffusion_model.final_layer.linear.lora_B.weight": torch.ones(64, 2),
                "diffusion_model.final_layer.linear.lora_A.weight": torch.ones(2, 99),
            },
            "not diffusion_model.final_layer.linear:",
        ),
    ],
)
def test_what_cannot_be_read_is_counted_and_named(comfy, policy_of, loras, more, sentence):
    model = tiny_models.flux()
    save_file({**foreign(model, "peft"), **more}, loras / "other.safetensors")
    with pytest.raises(ValueError, match="Only 2 of 3 layers of the LoRA 'other.safetensors' fit this model") as error:
        policy_of(model, start_from="other.safetensors")
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_dora_is_refused(comfy, policy_of, loras):
    model = tiny_models.flux()
    tensors = foreign(model, "peft")
    name = next(iter(tensors)).removesuffix(".lora_B.weight")
    save_file({**tensors, f"{name}.dora_scale": torch.ones(64, 1)}, loras / "dora.safetensors")
    with pytest.raises(ValueError, match="Only 1 of 3 layers"):
        policy_of(model, start_from="dora.safetensors")


def test_another_models_lora_is_refused(policy_of, loras):
    save_file(foreign(tiny_models.sd3(), "peft"), loras / "sd3.safetensors")
    with pytest.raises(ValueError, match="Only 0 of 2 layers of the LoRA 'sd3.safetensors' fit this model"):
        policy_of(tiny_models.flux(), start_from="sd3.safetensors")


def test_a_file_that_is_not_there_or_outside_is_refused(policy_of, loras):
    save_file({"a": torch.ones(1)}, loras.parent / "outside.safetensors")
    for name in ("gone.safetensors", "../outside.safetensors"):
        with pytest.raises(ValueError, match="isn't among ComfyUI's LoRAs"):
            policy_of(tiny_models.flux(), start_from=name)
