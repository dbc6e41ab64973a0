"""A pack that finds another one's nodes and folders only when its own are at work."""

import folder_paths
import nodes
from comfy_execution.graph_utils import GraphBuilder


class Borrowing:
    CATEGORY = "test"
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


class LooksUp(Borrowing):
    RETURN_TYPES = ("MODEL",)

    def load(self):
        of_comfyui = nodes.NODE_CLASS_MAPPINGS.get("EmptySD3LatentImage")
        lent = nodes.NODE_CLASS_MAPPINGS["Test_LentModel"]()
        assert of_comfyui is not None
        return lent.load()


class Expands(Borrowing):
    RETURN_TYPES = ("VAE",)

    def load(self):
        graph = GraphBuilder()
        vae = graph.node("Test_LentVae")
        return {"result": (vae.out(0),), "expand": graph.finalize()}


class Lists(Borrowing):
    """Without the other pack even its inputs can't be told."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        folder_paths.get_filename_list("lent")
        return {"required": {}}

    def load(self):
        return nodes.NODE_CLASS_MAPPINGS["Test_Model"]().load("")


NODE_CLASS_MAPPINGS = {"Test_LooksUp": LooksUp, "Test_Expands": Expands, "Test_Lists": Lists}
