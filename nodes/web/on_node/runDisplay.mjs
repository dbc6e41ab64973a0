// A node's run, inside the node: a small curve, the newest sample, a line of state, at the end the outcome in words.
import { app, copy, routes, showRun as openPanel } from "../comfy.mjs";
import { inSweep, outcome, rewardLine, stateLine } from "../format.mjs";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "../html.mjs";
import { isActive } from "../runs.mjs";
import { sparkline } from "../sparkline.mjs";
import { after } from "./after.mjs";
import { fit } from "./folding.mjs";
import { isLeft, outputsKey } from "./place.mjs";
import { runOfNode } from "./runOfNode.mjs";

const HEIGHT = 120;
const MARGIN = 10; // the frontend's own, above and below

const link = document.createElement("link");
link.rel = "stylesheet";
link.href = new URL("./runDisplay.css", import.meta.url).href;
document.head.append(link);

/** @param {any} node @param {import("../runs.mjs").RunStore} runs */
export function showRun(node, runs) {
  const element = document.createElement("div");
  element.className = "mixgrpo-on-node";
  // A fixed height: nothing may grow over the nodes below.
  const height = () => HEIGHT + 2 * MARGIN;
  const options = { serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: height };
  const widget = node.addDOMWidget("run_display", "mixgrpo_run", element, options);
  widget.serialize = false; // neither the workflow nor the prompt holds it
  // An element above the canvas keeps the wheel to itself, and has nothing to scroll.
  element.addEventListener("wheel", (event) => app.canvas.processMouseWheel(event));
  fit(node);
  const end = () => render(null, element);
  // Not before: a copy in the clipboard never comes into a graph, nor goes.
  after(node, "onAdded", () => render(html`<${RunDisplay} node=${node} runs=${runs} onLeft=${end} />`, element));
  after(node, "onRemoved", end);
  // Which run it is depends on the node's place in the graph.
  for (const name of ["onAdded", "onConfigure", "onConnectionsChange"]) after(node, name, () => runs.changed());
  after(node, "onExecuted", () => {
    // The pictures stay in the answer for scripts; a preview of them would grow the node.
    const key = outputsKey(node);
    const { images, ...others } = app.nodeOutputs[key] ?? {};
    if (images) app.nodeOutputs = { ...app.nodeOutputs, [key]: others };
  });
}

/** @param {{node: any, runs: import("../runs.mjs").RunStore, onLeft: () => void}} props  onLeft: ends it */
function RunDisplay({ node, runs, onLeft }) {
  const [, draw] = useState(0);
  const changed = () => (isLeft(node) ? onLeft() : draw((count) => count + 1));
  useLayoutEffect(() => runs.subscribe(changed), []); // at once: nothing is missed
  const id = runOfNode(node);
  const run = id && runs.get(id);
  if (!run) return html`<p class="mixgrpo-words">Press Run: what it learns is shown here.</p>`;
  const state = [stateLine(run), run.detached && "in the background", rewardLine(run)];
  const told = isActive(run) ? state.filter(Boolean).join(", ") : outcome(run);
  const words = run.sweep ? `${inSweep(run)}: ${told}` : told;
  return html`
    <div class="mixgrpo-pictures">
      <${Curve} key=${id} run=${run} runs=${runs} />
      ${run.thumbnail && html`<img src=${routes.viewUrl(run.thumbnail)} alt="newest sample" />`}
    </div>
    <p class="mixgrpo-words" data-state=${run.state} title=${run.message || words}>${words.split("\n")[0]}</p>
    <p class="mixgrpo-id">
      <button title="Show this run in the panel" onClick=${() => openPanel(id)}>${id}</button>
      <button class="pi pi-copy" title="Copy the run's id" onClick=${() => copy(id)}></button>
    </p>
  `;
}

/**
 * The mean of the trained rewards, and over it that of the held-out prompts.
 * @param {{run: import("../api.mjs").Run, runs: import("../runs.mjs").RunStore}} props
 */
function Curve({ run, runs }) {
  const canvas = useRef(/** @type {HTMLCanvasElement|null} */ (null));
  const [history] = useState(() => runs.history(run.run_id));
  const values = run.sparkline?.values ?? [];
  const names = Object.keys(run.reward ?? {}).map((name) => `reward.${name}`);
  const paint = () => {
    if (canvas.current) sparkline(canvas.current, values, points(history, names));
  };
  const painting = useRef(paint);
  painting.current = paint;
  useEffect(paint);
  useEffect(() => {
    // Collapsed, or on another tab, the size is 0 x 0, and sparkline() leaves what is there.
    const observer = new ResizeObserver(() => painting.current());
    observer.observe(/** @type {HTMLCanvasElement} */ (canvas.current));
    return () => observer.disconnect();
  }, []);
  return html`<canvas ref=${canvas}></canvas>`;
}

/** @param {import("../history.mjs").RunHistory} history @param {string[]} names  of columns */
function points(history, names) {
  const { iteration, ...columns } = history.evaluations;
  const last = history.iterations.iteration.at(-1) || 1;
  return iteration.flatMap((at, row) => {
    const known = names.flatMap((name) => columns[name]?.[row] ?? []);
    const value = known.reduce((sum, each) => sum + each, 0) / known.length;
    return known.length ? [{ x: Math.min(1, Number(at) / last), value }] : [];
  });
}
