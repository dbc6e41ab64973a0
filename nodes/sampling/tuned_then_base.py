"""Two models in one sampling: the tuned one for the first, noisy steps, the base for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
from torch import Tensor

from ..comfy_types import Conditioning, Denoiser, Model, Sampler

_FUNCTIONS = "sampler_post_cfg_function"  # what samplers themselves hang into the model options


class HybridGuider(comfy.samplers.CFGGuider):
    """MixGRPO's hybrid inference (arXiv 2507.21802, section 4): less reward hacking at nearly the same reward.

    A CFGGuider of the tuned model whose predictions come from a CFGGuider of the base once the noise level of step
    `tuned_steps(steps, share)` is reached. Both are set up for the whole sampling by ComfyUI's own code, each with
    its own conditions, patches and wrappers; any sampler runs through without noticing.
    """

    def __init__(self, tuned: Model, base: Model, share: float) -> None:
        """tuned, base: MODELs with the same kind of latents. share: of the steps, 0 to 1, that the tuned one does."""
        super().__init__(tuned)
        self.base = comfy.samplers.CFGGuider(base)
        self.share = share
        self._base_from: float | None = None  # the highest noise level that belongs to the base; None: not sampling
        self._base_loaded = False

    def set_conds(self, positive: Conditioning, negative: Conditioning) -> None:
        super().set_conds(positive, negative)
        self.base.set_conds(positive, negative)

    def set_cfg(self, cfg: float) -> None:
        super().set_cfg(cfg)
        self.base.set_cfg(cfg)

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Sampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable[..., None] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        steps = sigmas.shape[-1] - 1
        switch = tuned_steps(steps, self.share)
        rest = (noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)
        if switch >= steps:
            return super().sample(*rest)
        if switch <= 0:
            return self.base.sample(*rest)

        # Samplers that look inside a step (dpm_2) finish the last tuned step with the tuned model.
        before, after = float(sigmas[switch - 1]), float(sigmas[switch])
        self._base_from, self._base_loaded = after + 0.01 * (before - after), False
        inside = _Inside(lambda: super(HybridGuider, self).sample(*rest))
        try:
            self.base.sample(noise, latent_image, inside, sigmas, denoise_mask, None, True, seed)
        finally:
            self._base_from = None
        return inside.result

    def __call__(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        model_options = model_options or {}
        if self._base_from is None or float(timestep.max()) > self._base_from:
            return super().__call__(x, timestep, model_options=model_options, seed=seed)
        if not self._base_loaded:
            self._load_base(x)
        return self.base(x, timestep, model_options=self._base_options(model_options), seed=seed)

    def _load_base(self, x: Tensor) -> None:
        """Brings the base (back) onto the device: the tuned model has taken its place, or is the same with a LoRA."""
        base = self.base
        comfy.sampler_helpers.prepare_sampling(base.model_patcher, x.shape, base.conds, base.model_options)
        base.model_patcher.pre_run()
        self._base_loaded = True

    def _base_options(self, model_options: dict) -> dict:
        """The base's own options, with what this sampling and its sampler have added to the tuned model's."""
        options = comfy.model_patcher.create_model_options_clone(self.base.model_options)
        own = self.model_options.get(_FUNCTIONS, [])
        added = [function for function in model_options.get(_FUNCTIONS, []) if function not in own]
        if added:
            options[_FUNCTIONS] = [*options.get(_FUNCTIONS, []), *added]
            options["disable_cfg1_optimization"] = model_options.get("disable_cfg1_optimization", False)
        transformer = options.setdefault("transformer_options", {})
        transformer["sample_sigmas"] = model_options.get("transformer_options", {}).get("sample_sigmas")
        return options


class _Inside(comfy.samplers.Sampler):
    """A sampler that runs another sampling while the model of this one is set up, and keeps its result."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self.run = run
        self.result: Any = None  # what run() has given, once the sampling is done

    def sample(
        self,
        model_wrap: Denoiser,
        sigmas: Tensor,
        extra_args: dict,
        callback: Any,
        noise: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        self.result = self.run()
        return noise


def tuned_steps(steps: int, share: float) -> int:
    """How many of the first steps the tuned model does: share * steps, rounded to the nearest."""
    return min(steps, max(0, int(share * steps + 0.5)))
