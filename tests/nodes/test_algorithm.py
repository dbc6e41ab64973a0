"""MixGRPO_Algorithm: presets, fields that win over them, and sentences for what can't work."""

import pytest

GROUPS = ("rollout", "window", "loss", "optimizer", "adapter")


@pytest.fixture
def config(room):
    return room("mixgrpo_engine.config")


@pytest.fixture
def presets(room):
    return room("mixgrpo_engine.presets")


@pytest.fixture
def node(room):
    return room("nodes.algorithm").MixGRPOAlgorithm


@pytest.fixture
def settings(room, node):
    """`settings(preset, **given)` runs the node: {group: {field: value}} of what it gives."""
    return lambda preset, **given: as_dict(node.execute(preset, **given).result[0])


def widgets(node):
    return {widget.id: widget for widget in node.define_schema().inputs}


def as_dict(config):
    return {group: values for group, values in config.as_dict().items() if group in GROUPS}


def test_every_setting_of_a_training_on_one_gpu_but_the_betas_has_one_field(config, node):
    wanted = {each.label for each in config.SETTINGS if each.group in GROUPS}
    wanted -= {"beta1", "beta2"}
    wanted -= {"balanced"}  # what several processes gain by; a run file has it
    wanted -= {
        "rank",
        "exclude",
        "kind",
        "dtype",
        "start_from",
    }  # of the LoRA only what presets set; MixGRPO LoRA has the others
    assert widgets(node).keys() == {"preset", *wanted}


def test_widgets_say_what_the_settings_say(config, node):
    found = widgets(node)
    for each in config.SETTINGS:
        if each.place:
            told = found[each.label].as_dict()
            kind = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "COMBO"}[each.kind]
            assert found[each.label].io_type == kind or each.kind is str and not each.choices
            only = "Of the LoRA where no MixGRPO LoRA is connected to Train. " * (each.group == "adapter")
            assert told["tooltip"] == only + each.tooltip
            bounds = (told.get("min"), told.get("max"), told.get("step"))
            assert each.choices or bounds == (each.minimum, each.maximum, each.step)
            assert tuple(told.get("options", ())) == each.choices
            assert told.get("advanced", False) is each.advanced


def test_preset_comes_first_and_may_be_the_only_one_given(node):
    first, *others = node.define_schema().inputs
    assert first.id == "preset" and all(each.optional for each in (first, *others))
    assert all(widget.tooltip for widget in [first, *others])


def test_a_request_without_a_preset_is_custom(node, settings):
    """Requests of before there were presets give every field."""
    given = as_dict(node.execute(steps=7, eta=0.25).result[0])
    assert given == settings("custom", steps=7, eta=0.25)


def test_widgets_begin_with_the_papers_values(node, presets, settings):
    found = widgets(node)
    assert found.pop("preset").default == "MixGRPO"
    given = {name: widget.default for name, widget in found.items()}
    assert settings("custom", **given) == as_dict(presets.preset("MixGRPO"))


def test_a_preset_alone_is_its_settings(presets, settings):
    for name in presets.PRESETS:
        assert settings(name) == as_dict(presets.preset(name))


def test_custom_alone_is_the_defaults(config, settings):
    assert settings("custom") == as_dict(config.TrainConfig())


def test_a_given_field_wins(presets, settings):
    expected = as_dict(presets.preset("DanceGRPO"))
    expected["rollout"] |= {"steps": 7, "shared_noise": False, "shift": 0.0}
    expected["loss"]["mix"] = "rewards"
    assert settings("DanceGRPO", steps=7, shared_noise=False, shift=0.0, reward_mix="rewards") == expected
    # What one call changes, the next one doesn't see.
    assert settings("DanceGRPO") == as_dict(presets.preset("DanceGRPO"))


def test_the_browser_is_told_the_values_that_the_server_takes(node, presets, settings):
    told = node.define_schema().inputs[0].as_dict()
    assert told["options"] == ["custom", *told["presets"]] and list(told["presets"]) == list(presets.PRESETS)
    names = set(widgets(node)) - {"preset"}
    for name, values in told["presets"].items():
        assert values.keys() == names
        # A browser posts all fields, whatever it calls them.
        assert settings("custom", **values) == settings(name)


def test_the_browser_is_told_what_a_field_meant_before_it_was_there(config, node):
    told = node.define_schema().inputs[0].as_dict()["before"]
    assert told == {each.label: each.default for each in config.SETTINGS if each.place}


def test_the_lora_nodes_inputs_keep_their_names(room, config):
    lora = room("nodes.algorithm").MixGRPOLoRA
    assert [each.id for each in lora.define_schema().inputs] == [
        "rank", "alpha", "targets", "exclude", "dtype", "start_from",
    ]  # fmt: skip
    given = {"rank": 4, "alpha": 8.0, "targets": "attn", "exclude": "mlp"}
    assert lora.execute(**given).result[0] == config.AdapterConfig(**given)
    with pytest.raises(ValueError, match="^alpha is -1.0: it must be 0 to 4096"):
        lora.execute(alpha=-1.0)


def test_a_whole_number_serves_where_a_number_is_wanted(settings):
    shift = settings("custom", shift=3)["rollout"]["shift"]
    assert shift == 3.0 and type(shift) is float


UNFOLD = r"Unfold the node's settings to see it\."


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"window_size": 25},
            rf"window_size is 25 with 25 steps: it must be 1 to 24 .*, or 0 for all of them\. {UNFOLD}",
        ),
        ({"trained_share": 0.0}, r"trained_share is 0\.0: it must be 0\.01 to 1\."),
        ({"surrogate": "ppo"}, r"surrogate is 'ppo': choose clip, ratio_norm, kl_mask, nft\."),
        ({"kl_mask_threshold": 0.0}, r"kl_mask_threshold is 0\.0: it must be 1e-10 to 1\."),
        ({"kl_space": "latent"}, r"kl_space is 'latent': choose velocity, mean, flow_grpo\."),
        ({"ema_decay": 1.0}, r"ema_decay is 1\.0: it must be 0 to 0\.9999\."),
        ({"tail_variant": "euler"}, r"tail_variant is 'euler': choose midpoint, heun\."),
        ({"reward_mix": "sum"}, r"reward_mix is 'sum': choose advantages, rewards\."),
        ({"updates": 13}, rf"updates is 13 with 12 images an iteration: it must be 1 to 12\. {UNFOLD}"),
        ({"steps": "8"}, r"steps is '8': it must be a whole number\."),
        ({"steps": 8.0}, r"steps is 8\.0: it must be a whole number\."),
        ({"group_size": True}, r"group_size is True: it must be a whole number\."),
        ({"eta": None}, r"eta is None: it must be a number\."),
        ({"shared_noise": 1}, r"shared_noise is 1: it must be true or false\."),
    ],
)
def test_what_cannot_work_is_one_sentence(settings, given, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        settings("MixGRPO", **given)


def test_an_unknown_preset_is_one_sentence(settings):
    with pytest.raises(ValueError, match="no preset 'PPO': choose MixGRPO, "):
        settings("PPO")


def test_window_size_0_stands_for_every_step_but_the_last(node):
    assert node.execute("Flow-GRPO").result[0].window_size == 9
    assert node.execute("Flow-GRPO", window_size=2).result[0].window_size == 2
