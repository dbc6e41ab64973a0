"""What patch nodes have hung onto a MODEL: it acts as in stock sampling, is dropped with a notice, or refused."""

import importlib

import pytest
import torch
from torch import nn

from tests.nodes import tiny_models
from tests.nodes.model import stock

SIGMA = 0.6


def patched(node, model, *args):
    """The MODEL after a stock node, given as "file.Class"."""
    file, _, name = node.partition(".")
    kind = getattr(importlib.import_module(f"comfy_extras.{file}"), name)
    result = kind.execute(model, *args) if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)(model, *args)
    return getattr(result, "result", result)[0]


def velocity(policy):
    with torch.no_grad():
        return policy.module(policy.noise([5]), SIGMA, policy.condition(["red"]))


def close(one, other):
    return (one - other).abs().max() < 2e-5 * other.abs().max()


def gradients(policy):
    """The gradient of every adapter tensor, of two images."""
    policy.module(policy.noise([5, 6]), SIGMA, policy.condition(["red", "green"])).square().mean().backward()
    return {name: tensor.grad for name, tensor in policy.adapter_state().items()}


def same_gradients(policy, plain):
    for each in (policy, plain):
        tiny_models.train_a_little(each)
    found, expected = gradients(policy), gradients(plain)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient is not None and gradient.abs().max() > 0, name
        assert close(gradient, expected[name]), name


ACT = {
    "RescaleCFG": ("nodes_model_advanced.RescaleCFG", 0.7),
    "ScaleROPE": ("nodes_rope.ScaleROPE", 2.0, 0.0, 2.0, 0.0, 1.0, 0.0),
    "ModelComputeDtype": ("nodes_model_advanced.ModelComputeDtype", "bf16"),
    "ModelSamplingFlux": ("nodes_model_advanced.ModelSamplingFlux", 1.15, 0.5, 1024, 1024),
}


@pytest.mark.parametrize("name", ACT)
@pytest.mark.parametrize("cfg", [1.0, 4.5])
def test_a_node_that_acts_in_model_calls_acts_as_in_stock_sampling(policy_of, encoded, comfy, name, cfg):
    model = tiny_models.flux()
    changed = patched(ACT[name][0], model, *ACT[name][1:])
    policy = policy_of(changed, cfg=cfg)
    assert policy.notices == []
    expected = stock.one_velocity(changed, policy.noise([5]), SIGMA, encoded["red"], encoded[""], cfg)
    if name == "ModelComputeDtype":  # batches of another size round otherwise in bf16, and guidance makes more of it
        assert (velocity(policy) - expected).abs().max() < 0.02 * cfg * expected.abs().max()
    else:
        assert close(velocity(policy), expected)
    plain = velocity(policy_of(model, cfg=cfg))
    differs = name in ("ScaleROPE", "ModelComputeDtype") or (name == "RescaleCFG" and cfg != 1)
    assert (not close(plain, expected)) == differs


def differential_diffusion(model):
    return patched("nodes_differential_diffusion.DifferentialDiffusion", model, 1.0)


def spread_over_gpus(model):
    other, model = model, model.clone()
    model.model_options["multigpu_options"] = {0: 1.0}
    model.additional_models["multigpu"] = [other]
    return model


def torch_settings(model):
    """As a node of another pack does it, whose class and file are known."""

    def enable(_patcher):
        raise AssertionError("It belongs around a sampling.")

    enable.__module__ = "/packs/any-name/nodes/model_optimization_nodes"
    enable.__qualname__ = "ModelPatchTorchSettings.patch.<locals>.enable"
    model = model.clone()
    model.add_callback("on_pre_run", enable)
    return model


