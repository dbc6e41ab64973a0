// One run: what it is doing, what can be done with it, and its curves, images, settings and log.
import { bestOf, bytes, doing, duration, heldOutChange, inSweep, measuredChange, moment, number, outcome, timeLeft } from "../format.mjs";
import { Boundary, html, useEffect, useRef, useState } from "../html.mjs";
import { isActive } from "../runs.mjs";
import { Actions } from "./actions.mjs";
import { Curves } from "./curves.mjs";
import { Gallery } from "./gallery.mjs";
import { Group } from "./group.mjs";
import { Log } from "./log.mjs";
import { Settings } from "./settings.mjs";

/** @typedef {import("../api.mjs").Run} Run */

const TABS = { curves: "Curves", images: "Images", group: "Newest group", settings: "Settings", log: "Log" };

/**
 * @param {{id: string, runs: import("../runs.mjs").RunStore, routes: import("../api.mjs").RunsApi, theme: number, onGone: () => void}} props
 */
export function RunView({ id, runs, routes, theme, onGone }) {
  const [tab, setTab] = useState("curves");
  const [missing, setMissing] = useState("");
  const seen = useRef(false);
  const run = runs.get(id);

  useEffect(() => {
    runs.look(id).catch((error) => setMissing(error.message));
  }, [id]);

  if (!run) return html`<p class="mixgrpo-hint">${missing || (seen.current ? "This run was deleted." : "Loading …")}</p>`;
  seen.current = true;
  const history = runs.history(id);
  return html`
    <div class="mixgrpo-scroll">
      <${Head} run=${run} history=${history} />
      <${Actions} run=${run} runs=${runs} routes=${routes} onGone=${onGone} />
      <nav class="mixgrpo-tabs" role="tablist">
        ${Object.entries(TABS).map(
          ([name, label]) => html`<button role="tab" aria-selected=${tab === name} onClick=${() => setTab(name)}>
            ${label}
          </button>`,
        )}
      </nav>
      <${Boundary} key=${tab}>
      ${tab === "curves" && html`<${Curves} run=${run} history=${history} routes=${routes} theme=${theme} />`}
      ${tab === "images" && html`<${Gallery}
        id=${id}
        routes=${routes}
        version=${`${history.samples} ${runs.refreshed}`}
        grid=${run.images.find((image) => image.filename !== "reward.png")}
      />`}
      ${tab === "group" && html`<${Group} id=${id} routes=${routes} version=${`${run.iteration ?? 0} ${runs.refreshed}`} />`}
      ${tab === "settings" && html`<${Settings} id=${id} routes=${routes} version=${`${run.iterations} ${runs.refreshed}`} />`}
      ${tab === "log" && html`<${Log} id=${id} history=${history} routes=${routes} active=${isActive(run)} />`}
      <//>
    </div>
  `;
}

/** @param {{run: Run, history: import("../history.mjs").RunHistory}} props */
function Head({ run, history }) {
  const [done, total] = progress(run);
  const active = isActive(run);
  const seconds = history.iterations["seconds.total"]?.at(-1);
  const told = run.state === "finished"; // by the outcome
  // While it is at work nothing may come or go: the buttons below would jump.
  const facts = [
    ["iteration", `${run.iteration || "–"} of ${run.iterations ?? "?"}`],
    ["left", active && (timeLeft(run) || "–")],
    [measuredChange(run), !told && (heldOutChange(run) || "–")],
    ["best", !told && (bestOf(run) || "–")],
    ["started", moment(run.created)],
    ["sweep", inSweep(run)],
  ];
  const costs = [
    ["an iteration", duration(seconds)],
    ["images a second", active && number(run.images_per_second)],
    ["memory", run.memory ? `${active ? `${bytes(run.memory.now)}, ` : ""}peak ${bytes(run.memory.peak)}` : "–"],
  ];
  const message = run.stage === "train" ? "" : run.message;
  return html`
    <section class="mixgrpo-head" data-state=${run.state}>
      <div class="mixgrpo-name"><i class="mixgrpo-dot"></i><b>${run.name}</b></div>
      ${run.note && html`<p class="mixgrpo-note">${run.note}</p>`}
      <p data-testid="mixgrpo-state">${active ? doing(run) : outcome(run)}</p>
      ${active && html`<p class="mixgrpo-small mixgrpo-oneLine" title=${message}>${message || "\u00a0"}</p>`}
      ${active && html`<progress value=${done} max=${total}></progress>`}
      ${history.failure?.traceback &&
      html`<details>
        <summary>What the worker said</summary>
        <pre class="mixgrpo-text">${history.failure.traceback}</pre>
      </details>`}
      <${Facts} facts=${facts} active=${active} />
      <details class="mixgrpo-costs">
        <summary>Speed and memory</summary>
        <${Facts} facts=${costs} active=${active} />
      </details>
    </section>
  `;
}

/** Those that are known; of a run at work all. @param {{facts: (string|false)[][], active: boolean}} props */
function Facts({ facts, active }) {
  return html`<dl class="mixgrpo-facts">
    ${facts
      .filter(([, value]) => value && (active || value !== "–"))
      .map(
        ([name, value]) => html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
      )}
  </dl>`;
}

/** Of the whole training, or of the stage before it. @param {Run} run @returns {[number, number]} */
function progress(run) {
  if (!run.iteration && run.phase && run.phase === run.stage) return [run.phase_done ?? 0, run.phase_total || 1];
  return [run.iteration ?? 0, run.iterations || 1];
}
