"""Tiny FLUX.1, SD3 and Chroma folders with random weights, saved by diffusers' own pipelines."""

import functools
import json
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

WORDS = ["a", "red", "green", "blue", "circle", "square", "on", "white", "background", "the", "left", "two"]
WIDTH = 64  # of T5, so of what the transformer reads


def flux(folder, *, guidance=True, dynamic=True, seed=0):
    """Two double and two single blocks, 64 wide; with [dev]'s guidance and dynamic shift unless told otherwise."""
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=32,
        guidance_embeds=guidance,
        axes_dims_rope=(8, 12, 12),
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dynamic else 1.0, use_dynamic_shifting=dynamic),
        vae=vae(),
        text_encoder=CLIPTextModel(clip_config()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(t5_config()),
        tokenizer_2=t5_tokenizer(),
        transformer=stirred(transformer),
    )
    return saved(pipeline, folder)


def sd3(folder, *, t5=True, seed=0):
    """Two joint blocks, 128 wide, the first with SD3.5-medium's second attention."""
    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=32,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=stirred(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(),
        text_encoder=CLIPTextModelWithProjection(clip_config(16)),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(16)),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(t5_config()) if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )
    return saved(pipeline, folder)


def chroma(folder, *, seed=0):
    """Two double and two single blocks, 64 wide."""
    torch.manual_seed(seed)
    transformer = ChromaTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    pipeline = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=T5EncoderModel(t5_config()),
        tokenizer=t5_tokenizer(),
        transformer=stirred(transformer),
    )
    return saved(pipeline, folder)


def vae():
    """Compresses by 8 to 16 channels, as FLUX's and SD3's."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def clip_config(projection=32):
    return CLIPTextConfig(
        vocab_size=len(clip_words()),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=projection,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def t5_config():
    return T5Config(vocab_size=len(t5_pieces()), d_model=WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=2)


@functools.cache
def clip_words():
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    return {"<|startoftext|>": 0, "<|endoftext|>": 1, **{piece: 2 + place for place, piece in enumerate(pieces)}}


def clip_tokenizer():
    """It spells words letter by letter. From files, which all versions of transformers read."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(clip_words()))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


@functools.cache
def t5_pieces():
    letters = sorted({letter for word in WORDS for letter in word})
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), *((letter, -2.0) for letter in letters)]


def t5_tokenizer():
    fast = Tokenizer(Unigram(list(t5_pieces()), unk_id=2))
    fast.pre_tokenizer = Metaspace()
    fast.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(tokenizer_object=fast, extra_ids=0, model_max_length=512)


@torch.no_grad()
def stirred(transformer):
    """Biases and norms away from their zeros and ones, so that a mix-up of any two shows."""
    for name, parameter in transformer.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
        elif "norm" in name:
            parameter.mul_(3.0)
    return transformer


def saved(pipeline, folder):
    pipeline.save_pretrained(folder)
    return folder
