"""Makes the embedded tiny model from nothing: `python -m pretraining`.

Needs ComfyUI's model classes (COMFYUI_DIR, or .comfyui here) and about 35 minutes on two idle CPU cores.
Every stage leaves its result in --work; a second run goes on after the last finished stage.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from . import assets, denoiser, evaluate, text, vae


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pretraining", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".cache/pretraining"), help="folder of the stages' results")
    parser.add_argument("--out", type=Path, default=assets.FOLDER, help="folder of the three finished files")
    parser.add_argument("--seed", type=int, default=0, help="the same seed on the same machine gives the same model")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    seed = options.seed

    rough = _stage(options.work / "vae_rough.safetensors", vae.TinyVAE, lambda: vae.train(seed))
    coder = _stage(options.work / "vae.safetensors", vae.TinyVAE, lambda: vae.sharpen(rough, seed + 1))
    encoder = _stage(options.work / "text_encoder.safetensors", text.TextEncoder, lambda: text.warm_up(seed))

    def train_denoiser() -> nn.Module:
        shown, latents = denoiser.cache_latents(coder, seed=seed)
        checkpoint = options.work / "denoiser_latest.safetensors"  # to look at while it trains
        return denoiser.train(encoder, shown, latents, seed, each=lambda _, model: _save(model, checkpoint))

    model = _stage(options.work / "denoiser.safetensors", denoiser.build, train_denoiser)

    found = evaluate.measure(coder, encoder, model, options.work / "grid.png")
    assets.write(coder, encoder, model, options.out, {"seed": seed, **found})
    print(f"wrote {options.out}; look at {options.work / 'grid.png'}")


def _stage(path: Path, build, make) -> nn.Module:
    """The stage's result: read from ``path`` if it is there, else made and saved."""
    if path.exists():
        model = build()
        model.load_state_dict(load_file(path))
        return model
    started = time.monotonic()
    model = make()
    _save(model, path)
    print(f"{path.stem} took {time.monotonic() - started:.0f} s", flush=True)
    return model


def _save(model: nn.Module, path: Path) -> None:
    weights: dict[str, torch.Tensor] = {key: value.contiguous() for key, value in model.state_dict().items()}
    unfinished = path.with_suffix(".part")
    save_file(weights, unfinished)
    unfinished.replace(path)


if __name__ == "__main__":
    main()
