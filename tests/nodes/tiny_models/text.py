"""Text encoders of several parts: tokenizers and classes of ComfyUI's own, with weights of two layers, 32 wide."""

import torch

from .build import randomise
from .parts import CLIP_CONFIG


def flux_clip():
    """FLUX's: only the pooled vector of CLIP-L is used, of a prompt's first 77 tokens; T5 reads all."""
    import comfy.text_encoders.flux as family

    class Tiny(family.FluxClipModel):
        def __init__(self, **_):
            torch.nn.Module.__init__(self)
            self.clip_l, self.t5xxl, self.dtypes = _clip(), _t5(), {torch.float32}

    return _with_weights(family.FluxTokenizer, Tiny)


def hidream_clip():
    """HiDream's without Llama: its tokenizer gives T5 the first 128 tokens."""
    import comfy.text_encoders.hidream as family

    class Tiny(family.HiDreamTEModel):
        def __init__(self, **_):
            torch.nn.Module.__init__(self)
            self.clip_l, self.clip_g, self.t5xxl, self.llama = _clip(), _clip(), _t5(), None
            self.dtypes = {torch.float32}

    return _with_weights(family.HiDreamTokenizer, Tiny)


def _clip():
    import comfy.sd1_clip

    return comfy.sd1_clip.SDClipModel(textmodel_json_config=dict(CLIP_CONFIG), return_projected_pooled=False)


def _t5():
    import comfy.sd1_clip
    import comfy.text_encoders.t5

    config = {
        "d_ff": 64,
        "d_kv": 16,
        "d_model": 32,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "num_heads": 2,
        "num_layers": 2,
        "model_type": "t5",
        "vocab_size": 32128,
    }
    return comfy.sd1_clip.SDClipModel(
        textmodel_json_config=config,
        model_class=comfy.text_encoders.t5.T5,
        layer="last",
        special_tokens={"end": 1, "pad": 0},
    )


def _with_weights(tokenizer, model):
    import comfy.sd
    import comfy.supported_models_base

    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(tokenizer, model))
    randomise(clip.cond_stage_model, 0)
    return clip
