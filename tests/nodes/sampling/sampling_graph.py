"""The embedded model in ComfyUI's own sampling nodes, as a stock graph connects them."""

import torch

SHAPE = (16, 8, 8)  # latents of a 64x64 image


class Graph:
    def __init__(self, room, prompt):
        self.model, self.clip, self.vae = room("nodes.tiny.tiny_model").MixGRPOTinyModel.execute().result
        self.positive, self.negative = (
            self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)) for text in (prompt, "")
        )

    def guide(self, model, cfg=1.0):
        """The CFGGuider node."""
        from comfy_extras.nodes_custom_sampler import CFGGuider

        return CFGGuider.execute(model, self.positive, self.negative, cfg).result[0]

    def sample(
        self, sampler, sigmas, *, seed, batch=1, batch_index=None, model=None, guider=None, cfg=1.0, latents=None,
        new_noise=True,
    ):  # fmt: skip
        """The SamplerCustomAdvanced node: latents in the space in which the sampler works."""
        from comfy_extras.nodes_custom_sampler import DisableNoise, RandomNoise, SamplerCustomAdvanced

        guider = guider or self.guide(model or self.model, cfg)
        start = torch.zeros(batch, *SHAPE) if latents is None else self._out(latents)
        latent = {"samples": start}
        if batch_index is not None:
            latent["batch_index"] = batch_index
        noise = RandomNoise.execute(seed).result[0] if new_noise else DisableNoise.execute().result[0]
        with torch.inference_mode():
            done = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]
        return self._in(done["samples"])

    def ksampler(self, steps, *, seed, batch):
        """The KSampler node, sampler euler, scheduler simple."""
        import nodes

        latent = {"samples": torch.zeros(batch, *SHAPE)}
        with torch.inference_mode():
            done = nodes.common_ksampler(
                self.model, seed, steps, 1.0, "euler", "simple", self.positive, self.negative, latent
            )
        return self._in(done[0]["samples"])

    def noise(self, seed, batch):
        import comfy.sample

        return comfy.sample.prepare_noise(torch.zeros(batch, *SHAPE), seed)

    def velocity(self, latents, sigma):
        """From the model itself, without any sampler: one call of the guider's prediction."""
        from comfy.samplers import Sampler

        class Once(Sampler):
            def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_):
                self.denoised = model_wrap(latents, torch.full((len(latents),), sigma), **extra_args)
                return noise

        once = Once()
        self.guide(self.model).sample(
            torch.zeros_like(latents), torch.zeros_like(latents), once, torch.tensor([sigma, 0.0]), disable_pbar=True
        )
        return (latents - once.denoised) / sigma

    def images(self, latents):
        with torch.inference_mode():
            return self.vae.decode(self._out(latents))

    def _in(self, samples):
        return self.model.model.latent_format.process_in(samples).clone()

    def _out(self, samples):
        return self.model.model.latent_format.process_out(samples)


def stock_sampler(name):
    """The KSamplerSelect node."""
    from comfy_extras.nodes_custom_sampler import KSamplerSelect

    return KSamplerSelect.execute(name).result[0]
