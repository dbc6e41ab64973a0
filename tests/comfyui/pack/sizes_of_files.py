"""Text encoders, FLUX, Chroma and KL VAEs as large as their files, where ComfyUI always builds the published sizes.

So tiny files go through the real loaders. For a published file nothing changes: its sizes are those that ComfyUI takes.
"""

import functools

TEXT_MODEL, T5 = "text_model.encoder.layers.", "encoder.block."
CLIP_NAMES = {768: "clip_l", 1280: "clip_g"}  # by width

_encoders = {}  # ComfyUI's name of a text encoder -> (what of its config the file says, words)
_vae_channels = []  # of the VAE that is being made


def install():
    import comfy.ldm.modules.diffusionmodules.model as kl
    import comfy.model_detection
    import comfy.sd
    import comfy.sd1_clip

    _before(comfy.sd, "load_text_encoder_state_dicts", lambda states=(), **_: [_look(state) for state in states])
    _before(comfy.sd, "load_state_dict_guess_config", lambda state, *_, **__: _look(state))
    _wrap(comfy.sd1_clip.SDClipModel, "__init__", _text_encoder)
    _wrap(comfy.model_detection, "detect_unet_config", _flux)
    _wrap(comfy.sd.VAE, "__init__", _vae)
    for part in (kl.Encoder, kl.Decoder):
        _wrap(part, "__init__", _kl_part)


def _look(tensors):
    """Remembers the sizes of the text encoders in a file; keys may begin with a prefix, as in checkpoints."""
    for key, weight in tensors.items():
        if key.endswith(f"{TEXT_MODEL}0.mlp.fc1.weight"):
            prefix = key.removesuffix(f"{TEXT_MODEL}0.mlp.fc1.weight")
            config = {
                "intermediate_size": weight.shape[0],
                "num_hidden_layers": _count(tensors, f"{prefix}{TEXT_MODEL}"),
            }
            words = tensors[f"{prefix}text_model.embeddings.token_embedding.weight"]
            _encoders[CLIP_NAMES[weight.shape[1]]] = config, len(words)
        if key.endswith(f"{T5}0.layer.1.DenseReluDense.wi_0.weight"):
            prefix = key.removesuffix(f"{T5}0.layer.1.DenseReluDense.wi_0.weight")
            bias = tensors[f"{prefix}{T5}0.layer.0.SelfAttention.relative_attention_bias.weight"]
            config = {
                "d_ff": weight.shape[0],
                "num_heads": bias.shape[1],
                "num_layers": _count(tensors, f"{prefix}{T5}"),
            }
            _encoders["t5xxl"] = config, len(tensors[f"{prefix}shared.weight"])


def _count(tensors, prefix):
    """Of layers that follow each other."""
    numbers = {int(key[len(prefix) :].split(".")[0]) for key in tensors if key.startswith(prefix)}
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


def _text_encoder(original, self, *args, textmodel_json_config=None, model_options=None, **options):
    model_options = dict(model_options or {})
    name = model_options.get("model_name", "clip_l" if textmodel_json_config is None else "")
    config, words = _encoders.get(name, ({}, None))
    changes = f"{name}_model_config"
    model_options[changes] = {**model_options.get(changes, {}), **config}
    original(self, *args, textmodel_json_config=textmodel_json_config, model_options=model_options, **options)
    if words:
        stock = self.transformer.get_input_embeddings()
        weight = stock.weight
        few = self.operations.Embedding(words, weight.shape[1], device=weight.device, dtype=weight.dtype)
        # The tokenizers are the published ones, so their numbers are folded.
        few.requires_grad_(False).register_forward_pre_hook(
            lambda module, args: (args[0] % module.num_embeddings, *args[1:])
        )
        self.transformer.set_input_embeddings(few)


def _flux(original, tensors, prefix, *args, **options):
    config = original(tensors, prefix, *args, **options)
    if config and config.get("image_model") in ("flux", "chroma"):
        config["num_heads"] = config["hidden_size"] // sum(config["axes_dim"])
    if config and config.get("image_model") == "chroma":
        guidance = f"{prefix}distilled_guidance_layer."
        config |= {
            "out_dim": config["hidden_size"],
            "hidden_dim": len(tensors[f"{guidance}in_proj.weight"]),
            "n_layers": _count(tensors, f"{guidance}layers."),
        }
    return config


def _vae(original, self, sd=None, *args, **options):
    last = (sd or {}).get("decoder.conv_out.weight")
    _vae_channels[:] = [] if last is None or last.ndim != 4 else [last.shape[1]]
    try:
        original(self, sd, *args, **options)
    finally:
        _vae_channels.clear()


def _kl_part(original, self, *args, ch, **options):
    original(self, *args, ch=_vae_channels[0] if _vae_channels else ch, **options)


def _before(owner, name, look):
    def call(original, *args, **options):
        look(*args, **options)
        return original(*args, **options)

    _wrap(owner, name, call)


def _wrap(owner, name, replacement):
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args, **options):
        return replacement(original, *args, **options)

    setattr(owner, name, call)
