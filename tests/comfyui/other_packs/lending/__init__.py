"""A pack whose loaders and model folder another pack uses, as ComfyUI-MultiGPU does with ComfyUI-GGUF."""

import folder_paths
import nodes

folder_paths.add_model_folder_path("lent", folder_paths.get_output_directory())


class Lent:
    """What the test pack's node of that name loads."""

    CATEGORY = "test"
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return nodes.NODE_CLASS_MAPPINGS[f"Test_{self.kind}"]().load(*self.values)


class LentModel(Lent):
    kind, values, RETURN_TYPES = "Model", [""], ("MODEL",)


class LentVae(Lent):
    kind, values, RETURN_TYPES = "Vae", [], ("VAE",)


NODE_CLASS_MAPPINGS = {"Test_LentModel": LentModel, "Test_LentVae": LentVae}
