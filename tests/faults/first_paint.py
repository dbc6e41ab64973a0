"""How soon the run panel shows many runs, a run of many events and one of many iterations; and what it weighs."""

import re
import statistics
import time
from pathlib import Path

from scripts.browser import open_comfyui
from scripts.comfyui_server import ROOT, ComfyServer
from tests.browser.written_runs import write_run
from tests.faults.load import write_runs

TIMES = 5
WEB = ROOT / "nodes" / "web"
LONG = {"events of 2,000": 1950, "iterations of 10,000": 10_000}  # name of a run -> its iterations

# Milliseconds from an action to the frame that shows what it brings.
PAINTED = """
async ([click, shown]) => {
  const found = () => [...document.querySelectorAll(shown)].some((e) => e.checkVisibility());
  const started = performance.now();
  if (click) document.querySelector(click).click();
  else window.app.extensionManager.sidebarTab.activeSidebarTabId = "mixgrpo";
  while (!found()) {
    if (performance.now() - started > 30_000) throw new Error(`${shown} was never shown`);
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  return performance.now() - started;
}
"""
CLOSE = "() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = null; }"
ROWS, CURVE, BACK = ".mixgrpo-row", ".mixgrpo-chart canvas", "[aria-label='All runs']"


def measure(place: Path, runs: int):
    output = place / "comfyui" / "output"
    write_runs(output / "mixgrpo", runs)
    for name, iterations in LONG.items():
        write_run(output, of(name), name, iterations, every=iterations // 39, created=1.8e9)
    time.sleep(35)  # what has ended just now is looked at again and again
    with ComfyServer(place / "comfyui") as running:
        with open_comfyui(running.url, 1440, 900) as page:
            first, again = page.evaluate(PAINTED, [None, ROWS]), []
            for _ in range(TIMES):
                page.evaluate(CLOSE)
                page.wait_for_function(f"() => !document.querySelector('{ROWS}')")
                again.append(page.evaluate(PAINTED, [None, ROWS]))
            count = runs + len(LONG)
            yield f"list of {count} runs: {first:.0f} ms the first time, then {statistics.median(again):.0f} ms."
            for name in LONG:
                times = []
                for _ in range(TIMES):
                    times.append(page.evaluate(PAINTED, [f"[data-run='{of(name)}'] .mixgrpo-open", CURVE]))
                    page.evaluate(PAINTED, [BACK, ROWS])
                yield f"run with {name}: {times[0]:.0f} ms the first time, then {statistics.median(times[1:]):.0f} ms."
        imported = re.search(r"([\d.]+) seconds.*mixgrpo", running.log.read_text(encoding="utf-8", errors="replace"))
    modules = [path for path in WEB.rglob("*.*js") if "docs" not in path.parts]
    sizes = sum(path.stat().st_size for path in modules) / 1024
    vendored = sum(path.stat().st_size for path in modules if "vendor" in path.parts) / 1024
    yield f"JavaScript: {len(modules)} files, {sizes:.0f} kB, {vendored:.0f} of them vendored."
    yield f"import of the pack: {imported[1] if imported else '?'} s."


def of(name: str) -> str:
    """A run's id."""
    return re.sub(r"\W", "-", name)
