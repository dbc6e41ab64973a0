"""A pack that changes the working directory when it is imported."""

import os

os.chdir(os.path.dirname(os.path.realpath(__file__)))


class Wandering:
    CATEGORY = "test"
    FUNCTION = "pass_on"
    RETURN_TYPES = ("MIXGRPO_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"reward": ("MIXGRPO_REWARD",)}}

    def pass_on(self, reward):
        return (reward,)


NODE_CLASS_MAPPINGS = {"Test_Wandering": Wandering}