WINDOWS = ("standard_static", 1, False, "pyramid")
DROPPED = {
    "EasyCache": (lambda m: patched("nodes_easycache.EasyCacheNode", m, 5.0, 0.0, 0.95, False), "EasyCache"),
    "LazyCache": (lambda m: patched("nodes_easycache.LazyCacheNode", m, 5.0, 0.0, 0.95, False), "LazyCache"),
    "HyperTile": (lambda m: patched("nodes_hypertile.HyperTile", m, 32, 2, 0, False), "HyperTile doesn't act"),
    "ToMe": (lambda m: patched("nodes_tomesd.TomePatchModel", m, 0.3), "Token merging doesn't act"),
    "Deep Shrink": (
        lambda m: patched(
            "nodes_model_downscale.PatchModelAddDownscale", m, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic"
        ),
        "Deep Shrink doesn't act",
    ),
    "windows": (
        lambda m: patched("nodes_context_windows.ContextWindowsManualNode", m, 16, 2, *WINDOWS, 2),
        "context windows don't act",
    ),
    "mask": (differential_diffusion, "there is no mask"),
    "several GPUs": (spread_over_gpus, "several GPUs"),
    "torch settings": (torch_settings, "PyTorch settings"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_does_not_matter_is_dropped_with_a_notice(policy_of, comfy, name):
    model = tiny_models.flux()
    add, notice = DROPPED[name]
    policy = policy_of(add(model), cfg=3.0)
    (told,) = policy.notices
    assert notice in told
    plain = policy_of(model, cfg=3.0)
    condition, x = policy.condition(["red"]), policy.noise([5])
    for sigma in (0.9, 0.85, 0.8, 0.75):  # a cache would skip some of these
        with torch.no_grad():
            own, expected = (each.module(x, sigma, condition) for each in (policy, plain))
        assert torch.equal(own, expected)
        x = x - 0.05 * own


@pytest.mark.parametrize("name", ["HyperTile", "ToMe", "windows", "mask"])
def test_it_does_not_matter_in_stock_sampling_either(policy_of, encoded, comfy, name):
    model = tiny_models.flux()
    changed = DROPPED[name][0](model)
    policy = policy_of(changed, cfg=3.0)
    expected = stock.one_velocity(changed, policy.noise([5]), SIGMA, encoded["red"], encoded[""], 3.0)
    assert close(velocity(policy), expected)


REFUSED = {
    "PAG": ("nodes_pag.PerturbedAttentionGuidance", 3.0),
    "SkipLayerGuidanceDiT": ("nodes_slg.SkipLayerGuidanceDiT", 3.0, 0.0, 1.0, "0", "0", 0.0),
    "SkipLayerGuidanceDiTSimple": ("nodes_slg.SkipLayerGuidanceDiTSimple", 0.0, 1.0, "0", "0"),
    "CFGZeroStar": ("nodes_cfg.CFGZeroStar",),
    "CFGNorm": ("nodes_cfg.CFGNorm", 1.0),
    "TCFG": ("nodes_tcfg.TCFG",),
    "APG": ("nodes_apg.APG", 1.0, 5.0, 0.0),
    "Mahiro": ("nodes_mahiro.Mahiro",),
    "FreSca": ("nodes_fresca.FreSca", 1.0, 1.25, 20),
    "EpsilonScaling": ("nodes_eps.EpsilonScaling", 1.05),
    # Its scale goes by the place in the batch, its norm's limit by a batch of one.
    "VideoLinearCFGGuidance": ("nodes_video_model.VideoLinearCFGGuidance", 1.0),
    "RenormCFG": ("nodes_lumina2.RenormCFG", 100.0, 1.0),
    "PerpNeg": ("nodes_perpneg.PerpNeg", [], 1.0),
    "ChromaRadianceOptions": ("nodes_chroma_radiance.ChromaRadianceOptions",),
}
SLOTS = {
    "SkipLayerGuidanceDiTSimple": "sampler_calc_cond_batch_function",
    "TCFG": "sampler_pre_cfg_function",
    "APG": "sampler_pre_cfg_function",
    "FreSca": "sampler_pre_cfg_function",
    "VideoLinearCFGGuidance": "sampler_cfg_function",
    "RenormCFG": "sampler_cfg_function",
    "PerpNeg": "sampler_cfg_function",
    "ChromaRadianceOptions": "model_function_wrapper",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_that_lives_in_the_sampler_is_refused_by_slot_and_class(policy_of, comfy, name):
    node, *args = REFUSED[name]
    model = tiny_models.flux()
    if name == "ChromaRadianceOptions":
        from comfy_extras.nodes_chroma_radiance import ChromaRadianceOptions

        options = {"preserve_wrapper": True, "start_sigma": 1.0, "end_sigma": 0.0, "nerf_tile_size": 4}
        changed = ChromaRadianceOptions.execute(model=model, **options).result[0]
    else:
        changed = patched(node, model, *args)
    file, _, kind = node.partition(".")
    slot = SLOTS.get(name, "sampler_post_cfg_function")
    with pytest.raises(ValueError, match=rf"{slot} \({kind} of {file}\)\. Connect the MODEL from before"):
        policy_of(changed)


@pytest.mark.parametrize(("length", "dimension"), [(4, 2), (64, 0), (64, 4)])
def test_context_windows_that_would_act_are_refused(policy_of, comfy, length, dimension):
    model = patched(
        "nodes_context_windows.ContextWindowsManualNode", tiny_models.flux(), length, 2, *WINDOWS, dimension
    )
    with pytest.raises(ValueError, match=r"context_handler \(IndexListContextHandler of context_windows\)"):
        policy_of(model)


def test_a_patch_for_unets_on_a_unet_is_refused(room, comfy):
    model = patched("nodes_tomesd.TomePatchModel", tiny_models.sd15(), 0.3)
    with pytest.raises(ValueError, match="attn1_patch .TomePatchModel of nodes_tomesd."):
        room("nodes.model.model_options").settled(model)


def function(*_args):
    raise AssertionError("Refused, and called all the same.")


def transformer_option(model, value):
    model.model_options["transformer_options"]["rel_l1_thresh"] = value


def closure(model):
    """A block's forward over the shared network, as packs for video models have it."""
    block = model.get_model_object("diffusion_model").double_blocks[0].img_mlp
    model.add_object_patch(
        "diffusion_model.double_blocks.0.img_mlp.forward", lambda x: 0.9 * type(block).forward(block, x)
    )


def other_compiled_block(model):
    model.add_object_patch("diffusion_model.double_blocks.0", torch.compile(nn.Linear(2, 2), backend="eager"))


UNKNOWN = {
    "a function around the model": (lambda m: m.set_model_unet_function_wrapper(function), "model_function_wrapper"),
    "an unknown option": (lambda m: m.model_options.update(my_option=0.5), "my_option"),
    "an option that is zero": (lambda m: transformer_option(m, 0), "rel_l1_thresh"),
    "an option that is a tensor": (lambda m: transformer_option(m, torch.ones(2)), "rel_l1_thresh"),
    "a patch": (lambda m: m.set_model_double_block_patch(function), "double_block"),
    "a replaced block": (
        lambda m: m.set_model_patch_replace(function, "dit", "double_block", 0),
        r"dit \('double_block', 0\)",
    ),
    "a keyed wrapper": (
        lambda m: m.add_wrapper_with_key("diffusion_model", "their_cache", function),
        "the diffusion_model wrapper 'their_cache'",
    ),
    "a wrapper": (lambda m: m.add_wrapper("apply_model", function), r"the apply_model wrapper \(function of"),
    "a callback": (lambda m: m.add_callback_with_key("on_clone", "pack", function), "the on_clone callback 'pack'"),
    "an injection": (lambda m: m.injections.update(bypass_lora=[]), "injections 'bypass_lora'"),
    "another model": (lambda m: m.additional_models.update(control=[]), "additional_models 'control'"),
    "a hook": (lambda m: m.hook_patches.update({object(): {}}), "hook_patches"),
    "a weight wrapper": (lambda m: m.add_weight_wrapper("a.weight", function), "weight_wrapper_patches 'a.weight'"),
    "a closure": (closure, r"a patch of diffusion_model\.double_blocks\.0\.img_mlp\.forward"),
    "another block": (other_compiled_block, r"a patch of diffusion_model\.double_blocks\.0"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_nobody_knows_is_refused_by_its_name(policy_of, comfy, name):
    add, told = UNKNOWN[name]
    model = tiny_models.flux().clone()
    add(model)
    with pytest.raises(ValueError, match=f"sampling: {told}"):
        policy_of(model)


def test_empty_options_are_none(policy_of, comfy):
    model = tiny_models.flux().clone()
    model.model_options |= {"sampler_pre_cfg_function": [], "disable_cfg1_optimization": True}
    transformer_option(model, None)
    assert policy_of(model).notices == []


def test_all_refused_patches_are_named_at_once(policy_of, comfy):
    model = tiny_models.flux().clone()
    model.set_model_sampler_post_cfg_function(function)
    model.set_model_unet_function_wrapper(function)
    with pytest.raises(ValueError, match="sampler_post_cfg_function .*, model_function_wrapper"):
        policy_of(model)


def compiled_whole(model):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    set_torch_compile_wrapper(model, backend="eager")


def compiled_blocks(model):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    names = [name for name, _ in model.model.named_modules() if name.count(".") == 2 and "_blocks." in name]
    set_torch_compile_wrapper(model, backend="eager", keys=names)


def compiled_objects(model):
    network = model.get_model_object("diffusion_model")
    for name in ("double_blocks", "single_blocks", "joint_blocks"):
        for index, block in enumerate(getattr(network, name, ())):
            model.add_object_patch(f"diffusion_model.{name}.{index}", torch.compile(block, backend="eager"))


def compiled_network(model):
    network = torch.compile(model.get_model_object("diffusion_model"), backend="eager")
    model.add_object_patch("diffusion_model", network)


def compiled_by_its_loader(model):
    network = model.model.diffusion_model
    for name in ("double_blocks", "joint_blocks"):
        if hasattr(network, name):
            getattr(network, name)[0] = torch.compile(getattr(network, name)[0], backend="eager")
    model.model.diffusion_model = torch.compile(network, backend="eager")


@pytest.mark.parametrize(
    "compiled", [compiled_whole, compiled_blocks, compiled_objects, compiled_network, compiled_by_its_loader]
)
def test_of_a_compiled_model_the_plain_network_is_trained(build, policy_of, compiled):
    plain, model = policy_of(build()), build().clone()
    shared = dict(model.model.diffusion_model.named_parameters())
    compiled(model)
    policy = policy_of(model)
    assert policy.notices == [
        "The MODEL is compiled by torch.compile: the uncompiled network is trained. The LoRA fits both."
    ]
    assert policy.adapted_layers == plain.adapted_layers
    assert torch.equal(velocity(policy), velocity(plain))
    same_gradients(policy, plain)
    assert all(parameter.grad is None for parameter in shared.values())


@pytest.mark.parametrize("compiled", [compiled_whole, compiled_objects])
def test_a_lora_upstream_acts_on_a_compiled_model(comfy, build, policy_of, tmp_path, caplog, compiled):
    trained = policy_of(build())
    tiny_models.train_a_little(trained)
    model = stock.with_lora_of(trained, build(), tmp_path / "upstream.safetensors", caplog)
    compiled(model)
    assert close(velocity(policy_of(model)), velocity(trained))


def test_a_compiled_model_in_use_is_still_known(build, policy_of, encoded):
    model = build().clone()
    compiled_objects(model)
    x = policy_of(build()).noise([5])
    stock.one_velocity(model, x, SIGMA, encoded["red"], encoded[""])  # leaves the compiled blocks in the shared network
    assert policy_of(model).notices


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_attention_of_the_models_own_is_replaced_on_every_device(
    comfy, build, policy_of, monkeypatch, checkpointing
):
    from comfy.ldm.modules import attention

    def without_backward(_function, *args, **kwargs):
        raise AssertionError("This attention has no gradient.")

    # A GPU's default, for which nothing has to be replaced.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    model = build().clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = without_backward
    policy = policy_of(model, gradient_checkpointing=checkpointing)
    (notice,) = policy.notices
    assert "an attention of its own" in notice
    same_gradients(policy, policy_of(build(), gradient_checkpointing=checkpointing))
    assert model.model_options["transformer_options"]["optimized_attention_override"] is without_backward


def test_the_estimate_counts_what_is_trained(room, comfy, vae, encoded):
    preflight, config = room("nodes.model.preflight"), room("mixgrpo_engine.config")
    settings = config.TrainConfig.from_dict({"run": {"width": 64, "height": 64}, "rollout": {"group_size": 2}})
    model = tiny_models.sd3()
    expected = preflight.Preflight(model, vae, encoded, ["red"]).needs(settings)
    compiled = model.clone()
    compiled_whole(compiled)
    compiled.model_options["transformer_options"]["optimized_attention_override"] = function
    assert preflight.Preflight(compiled, vae, encoded, ["red"]).needs(settings) == expected
    compiled.set_model_unet_function_wrapper(function)
    with pytest.raises(ValueError, match="model_function_wrapper"):
        preflight.Preflight(compiled, vae, encoded, ["red"])
