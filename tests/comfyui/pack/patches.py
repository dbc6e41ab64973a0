"""Nodes that patch a MODEL as other packs do, or look at its patches."""


class TestNoBackward:
    """A MODEL in which some layers run on a kernel without a backward pass, as quantised ones of other packs do."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "replace", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def replace(self, model):
        import torch

        class Kernel(torch.nn.Module):
            def __init__(self, layer):
                super().__init__()
                self.layer = [layer]

            def forward(self, x):
                with torch.no_grad():
                    return self.layer[0](x)

        first = model.model.diffusion_model.joint_blocks[0]
        for block in (first.x_block, first.context_block):
            block.attn.proj = Kernel(block.attn.proj)
        return (model,)


class TestAttention:
    """Hangs an attention without a backward pass onto a MODEL, as SageAttention's."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "load", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def load(self, model):
        import torch

        def without_backward(function, *args, **kwargs):
            with torch.no_grad():
                return function(*args, **kwargs)

        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = without_backward
        return (model,)


class CountPatches:
    """How many weights of a model are patched, as text."""

    CATEGORY = "test"
    FUNCTION = "count"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def count(self, model):
        return {"ui": {"text": [str(len(model.patches))]}}


class SamePatches:
    """How many weights two models have patched with the very same values, as text; fails where they differ."""

    CATEGORY = "test"
    FUNCTION = "compare"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"one": ("MODEL",), "other": ("MODEL",)}}

    def compare(self, one, other):
        if one.patches.keys() != other.patches.keys():
            raise ValueError("Other weights are patched.")
        for key in one.patches:
            mine, theirs = (model.patches[key][0][1].weights for model in (one, other))
            # The two low-rank matrices.
            if (mine[0] != theirs[0]).any() or (mine[1] != theirs[1]).any():
                raise ValueError(f"{key} is patched with other values.")
        return {"ui": {"text": [str(len(one.patches))]}}


NODES = {
    "Test_NoBackward": TestNoBackward,
    "Test_Attention": TestAttention,
    "Test_CountPatches": CountPatches,
    "Test_SamePatches": SamePatches,
}
