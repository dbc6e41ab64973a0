"""What a worker's ComfyUI tells of a node that fails: whether it may have missed another pack."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import scipy.integrate


class Loader:
    FUNCTION, CATEGORY, RETURN_TYPES, OUTPUT_NODE = "load", "test", ("MODEL",), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


class LooksUp(Loader):
    def load(self):
        import nodes

        return nodes.NODE_CLASS_MAPPINGS["Lent"]().load()


class LooksUpKindly(Loader):
    def load(self):
        import nodes

        if "Lent" not in nodes.NODE_CLASS_MAPPINGS:
            raise RuntimeError("Install the pack Lending.")


class Expands(Loader):
    def load(self):
        return {"result": (["x", 0],), "expand": {"x": {"class_type": "Lent", "inputs": {}}}}


class Lists(Loader):
    @classmethod
    def INPUT_TYPES(cls):
        raise KeyError("lent")


class Imports(Loader):
    def load(self):
        import a_module_of_another_pack  # noqa: F401


class Breaks(Loader):
    def load(self):
        raise RuntimeError("The lamp is broken.")


def test_a_server_that_wants_a_manager_of_assets_gets_one_without_any(room, monkeypatch):
    """As ComfyUI's from 0.34 on does; app.assets.manager is of its tree."""
    compat = room("nodes.worker.compat")
    assert compat._manager_of_assets() == ()

    class NoAssets:
        def __init__(self, args):
            self.args = args

    monkeypatch.setitem(sys.modules, "app.assets.manager", SimpleNamespace(NoAssets=NoAssets))
    (manager,) = compat._manager_of_assets()
    assert type(manager) is NoAssets and hasattr(manager.args, "disable_all_custom_nodes")


def test_a_library_that_few_trainings_need_is_loaded_when_it_is_used(room, monkeypatch):
    finder = room("nodes.worker.compat")._LoadedWhenUsed()
    assert finder.find_spec("scipy.linalg", scipy.__path__) is None
    spec = finder.find_spec("scipy.integrate", scipy.__path__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert "quad" not in object.__getattribute__(module, "__dict__")
    assert module.quad(lambda x: x, 0, 1)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "node, missing, lookup, words",
    [
        (LooksUp, {"Lent"}, True, "Node 1 (Mine): 'Lent'"),
        (LooksUpKindly, {"Lent"}, False, "Node 1 (Mine): Install the pack Lending."),
        (Expands, {"Lent"}, True, "Node 1 (Mine): 'Lent'"),
        (Lists, set(), True, "A node couldn't be prepared: 'lent'"),
        (Imports, set(), True, "Node 1 (Mine): No module named 'a_module_of_another_pack'"),
        (Breaks, set(), False, "Node 1 (Mine): The lamp is broken."),
    ],
)
def test_a_failure_tells_what_was_looked_for(room, comfy, monkeypatch, node, missing, lookup, words):
    import nodes
    from comfy_execution import caching

    compat = room("nodes.worker.compat")
    types = compat._NodeTypes({"Mine": node})
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", types)
    monkeypatch.setattr(caching, "NODE_CLASS_CONTAINS_UNIQUE_ID", {})
    server = SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_, **__: None)
    with pytest.raises(room("nodes.worker.errors").GraphError) as caught:
        compat.Comfy(server, types).execute({"1": {"class_type": "Mine", "inputs": {}}}, "1")
    assert (caught.value.missing, caught.value.lookup) == (missing, lookup)
    assert str(caught.value).strip() == words
