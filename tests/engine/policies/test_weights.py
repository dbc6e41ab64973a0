"""What is trained is found again in diffusers: a LoRA by load_lora_weights, all weights by from_pretrained."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from mixgrpo_engine import lora
from mixgrpo_engine.config import AdapterConfig, TrainConfig

CLASSES = {"flux": diffusers.FluxPipeline, "sd3": diffusers.StableDiffusion3Pipeline}
PROMPTS = ["a red circle on the left", "two blue squares"]


@torch.no_grad()
def velocity(policy, transformer=None):
    """At one state; of another transformer in the policy's place when given."""
    if transformer is not None:
        policy.module.transformer = transformer
    return policy.module(policy.noise([1, 2]), 0.7, policy.condition(PROMPTS))


@torch.no_grad()
def move(policy):
    generator = torch.Generator().manual_seed(5)
    for tensor in policy.adapter_state().values():
        tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_lora_file_in_a_stock_pipeline_gives_the_trained_outputs(kind, folders, policy_of, tmp_path, alpha):
    policy = policy_of(kind, adapter=AdapterConfig(rank=4, alpha=alpha))
    base = velocity(policy)
    move(policy)
    trained = velocity(policy)
    policy.export(tmp_path / "run.safetensors", {"mixgrpo_run": "run"})
    assert len(load_file(tmp_path / "run.safetensors")) == 2 * len(policy.weights.layers)

    pipeline = CLASSES[kind].from_pretrained(folders[kind])
    pipeline.load_lora_weights(tmp_path, weight_name="run.safetensors")
    assert len(list(lora.adapted_layers(pipeline.transformer))) == len(policy.weights.layers)
    difference = (velocity(policy, pipeline.transformer) - trained).abs().max()
    assert difference < 1e-5 < 1e-2 < (trained - base).abs().max()


def test_the_lora_file_is_taken_over_by_another_policy(kind, policy_of, tmp_path):
    source, target = (policy_of(kind, adapter=AdapterConfig(rank=4, alpha=2.0), seed=seed) for seed in (1, 2))
    move(source)
    source.export(tmp_path / "run.safetensors", {})
    target.load_export(tmp_path / "run.safetensors")
    assert torch.allclose(velocity(target), velocity(source), atol=1e-5)
    with pytest.raises(ValueError, match="rank or model differ"):
        policy_of(kind, adapter=AdapterConfig(rank=2)).load_export(tmp_path / "run.safetensors")


@pytest.mark.parametrize("alpha", [0.0, 6.0])
def test_a_lora_file_is_where_another_training_begins(kind, policy_of, tmp_path, alpha):
    first = policy_of(kind, adapter=AdapterConfig(rank=3, alpha=2.0, targets="attn"))
    move(first)
    first.export(tmp_path / "run.safetensors", {})
    adapter = AdapterConfig(rank=9, alpha=alpha, start_from=str(tmp_path / "run.safetensors"))
    policy = policy_of(kind, adapter=adapter)
    assert policy.weights.layers == first.weights.layers
    assert {layer.scaling["default"] for _, layer in lora.adapted_layers(policy.module)} == {alpha / 3 or 2 / 3}
    assert torch.allclose(velocity(policy), velocity(first), atol=1e-5)


def test_alpha_and_ranks_of_a_file_are_its_own(folders, policy_of, tmp_path):
    shapes = {"transformer_blocks.0.attn.to_q": 2, "transformer_blocks.10.attn.to_q": 3}
    tensors = {}
    for layer, rank in shapes.items():
        tensors[f"transformer.{layer}.lora_A.weight"] = torch.ones(rank, 8)
        tensors[f"transformer.{layer}.lora_B.weight"] = torch.ones(8, rank)
        tensors[f"transformer.{layer}.alpha"] = torch.tensor(5.0)
    save_file(tensors, tmp_path / "run.safetensors")
    found = lora.read(tmp_path / "run.safetensors", "transformer.")
    assert {layer: (factors.rank, factors.alpha) for layer, factors in found.items()} == {
        layer: (rank, 5.0) for layer, rank in shapes.items()
    }
    # The names of the second begins as the first's does: each gets its own rank all the same.
    block = {"attn": torch.nn.ModuleDict({"to_q": torch.nn.Linear(8, 8)})}
    blocks = torch.nn.ModuleDict({number: torch.nn.ModuleDict(block) for number in ("0", "10")})
    blocks["10"] = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"to_q": torch.nn.Linear(8, 8)})})
    net = torch.nn.ModuleDict({"transformer_blocks": blocks})
    lora.inject(net, AdapterConfig(), start=found)
    assert [(name, layer.r["default"], layer.scaling["default"]) for name, layer in lora.adapted_layers(net)] == [
        ("transformer_blocks.0.attn.to_q", 2, 2.5), ("transformer_blocks.10.attn.to_q", 3, 5 / 3)
    ]  # fmt: skip


