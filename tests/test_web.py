"""What the browser gets from others is what npm gave, unchanged."""

import hashlib
import json
import re

import pytest

from scripts import web


@pytest.fixture(scope="module")
def versions():
    return json.loads((web.VENDOR / "versions.json").read_text(encoding="utf-8"))


def test_vendored_files_are_those_that_were_vendored(versions):
    assert versions.keys() == web.VENDORED.keys()
    for name, about in versions.items():
        assert hashlib.sha256((web.VENDOR / name).read_bytes()).hexdigest() == about["sha256"], name


def test_vendored_versions_are_those_of_the_lock(versions):
    lock = json.loads((web.ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for about in versions.values():
        assert lock[f"node_modules/{about['package']}"]["version"] == about["version"]


def test_nothing_is_loaded_from_elsewhere():
    """ComfyUI's page may only load from its own server, and a machine may have no network."""
    for path in [
        *web.VENDOR.parent.rglob("*.mjs"),
        *web.VENDOR.parent.rglob("*.js"),
        *web.VENDOR.parent.rglob("*.css"),
    ]:
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r"""^(?:import|export)\b[^"';()=]*["']([^"']+)["']|\bimport\(["']([^"']+)""", text, re.M)
        linked = re.findall(r"""\burl\(\s*["']?([^"')\s]+)""", text)
        addresses = [one or two for one, two in imported] + linked
        assert [each for each in addresses if not each.startswith((".", "data:"))] == [], path
