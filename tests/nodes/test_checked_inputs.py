"""Every node refuses what doesn't fit its own schema, in one sentence, before it does anything."""

import asyncio
import inspect
import math

import numpy as np
import pytest
import torch

# A value of another kind, for each kind of widget.
WRONG = {"INT": (2.7, "3", True, None), "FLOAT": ("0.5", True, [1.0]), "STRING": (5, ["a"]), "BOOLEAN": ("false", 0)}


@pytest.fixture(scope="module")
def every_node(pack):
    """The classes that ComfyUI gets."""
    nodes = asyncio.run(pack.nodes.MixGRPOExtension().get_node_list())
    assert len(nodes) > 20
    return nodes


def refused(node, name, value):
    """The sentence for the value of an input, given alone: the node's own code would miss the others."""
    told = refused_text(node, **{name: value})
    assert told.startswith(f"{name} of {node.define_schema().display_name} is ") and "\n" not in told, told
    return told


def widgets(node, *kinds):
    return [each for each in node.define_schema().inputs if str(each.get_io_type()) in kinds]


def test_another_kind_is_refused_by_every_widget(every_node):
    seen = 0
    for node in every_node:
        for about in widgets(node, *WRONG):
            for value in WRONG[str(about.get_io_type())]:
                assert "it must be" in refused(node, about.id, value)
                seen += 1
    assert seen > 350


def test_bounds_and_steps_of_every_number(every_node):
    seen = 0
    for node in every_node:
        for about in widgets(node, "INT", "FLOAT"):
            for beyond in (about.min - 1, about.max + 1):
                assert "it must be" in refused(node, about.id, beyond)
            if about.io_type == "FLOAT":
                assert "is nan: it must be" in refused(node, about.id, math.nan)
            elif (about.step or 1) > 1:
                assert f"it must be a multiple of {about.step}" in refused(node, about.id, about.default + 1)
            seen += 1
    assert seen > 80


def test_options_of_every_combo(every_node):
    """But for files, of which their node tells more."""
    told = {}
    for node in every_node:
        for about in widgets(node, "COMBO"):
            own = set(inspect.signature(node.validate_inputs).parameters) | set(getattr(node, "FILES", ()))
            if about.id not in own:
                told[node.define_schema().node_id, about.id] = refused(node, about.id, "no such choice")
    assert "choose wait, detached." in told["MixGRPO_Train", "mode"]
    assert "choose default, cpu." in told["MixGRPO_RewardHPS", "device"]
    assert ("MixGRPO_RewardHPS", "weights") not in told and ("MixGRPO_Prompts", "file") not in told
    assert ("MixGRPO_LoRA", "start_from") not in told
    assert "or another of the " in told["MixGRPO_Algorithm", "preset"]
    assert len(told) > 30


def test_what_no_option_can_be_and_what_no_input_is(every_node):
    """Links to inputs that a node doesn't have reach it: ComfyUI checks only those that it has."""
    for node in every_node:
        schema = node.define_schema()
        for each in widgets(node, "COMBO"):
            assert refused_text(node, **{each.id: "x" * 2000}) == (
                f"{each.id} of {schema.display_name} has 2000 characters: choose one of its options."
            )
        told = refused_text(node, nonsense="x")
        assert told == f"{schema.display_name} has no input 'nonsense': remove it."


def test_a_required_input_that_is_missing_is_named(every_node):
    """ComfyUI looks for those of nodes that it checks; it doesn't check all that it executes."""
    (prompts,) = (node for node in every_node if node.define_schema().node_id == "MixGRPO_Prompts")
    assert refused_text(prompts, text="red") == "file of MixGRPO Prompts is missing: connect it, or give it a value."


def refused_text(node, **given):
    schema = node.define_schema()
    with pytest.raises(ValueError) as raised:
        result = node.execute(**{name: [value] if schema.is_input_list else value for name, value in given.items()})
        if inspect.isawaitable(result):
            asyncio.run(result)
    return str(raised.value)


@pytest.mark.parametrize("value", ["x", 5, {"a": 1}])
def test_what_is_no_value_of_a_wire_is_refused_by_every_node(every_node, value):
    seen = 0
    for node in every_node:
        for about in node.define_schema().inputs:
            kind = str(about.get_io_type())
            if kind not in {*WRONG, "COMBO"} and "," not in kind:
                assert ": connect " in refused(node, about.id, value), kind
                seen += 1
    assert seen > 40


def test_a_lora_that_is_gone_is_told_without_all_the_others(room, monkeypatch, tmp_path):
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    for number in range(40):
        (tmp_path / f"{number}.safetensors").touch()
    node = room("nodes.checked_inputs").checked(room("nodes.algorithm").MixGRPOLoRA)
    for name in ("gone.safetensors", ""):
        with pytest.raises(ValueError) as raised:
            node.execute(start_from=name)
        assert str(raised.value) == (
            f"start_from is '{name}', which isn't among ComfyUI's LoRAs: press R and choose another one."
        )


def taking(room, node):
    """The node class, whose execute() only gives back what it gets."""
    taker = type(node.__name__, (node,), {"execute": classmethod(lambda cls, **given: given)})
    return room("nodes.checked_inputs").checked(taker)


def test_every_default_passes_as_it_is(room, every_node):
    for node in every_node:
        schema = node.define_schema()
        given = {about.id: about.default for about in widgets(node, *WRONG, "COMBO") if about.default is not None}
        given = {name: [value] for name, value in given.items()} if schema.is_input_list else given
        assert taking(room, node).execute(**given) == given, schema.node_id


def test_numbers_of_other_packs_become_plain_ones(room):
    train = taking(room, room("nodes.training").MixGRPOTrain)
    given = {"iterations": np.int64(3), "guidance": np.float32(2.5), "gradient_checkpointing": np.bool_(True)}
    taken = train.execute(**{name: [value] for name, value in given.items()})
    assert taken == {"iterations": [3], "guidance": [2.5], "gradient_checkpointing": [True]}
    assert [type(value) for (value,) in taken.values()] == [int, float, bool]
    assert type(train.execute(guidance=[2])["guidance"][0]) is float


def test_what_is_left_out_or_not_evaluated_yet_passes(room):
    training = room("nodes.training")
    late = {"model": [None], "clip": [None]}
    assert taking(room, training.MixGRPOTrain).execute(**late, lora=[None]) == late, "an API request's null"
    score = taking(room, room("nodes.scoring").score.MixGRPOScore)
    images = [torch.zeros(1, 8, 8, 3), torch.zeros(2, 4, 4, 3)]
    assert score.execute(images=images, source=[None]) == {"images": images}
    assert score.execute(images=images, prompt=["a", "b"])["images"] == images
    with pytest.raises(ValueError, match="prompt of MixGRPO Score is 5: it must be a text"):
        score.execute(images=images, prompt=["a", 5])


def test_a_node_that_loads_late_is_checked_before_it_loads(room):
    apply = room("nodes.checked_inputs").checked(room("nodes.training").MixGRPOApplyRun)
    with pytest.raises(ValueError, match="strength of MixGRPO Apply Run is 'strong': it must be a number"):
        apply.check_lazy_status(model=None, run_id="some-run", strength="strong")
    with pytest.raises(ValueError, match="run of MixGRPO Apply Run is a number: connect MixGRPO Train or"):
        apply.check_lazy_status(model=None, run=5, strength=1.0)