def test_a_start_that_does_not_fit_is_one_sentence(policy_of, tmp_path):
    path = tmp_path / "run.safetensors"

    def begin():
        policy_of("sd3", adapter=AdapterConfig(start_from=str(path)))

    with pytest.raises(ValueError, match="can't be read"):
        begin()

    def pair(layer):
        return {f"{layer}.lora_A.weight": torch.ones(2, 128), f"{layer}.lora_B.weight": torch.ones(128, 2)}

    known = pair("transformer.transformer_blocks.0.attn.to_out.0")
    save_file({**pair("diffusion_model.joint_blocks.0.x_block.attn.proj"), **known}, path)
    with pytest.raises(
        ValueError, match="Only 2 of 4 tensors of .*, not diffusion_model.joint_blocks.0.*: take a plain"
    ):
        begin()
    save_file({**known, **pair("transformer.no.such")}, path)
    with pytest.raises(ValueError, match="Only 1 of 2 layers of the LoRA are linear ones of this model, not no.such:"):
        begin()


def test_a_start_of_another_size_is_one_sentence(policy_of, tmp_path):
    policy = policy_of("sd3", adapter=AdapterConfig(rank=2, targets="to_out"))
    policy.export(tmp_path / "run.safetensors", {})
    tensors = load_file(tmp_path / "run.safetensors")
    name = next(each for each in tensors if each.endswith("lora_A.weight"))
    width, layer = tensors[name].shape[1], name.removeprefix("transformer.").removesuffix(".lora_A.weight")
    tensors[name] = torch.ones(2, width + 8)
    save_file(tensors, tmp_path / "wide.safetensors")
    sizes = rf"\[2, {width + 8}\] and \[{width}, 2\], but this model's needs \[2, {width}\] and \[{width}, 2\]"
    with pytest.raises(ValueError, match=f"layer {layer} has the sizes {sizes}: take a LoRA of this model"):
        policy_of("sd3", adapter=AdapterConfig(start_from=str(tmp_path / "wide.safetensors")))


def full(policy_of, kind, **changes):
    return policy_of(kind, adapter=AdapterConfig(kind="full"), **changes)


def test_all_weights_are_trained_saved_and_loaded_by_from_pretrained(kind, folders, policy_of, tmp_path):
    policy = full(policy_of, kind, dtype=torch.bfloat16)
    base = velocity(policy)
    count = sum(parameter.numel() for parameter in policy.module.transformer.parameters())
    assert sum(parameter.numel() for parameter in policy.module.parameters() if parameter.requires_grad) == count
    assert {parameter.dtype for parameter in policy.module.parameters()} == {torch.float32}
    policy.module(policy.noise([1]), 0.7, policy.condition(PROMPTS[:1])).square().mean().backward()
    used = [parameter.grad is not None for parameter in policy.module.parameters()]
    assert all(used)
    for _ in range(2):  # the second time it replaces the first
        move(policy)
        policy.export(tmp_path / "transformer", {"mixgrpo_run": "run"})
    trained = velocity(policy)
    assert (trained - base).abs().max() > 1e-2
    assert [path.name for path in tmp_path.iterdir()] == ["transformer"]

    loaded = type(policy.module.transformer).from_pretrained(tmp_path / "transformer")
    assert torch.equal(velocity(policy, loaded), trained)
    again = full(policy_of, kind)
    again.load_export(tmp_path / "transformer")
    assert torch.equal(velocity(again), trained)


def test_all_weights_load_strictly(policy_of):
    policy = full(policy_of, "sd3")
    state = {name: tensor.detach().clone() for name, tensor in policy.adapter_state().items()}
    first = next(iter(state))
    with pytest.raises(ValueError, match=f"differ in '{first}'"):
        policy.load_adapter_state({name: tensor for name, tensor in state.items() if name != first})
    with pytest.raises(ValueError, match="another model"):
        policy.load_adapter_state({**state, first: state[first][:1]})
    policy.load_adapter_state({**state, first: state[first] + 1})
    assert torch.equal(policy.adapter_state()[first], state[first] + 1)


def test_without_a_base_model_there_is_no_kl_to_it(policy_of):
    with pytest.raises(RuntimeError, match="base model isn't kept"):
        full(policy_of, "sd3").base()
    settings = {"adapter": {"kind": "full"}, "loss": {"kl_weight": 0.1}}
    with pytest.raises(ValueError, match="kl_weight is 0.1: it must be 0"):
        TrainConfig.from_dict(settings).validate()
    TrainConfig.from_dict({"adapter": {"kind": "full"}}).validate()
    with pytest.raises(ValueError, match="kind is 'half': choose lora, full"):
        TrainConfig.from_dict({"adapter": {"kind": "half"}}).validate()


def test_a_lora_keeps_the_dtype_of_its_base(kind, policy_of):
    policy = policy_of(kind, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in policy.adapter_state().values()} == {torch.float32}
    assert next(policy.module.transformer.parameters()).dtype == torch.bfloat16

    def output_of(policy):
        return policy.module(policy.noise([1, 2]), 0.5, policy.condition(PROMPTS))

    # What FLUX is told of time and guidance is a thousand times theirs, in its own dtype: 500 and 4096 are exact.
    policy, exact = (policy_of(kind, guidance=4.096, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    output = output_of(policy)
    assert output.dtype == torch.float32
    difference = (output - output_of(exact)).abs()
    assert 0 < difference.mean() < 0.05 * output.std()
