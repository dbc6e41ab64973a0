"""ComfyUI's own sampling, to compare with."""

import logging

import torch

STEPS = 5  # divides the step tables of SD3 and FLUX, where scheduler "simple" then takes exactly our sigmas


def sample(model, noise, positive, negative, cfg=1.0, sigmas=None, steps=STEPS):
    """KSampler, sampler euler, scheduler simple, from an empty latent. Returns (latents, trace).

    latents: before the latent format is undone. trace: one (x, denoised) a step.
    """
    import comfy.samplers

    trace = []
    sampler = comfy.samplers.KSampler(model, steps, model.load_device, sampler="euler", scheduler="simple")
    with torch.no_grad():
        sampler.sample(
            noise.clone(),
            positive,
            negative,
            cfg,
            latent_image=torch.zeros_like(noise),
            sigmas=sigmas,
            callback=lambda step, denoised, x, total: trace.append((x.clone(), denoised.clone())),
            disable_pbar=True,
        )
    # Euler's last step, to sigma 0, gives the denoised latent.
    return trace[-1][1], trace


def velocities(trace, sigmas):
    return [(x - denoised) / sigma for (x, denoised), sigma in zip(trace, sigmas, strict=False)]


def one_velocity(model, x, sigma, positive, negative, cfg=1.0):
    """The velocity that stock sampling uses at (x, sigma): a sampler of one step that starts there."""
    # From an empty latent the sampler starts at sigma * noise.
    _, trace = sample(model, x / sigma, positive, negative, cfg, sigmas=torch.tensor([sigma, 0.0]))
    start, denoised = trace[0]
    assert torch.allclose(start, x, atol=1e-5)
    return (start - denoised) / sigma


def with_lora_of(policy, model, path, caplog):
    """The MODEL with the policy's adapter by way of its file and the stock loader, which must take all of it."""
    import comfy.sd
    import comfy.utils

    policy.export(path, {})
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    with caplog.at_level(logging.WARNING):
        patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    assert "not loaded" not in caplog.text.lower()
    assert len(patched.patches) == len(policy.adapted_layers)
    return patched
