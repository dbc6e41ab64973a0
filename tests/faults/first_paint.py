"""How soon the run panel shows many runs, a run of many events and one of many iterations; and what it weighs."""

import re
import statistics
from pathlib import Path

from scripts.browser import open_comfyui
from tests.browser.written_runs import write_run
from tests.faults import hostile
from tests.faults.load import write_runs

TIMES = 5
LONG = {"events of 2,000": 1950, "iterations of 10,000": 10_000}  # name of a run -> its iterations

# Milliseconds from an action to the frame that shows what it brings.
PAINTED = """
async ([click, shown]) => {
  const found = () => [...document.querySelectorAll(shown)].some((e) => e.checkVisibility());
  const started = performance.now();
  if (click) document.querySelector(click).click();
  else window.app.extensionManager.sidebarTab.activeSidebarTabId = "mixgrpo";
  while (!found()) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - started;
}
"""
WEIGHT = """
() => performance.getEntriesByType("resource")
  .filter((each) => /mixgrpo.*\\.m?js/.test(each.name))
  .map((each) => each.decodedBodySize)
"""
CLOSE = "() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = null; }"
ROWS, CURVE, BACK = ".mixgrpo-row", ".mixgrpo-chart canvas", "[aria-label='All runs']"


def measure(place: Path, runs: int):
    with hostile.server(place, {}) as running:
        folder = running.output / "mixgrpo"
        write_runs(folder, runs)
        for name, iterations in LONG.items():
            write_run(running.output, re.sub(r"\W", "-", name), name, iterations, every=iterations // 39, created=1.8e9)
        log = running.log.read_text(encoding="utf-8", errors="replace")
        with open_comfyui(running.url, 1440, 900) as page:
            first = page.evaluate(PAINTED, [None, ROWS])
            again = []
            for _ in range(TIMES):
                page.evaluate(CLOSE)
                page.wait_for_function(f"() => !document.querySelector('{ROWS}')")
                again.append(page.evaluate(PAINTED, [None, ROWS]))
            count = runs + len(LONG)
            yield f"list of {count} runs: {first:.0f} ms the first time, then {statistics.median(again):.0f} ms."
            for name in LONG:
                row = f"[data-run='{re.sub(r'[^a-z0-9]', '-', name)}'] .mixgrpo-open"
                times = []
                for _ in range(TIMES):
                    times.append(page.evaluate(PAINTED, [row, CURVE]))
                    page.evaluate(PAINTED, [BACK, ROWS])
                yield f"run with {name}: {times[0]:.0f} ms the first time, then {statistics.median(times[1:]):.0f} ms."
            weight = page.evaluate(WEIGHT)
            yield f"modules: {len(weight)} files, {sum(weight) / 1024:.0f} kB."
        found = re.search(r"([\d.]+) seconds.*mixgrpo", log)
        yield f"import of the pack: {found[1] if found else '?'} s."
