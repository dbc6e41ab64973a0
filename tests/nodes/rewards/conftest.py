"""The nodes of neural rewards over model folders of their own."""

import pytest


@pytest.fixture
def weights(room):
    return room("nodes.rewards.weights")


@pytest.fixture
def neural(room):
    return room("nodes.rewards.neural")


@pytest.fixture
def models(comfy, weights, tmp_path, monkeypatch):
    """ComfyUI's model folders, empty, and nobody's settings or hub cache."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    for key in (weights.KEY, "clip_vision", "text_encoders"):
        (tmp_path / "models" / key).mkdir(parents=True)
    for key in ("clip_vision", "text_encoders"):
        folders = [str(tmp_path / "models" / key)], folder_paths.supported_pt_extensions
        folder_paths.folder_names_and_paths[key] = folders
    weights.register_folder()
    for name in ("MIXGRPO_DOWNLOADS", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "MIXGRPO_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "models"
