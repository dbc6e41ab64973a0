"""Gradients by differences, in float64 throughout, to hold autograd's against."""

import torch

SIGMA = 0.7


def random_weights(policy, count=1):
    """float64 weights, so that the sum of weights * velocity is a loss that every output enters."""
    generator = torch.Generator().manual_seed(99)
    return torch.randn(count, *policy.noise_shape, generator=generator, dtype=torch.float64)


def gradients(policy, prompts, weights):
    """The velocity, and the gradient of sum(weights * velocity) by adapter tensor, None where unused."""
    for tensor in policy.adapter_state().values():
        tensor.grad = None
    velocity = policy.module(policy.noise(range(len(prompts))), SIGMA, policy.condition(prompts))
    (velocity.double() * weights).sum().backward()
    return velocity.detach(), {name: tensor.grad for name, tensor in policy.adapter_state().items()}


def in_float64(policy):
    """Keeps ComfyUI from rounding to float32 inside; the list returned receives each call's unrounded output."""
    outputs = []
    network = policy.module.model.diffusion_model
    network.register_forward_hook(lambda module, args, output: outputs.append(output.detach()))
    for name, layer in network.named_children():
        if name in ("pe_embedder", "rope_embedder"):
            layer.register_forward_hook(lambda module, args, output: output.double())
    for tensor in policy.adapter_state().values():
        tensor.data = tensor.data.double()
    return outputs


def slopes(policy, outputs, weights, cfg, found, step=1e-4):
    """Yields (name, slope of the loss along that tensor's own gradient, the gradient's norm): they should agree.

    policy: in_float64's, with `outputs` from it. found: gradients by name. Tensors without a gradient are moved in a
    fixed direction; their norm is 0.
    """
    x, condition = policy.noise([0]), policy.condition(["red"])

    def loss():
        outputs.clear()
        with torch.no_grad():
            policy.module(x, SIGMA, condition)
        # One call of both, where prompt and negative prompt have the same shape, or a call of each.
        conditional, unconditional = torch.cat(outputs).chunk(2) if cfg != 1 else (outputs[0], 0)
        return float(((unconditional + cfg * (conditional - unconditional)) * weights).sum())

    for name, tensor in policy.adapter_state().items():
        norm = 0.0 if found[name] is None else float(found[name].norm())
        direction = found[name] / norm if norm else torch.ones_like(tensor.data) / tensor.numel() ** 0.5
        tensor.data += step * direction
        above = loss()
        tensor.data -= 2 * step * direction
        below = loss()
        tensor.data += step * direction
        yield name, (above - below) / (2 * step), norm
