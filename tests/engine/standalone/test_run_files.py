"""The run files in run_files/ can be read, and say what they promise.

(A folder named examples would be taken for workflow templates by ComfyUI.)
"""

import json
import shutil
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from mixgrpo_engine.memory.cards import CARDS
from mixgrpo_engine.standalone import run_file

FOLDER = Path(__file__).resolve().parents[3] / "run_files"
OF_CARDS = {
    "sd35_medium_16gb": "SD3.5 medium, 512 px, 16 GB",
    "flux_dev_48gb": "FLUX.1-dev bf16, 512 px, 48 GB",
}
PAPER = "flux_dev_paper_32_gpus"


@pytest.fixture
def read(tmp_path):
    """`read(name)`: an example as its users would have it, beside a file with 10,000 prompts."""

    def read(name):
        (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {number}" for number in range(10_000)))
        return run_file.read(shutil.copy(FOLDER / f"{name}.json", tmp_path))

    return read


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.json")} == {*OF_CARDS, PAPER}


@pytest.mark.parametrize("name,card", OF_CARDS.items())
def test_examples_for_cards_have_the_cards_settings(read, name, card):
    assert read(name).config.as_dict() == CARDS[card].config().as_dict()


def test_the_paper_s_full_fine_tune_is_the_published_one(read):
    """arXiv 2507.21802: FLUX.1-dev on 32 GPUs."""
    file = read(PAPER)
    assert (len(file.prompts.train), len(file.prompts.held_out)) == (9600, 400)
    assert [(reward.name, reward.weight) for reward in file.rewards] == [
        ("hps", 1), ("pick_score", 1), ("image_reward", 1)
    ]  # fmt: skip
    assert file.model.guidance == 3.5
    c = file.config
    assert (c.run.iterations, c.run.width, c.run.height, c.run.mixed_precision) == (300, 720, 720, "bf16")
    assert (c.rollout.steps, c.rollout.shift, c.rollout.eta, c.rollout.cfg) == (25, 3.0, 0.7, 1.0)
    assert (c.rollout.group_size, c.rollout.prompts_per_iteration, c.rollout.shared_noise) == (12, 32, True)
    assert (c.window.size, c.window.interval, c.window.stride, c.window.strategy) == (4, 25, 1, "constant")
    assert (c.loss.clip_range, c.loss.kl_weight, c.loss.advantage_clip) == (1e-4, 0, 5)
    o = c.optimizer
    assert (o.learning_rate, o.weight_decay, o.beta1, o.beta2, o.max_grad_norm) == (1e-5, 1e-4, 0.9, 0.999, 1.0)
    assert (o.updates, o.balanced) == (4, True), "3 of a prompt's 12 images a minibatch"
    assert c.adapter.kind == "full"


def test_its_launch_is_one_that_accelerate_knows():
    """Launched as it is, on 2 processes, by test_sharding.py."""
    config = load_config_from_file(str(FOLDER / "fsdp_32_gpus.yaml"))
    assert config.distributed_type == DistributedType.FSDP and config.fsdp_config["fsdp_version"] == 2
    assert (
        config.num_processes
        == json.loads((FOLDER / f"{PAPER}.json").read_text())["settings"]["rollout"]["prompts_per_iteration"]
    )
