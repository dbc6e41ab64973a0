"""docs/client.py on a real server behind a reverse proxy: what it fetches, and what it says when something is wrong."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import reverse_proxy

CLIENT = Path(__file__).resolve().parents[2] / "docs" / "client.py"


@pytest.fixture(scope="module")
def proxied(server):
    with reverse_proxy.serving(server.url) as url:
        yield url


@pytest.fixture
def client(server, proxied, tmp_path):
    """client(graph): (exit code, what it printed, what it printed as an error, the folder with what it fetched)."""

    def run(graph):
        file = tmp_path / "prompt.json"
        file.write_text(json.dumps(server._with_defaults(graph)))
        command = [sys.executable, CLIENT, proxied, file, tmp_path / "results"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout, done.stderr, tmp_path / "results"

    return run


def with_files(graph, what, listed_as):
    files = {"run": ["train", 0], "what": what, "listed_as": listed_as}
    return {**graph, "files": {"class_type": "MixGRPO_RunFiles", "inputs": files}}


def test_it_fetches_lora_curve_and_zip(server, graphs, client):
    graph = graphs.train("fetched", evaluate_every=1)
    code, printed, said, folder = client(with_files(graph, "zip of the run", "images"))
    assert (code, said) == (0, ""), said
    assert "2 of 2\n" in printed and "finished, iteration 2 of 2" in printed
    run_id = printed.partition("Run ")[2].partition(":")[0]
    loras = [f"{run_id}.safetensors", f"{run_id}-best.safetensors"]
    assert {*loras, f"{run_id}.zip", "reward.png", "events.jsonl"} <= {path.name for path in folder.iterdir()}
    with zipfile.ZipFile(folder / f"{run_id}.zip") as archive:
        told = {"reward.png", "events.jsonl", "workflow.json", "settings.json", "report.html"}
        assert set(archive.namelist()) == {*loras, *told} and archive.testzip() is None
        for name in loras:
            assert archive.read(name) == (folder / name).read_bytes() == server.lora(Path(name).stem).read_bytes()
        settings = json.loads(archive.read("settings.json"))
        assert settings["name"] == "fetched" and settings["config"]["run"]["iterations"] == 2
    # The LoRA alone, for services that take images only, and one that isn't there.
    outputs = server.outputs(with_files(graph, "best LoRA", "images"))
    assert outputs["files"] == {"images": [{"filename": loras[1], "subfolder": "loras/mixgrpo", "type": "output"}]}


def test_a_graph_that_is_wrong_in_part_is_refused_and_not_executed(server, graphs, client):
    graph = {**graphs.train("wrong in part", iterations=-5), **graphs.stock()}
    code, _, said, folder = client(graph)
    assert code == 1 and '"node_errors"' in said and "iterations" in said and not folder.exists()


def test_a_prompt_that_fails_is_told_in_the_nodes_words(client):
    inputs = {"run_id": "no-such-run", "what": "LoRA", "listed_as": "files"}
    code, _, said, folder = client({"files": {"class_type": "MixGRPO_RunFiles", "inputs": inputs}})
    assert code == 1 and said.startswith("MixGRPO_RunFiles: There is no run 'no-such-run' in ComfyUI's output folder")
    assert not folder.exists()
