"""A foreign node pack for the tests: loaders of tiny random models that leave a trace, and a reward that can fail.

Files may be tiny: see sizes_of_files.py.
"""

import asyncio
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

from . import editing, patches, sizes_of_files

sizes_of_files.install()
TINY_MODELS = Path(__file__).resolve().parent.parent.parent / "nodes" / "tiny_models" / "__init__.py"


def tiny_models():
    spec = importlib.util.spec_from_file_location("mixgrpo_test_tiny_models", TINY_MODELS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its modules import each other
    spec.loader.exec_module(module)
    return module


def leave_trace(node):
    """One line per execution, with the process in which it happened."""
    import folder_paths

    with open(Path(folder_paths.get_output_directory()) / "loaded.txt", "a") as file:
        file.write(f"{node} {os.getpid()}\n")


class Loader:
    CATEGORY = "test"
    FUNCTION = "load"


class TestModel(Loader):
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"fail": ("STRING", {"default": ""})}}

    def load(self, fail):
        leave_trace("model")
        if fail:
            raise RuntimeError(fail)
        return (tiny_models().sd3(context=32),)  # as wide as the tiny text encoder


class TestClip(Loader):
    """Takes half a second for each prompt with the word "slow", and leaves a trace of every one.

    width: of its tokens, repeated until they are as wide as a model wants them; 0 leaves them 32 wide.
    """

    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"width": ("INT", {"default": 0, "min": 0})}}

    def load(self, width=0):
        import folder_paths

        leave_trace("clip")
        clip = tiny_models().clip()
        tokenize = clip.tokenize

        def traced(text):
            with open(Path(folder_paths.get_output_directory()) / "encoded.txt", "a") as file:
                file.write(f"{text}\n")
            time.sleep(0.5 if "slow" in text else 0.0)
            return tokenize(text)

        clip.tokenize = traced
        if width:
            encode = clip.encode_from_tokens_scheduled

            def widened(*args, **kwargs):
                return [[t.repeat(1, 1, width // t.shape[-1]), extras] for t, extras in encode(*args, **kwargs)]

            clip.encode_from_tokens_scheduled = widened
        return (clip,)


class TestFluxClip(Loader):
    """Of CLIP-L and T5, 32 wide: CLIP-L reads a prompt's first 77 tokens only."""

    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (tiny_models().flux_clip(),)


class TestVae(Loader):
    RETURN_TYPES = ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        leave_trace("vae")
        return (tiny_models().vae(),)


class Redness:
    """Mean of the red channel. Sleeps `seconds` a call; raises at the call number `fail_at` (1 is the first).

    hold_at: the call of this number lasts a minute, for tests that do something meanwhile.
    fail_rank: raises at the second call in the process of that number, of several.
    """

    name = "redness"

    def __init__(self, seconds, fail_at, hold_at=0, fail_rank=-1):
        self.seconds, self.fail_at, self.hold_at, self.fail_rank = seconds, fail_at, hold_at, fail_rank
        self.calls = 0

    def score(self, images, prompts):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError(f"The red light went out at call {self.calls}.")
        if self.calls == 2 and os.environ.get("RANK") == str(self.fail_rank):
            raise RuntimeError("The second light went out.")
        if self.calls == self.hold_at:
            leave_trace("held")
        time.sleep(60.0 if self.calls == self.hold_at else self.seconds)
        return images[..., 0].mean(dim=(1, 2))


class TestReward(Loader):
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"seconds": ("FLOAT", {"default": 0.0}), "fail_at": ("INT", {"default": 0})},
            "optional": {
                "hold_at": ("INT", {"default": 0}),
                "fail_rank": ("INT", {"default": -1, "min": -1}),
                "broken_rank": ("INT", {"default": -1, "min": -1}),
                "kills": ("BOOLEAN", {"default": False}),
            },
        }

    def load(self, seconds, fail_at, hold_at=0, fail_rank=-1, broken_rank=-1, kills=False):
        """broken_rank: the process of that number can't load it (kills: dies of it), while the others still do."""
        leave_trace("reward")
        if os.environ.get("RANK") == str(broken_rank):
            if kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("The second lamp is missing.")
        time.sleep(6.0 if broken_rank >= 0 and "RANK" in os.environ else 0.0)
        return (Redness(seconds, fail_at, hold_at, fail_rank),)


class Scripted:
    """At call number k every image has the k-th score."""

    name = "scripted"

    def __init__(self, scores):
        self.scores = iter([float(score) for score in scores.split()])

    def score(self, images, prompts):
        return [next(self.scores)] * len(images)


class TestScripted(Loader):
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"scores": ("STRING", {"default": ""})}}

    def load(self, scores):
        leave_trace("scripted")
        return (Scripted(scores),)


