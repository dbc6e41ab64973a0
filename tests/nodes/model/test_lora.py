"""The adapter itself, on plain layers and on ComfyUI's own."""

import math

import pytest
import torch
from torch import nn

RANK, ALPHA = 3, 6.0


@pytest.fixture
def lora(room):
    return room("mixgrpo_engine.lora")


@pytest.fixture
def config(room):
    return room("mixgrpo_engine.config").AdapterConfig(rank=RANK, alpha=ALPHA)


class Net(nn.Module):
    def __init__(self, linear=nn.Linear, **options):
        super().__init__()
        self.embed = linear(8, 8, **options)
        self.blocks = nn.ModuleList(nn.Sequential(linear(8, 16, **options), linear(16, 8, **options)) for _ in range(2))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return x


@torch.no_grad()
def fill(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


@torch.no_grad()
def move(lora, module):
    generator = torch.Generator().manual_seed(5)
    for tensor in lora.state(module).values():
        tensor += 0.2 * torch.randn(tensor.shape, generator=generator)


def test_all_linear_layers_of_the_blocks_and_no_others(lora, config):
    names = lora.inject(Net(), config)
    assert names == ["blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1"]


def test_fragments_choose_any_linear_layer(lora, config):
    config.targets, config.exclude = "embed, blocks.1", "1.1"
    assert lora.inject(Net(), config) == ["embed", "blocks.1.0"]


def test_no_layer_is_an_error_that_shows_some(lora, config):
    config.targets = "attention"
    with pytest.raises(ValueError, match=r"No linear layer belongs to targets 'attention'.*embed"):
        lora.inject(Net(), config)


def test_a_new_adapter_changes_nothing_and_alone_is_trainable(lora, config):
    net = fill(Net())
    x = torch.randn(4, 8)
    expected = net(x)
    lora.inject(net, config)
    assert torch.equal(net(x), expected)
    trainable = {id(parameter) for parameter in net.parameters() if parameter.requires_grad}
    assert trainable == {id(tensor) for tensor in lora.state(net).values()}


def test_the_start_is_seeded_kaiming_and_leaves_the_global_state_alone(lora, config):
    random_state = torch.get_rng_state()
    nets = [fill(Net()) for _ in range(3)]
    torch.set_rng_state(random_state)
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        lora.inject(net, config, seed)
    assert torch.equal(torch.get_rng_state(), random_state)
    first, again, other = (lora.state(net) for net in nets)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        if "lora_A" in name:
            assert not torch.equal(tensor, other[name])
            bound = 1 / math.sqrt(tensor.shape[1])
            assert 0.8 * bound < float(tensor.detach().abs().max()) <= bound
        else:
            assert not tensor.any()


def comfy_layers():
    import comfy.ops

    return comfy.ops.manual_cast.Linear, comfy.ops.disable_weight_init.Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_comfyui_layers_keep_their_own_casting(comfy, lora, config, dtype):
    casting, _ = comfy_layers()
    net = fill(Net(casting, dtype=dtype))
    x = torch.randn(4, 8)
    expected = net(x)
    weights = {name: parameter.clone() for name, parameter in net.named_parameters()}
    lora.inject(net, config)
    assert torch.equal(net(x), expected)
    assert {tensor.dtype for tensor in lora.state(net).values()} == {torch.float32}
    move(lora, net)
    layer = net.blocks[0][0]
    a, b = (lora.state(net)[f"blocks.0.0.lora_{part}.weight"] for part in "AB")
    plain = nn.functional.linear(x, weights["blocks.0.0.weight"].float(), weights["blocks.0.0.bias"].float())
    assert torch.allclose(layer(x), plain + ALPHA / RANK * x @ a.T @ b.T, atol=1e-5)
    with lora.disabled(net):
        assert torch.equal(net(x), expected)
    assert not torch.equal(net(x), expected)


def test_quantised_layers_that_are_no_nn_linear(comfy, lora, config):
    import comfy.ops

    layer = comfy.ops.mixed_precision_ops({}, torch.float32).Linear
    assert not issubclass(layer, nn.Linear)
    net = Net(layer)
    net.load_state_dict(fill(Net()).state_dict())
    x = torch.randn(4, 8)
    expected = net(x)
    names = lora.inject(net, config)
    assert len(names) == 4
    move(lora, net)
    assert not torch.allclose(net(x), expected)
    net(x).square().mean().backward()
    assert all(tensor.grad.any() for tensor in lora.state(net).values())
    with lora.disabled(net):
        assert torch.equal(net(x), expected)


def test_disabled_ends_even_after_an_error(lora, config):
    net = fill(Net())
    lora.inject(net, config)
    move(lora, net)
    x = torch.randn(2, 8)
    tuned = net(x)
    with pytest.raises(ZeroDivisionError), lora.disabled(net):
        1 / 0  # noqa: B018
    assert torch.equal(net(x), tuned)
    assert all(tensor.requires_grad for tensor in lora.state(net).values())


def test_state_loads_strictly_and_all_or_nothing(lora, config):
    source, target = fill(Net()), fill(Net())
    lora.inject(source, config, 1)
    lora.inject(target, config, 2)
    move(lora, source)
    values = {name: tensor.detach().clone() for name, tensor in lora.state(source).items()}
    start = {name: tensor.detach().clone() for name, tensor in lora.state(target).items()}
    first, last = list(values)[0], list(values)[-1]
    for wrong, sentence in (
        ({name: tensor for name, tensor in values.items() if name != last}, f"has no '{last}'"),
        ({**values, "blocks.9.0.lora_A.weight": values[first]}, "holds 'blocks.9.0.lora_A.weight'"),
        ({**values, last: values[last][:, :2]}, "rank or model differ"),
    ):
        with pytest.raises(ValueError, match=sentence):
            lora.load_state(target, wrong)
        assert all(torch.equal(tensor, start[name]) for name, tensor in lora.state(target).items())
    lora.load_state(target, values)
    assert all(torch.equal(tensor, values[name]) for name, tensor in lora.state(target).items())
    x = torch.randn(2, 8)
    assert torch.equal(source(x), target(x))


def test_the_file_holds_a_pair_a_layer_and_alpha_inside_it(lora, config, tmp_path):
    from safetensors import safe_open

    net = fill(Net())
    names = lora.inject(net, config)
    move(lora, net)
    path = tmp_path / "run.safetensors"
    lora.export(net, path, metadata={"run": "seven"})
    with safe_open(path, "pt") as file:
        assert file.metadata()["run"] == "seven"
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert len(tensors) == 2 * len(names)
    for name, tensor in lora.state(net).items():
        scale = ALPHA / RANK if "lora_B" in name else 1.0
        assert torch.equal(tensors[f"diffusion_model.{name}"], scale * tensor)


def test_a_failed_export_leaves_the_old_file(lora, config, tmp_path):
    net = fill(Net())
    lora.inject(net, config)
    path = tmp_path / "run.safetensors"
    lora.export(net, path)
    old = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        lora.export(net, path, metadata={"run": 7})
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
