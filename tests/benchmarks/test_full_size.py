"""The published sizes are those that ComfyUI finds in a file of their layout."""

import pytest

from benchmarks import full_size
from mixgrpo_engine.memory.cards import CARDS


@pytest.mark.parametrize("name", sorted({card.model for card in CARDS.values()}))
def test_comfyui_detects_these_sizes(comfy, name):
    import comfy.model_detection

    built = full_size.without_data(name).model
    found = comfy.model_detection.model_config_from_unet(built.diffusion_model.state_dict(), "")
    assert type(found) is type(built.model_config)
    if "klein" in name and found.unet_config["num_heads"] == 48:
        pytest.skip("This ComfyUI knows FLUX.2 dev only, and refuses klein.")
    wanted = {key: value for key, value in built.model_config.unet_config.items() if key != "dtype"}
    assert {key: found.unet_config.get(key) for key in wanted} == wanted