class Reads:
    """Writes down which prompts it is given. Images are scored by their red."""

    name = "reads"

    def score(self, images, prompts):
        return self._read("score", images, prompts)

    def strict(self, images, prompts):
        return self._read("strict", images, prompts)

    def _read(self, what, images, prompts):
        import folder_paths

        with open(Path(folder_paths.get_output_directory()) / "scored.txt", "a") as file:
            file.writelines(f"{what} {prompt}\n" for prompt in prompts)
        return images[..., 0].mean(dim=(1, 2))


class TestReads(Loader):
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (Reads(),)


class PassReward:
    """Passes a reward on. A worker loads the packs of its graph only: with this one it takes tiny files too."""

    CATEGORY = "test"
    FUNCTION = "pass_on"
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"reward": ("MIXGRPO_REWARD",)}}

    def pass_on(self, reward):
        return (reward,)


class Slow:
    """Lets other nodes start, then holds the prompt's event loop, deaf but to ComfyUI's interrupt."""

    CATEGORY = "test"
    FUNCTION = "wait"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("FLOAT", {"default": 1.0}), "seconds": ("FLOAT", {"default": 60.0})}}

    async def wait(self, after, seconds):
        import folder_paths
        from comfy.model_management import throw_exception_if_processing_interrupted

        await asyncio.sleep(after)
        (Path(folder_paths.get_output_directory()) / "slow.txt").touch()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            throw_exception_if_processing_interrupted()
            time.sleep(0.05)
        return {"ui": {"text": ["slept"]}}


class EqualToAll(str):
    """The type "*" as packs write it: ComfyUI finds it equal to every other."""

    def __ne__(self, other):
        return False


class TestAnything(Loader):
    """Pretends to give whatever is wanted; it is a string."""

    RETURN_TYPES = (EqualToAll("*"),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"exits": ("BOOLEAN", {"default": False})}}

    def load(self, exits):
        if exits:
            raise SystemExit(5)
        return ("anything",)


class TestTextList(Loader):
    """The lines of a text as a list, as packs do it that read captions from somewhere."""

    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def load(self, text):
        return (text.split("\n"),)


class TestValue(Loader):
    """The value of a JSON text, for any input."""

    RETURN_TYPES = (EqualToAll("*"),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "null"})}}

    def load(self, text):
        return (json.loads(text),)


class TestList(TestValue):
    """The values of a JSON list as a list of ComfyUI's, as packs do it that go through settings."""

    OUTPUT_IS_LIST = (True,)


class TestImageList(Loader):
    """Two batches as a list, as packs do it whose images differ in size."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"one": ("IMAGE",), "other": ("IMAGE",)}}

    def load(self, one, other):
        return ([one, other],)


NODE_CLASS_MAPPINGS = {
    **patches.NODES,
    **editing.NODES,
    "Test_Model": TestModel,
    "Test_Clip": TestClip,
    "Test_FluxClip": TestFluxClip,
    "Test_List": TestList,
    "Test_TextList": TestTextList,
    "Test_Vae": TestVae,
    "Test_Reward": TestReward,
    "Test_Scripted": TestScripted,
    "Test_Reads": TestReads,
    "Test_PassReward": PassReward,
    "Test_Slow": Slow,
    "Test_Anything": TestAnything,
    "Test_Value": TestValue,
    "Test_ImageList": TestImageList,
}
