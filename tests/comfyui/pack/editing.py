"""A tiny model that is told of pictures, and a reward that compares with them."""

import sys


def _pack():
    return sys.modules[__package__]


class TestFlux:
    """FLUX takes reference latents, as Kontext does."""

    CATEGORY = "test"
    FUNCTION = "load"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        _pack().leave_trace("flux")
        return (_pack().tiny_models().flux(),)


class Closeness:
    """How near an image's mean colour is to that of the picture it was made from."""

    name = "closeness"
    uses_references = True
    needed_references = ("image",)

    def score(self, images, prompts, references):
        from pathlib import Path

        import folder_paths

        with open(Path(folder_paths.get_output_directory()) / "compared.txt", "a") as file:
            file.writelines(
                f"{prompt}|{each.columns.get('wish')}|{each.images['image'].mean():.3f}\n"
                for prompt, each in zip(prompts, references, strict=True)
            )
        means = [each.images["image"].mean((0, 1)).to(images) for each in references]
        return [-float((image.mean((0, 1)) - mean).abs().mean()) for image, mean in zip(images, means, strict=True)]


class TestCloseness(TestFlux):
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    def load(self):
        return (Closeness(),)


NODES = {"Test_Flux": TestFlux, "Test_Closeness": TestCloseness}
