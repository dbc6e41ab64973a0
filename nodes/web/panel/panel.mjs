// The panel as a whole: which of its views is shown, and how wide.
import { app, routes, runs, votes } from "../comfy.mjs";
import { html, render, useEffect, useLayoutEffect, useState } from "../html.mjs";
import { isActive } from "../runs.mjs";
import { Votes } from "../votes/votes.mjs";
import { Compare } from "./compare.mjs";
import { RunList } from "./runList.mjs";
import { RunView } from "./runView.mjs";

/** @typedef {{kind: "list"}|{kind: "run", id: string}|{kind: "compare", ids: string[]}|{kind: "votes", name: string}} View */

const BUSY_MS = 10_000;
const NARROW = 200; // pixels: a side bar of which nothing can be read, on a small screen

/** @type {(runId: string) => void} */
let showRun = () => {};
/** @type {(runId: string) => void} */
let leaveRunFor = () => {};
let touched = -Infinity; // when somebody has done something in the panel, in ms
/** @type {(name: string) => void} */
let showSet = () => {};
/** @type {() => void} */
let drawAgain = () => {};
/** @type {() => void} */
let widen = () => {};
/** @type {HTMLElement} */
let root;

/** Fills the panel's element, once. @param {HTMLElement} element */
export function mount(element) {
  root = element;
  for (const name of ["./panel.css", "./gallery.css", "../votes/votes.css", "../vendor/uPlot.css"]) {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL(name, import.meta.url).href });
    document.head.append(link);
  }
  for (const name of ["pointerdown", "keydown", "wheel"]) {
    // Before all others: the viewer keeps its keys to itself.
    const touch = (/** @type {Event} */ { target }) => {
      if (element.contains(/** @type {Node} */ (target))) touched = performance.now();
    };
    window.addEventListener(name, touch, { capture: true, passive: true });
  }
  render(html`<${Panel} />`, element);
}

/** What has changed while the panel was closed is drawn when it is back on the page. */
export function cameBack() {
  drawAgain();
  widen();
}

/** @param {string} runId */
export function show(runId) {
  showRun(runId);
}

/**
 * Goes on from the run that is shown to one that was queued here just now, unless somebody is looking at something in it.
 * @param {string} runId
 */
export async function follow(runId) {
  await runs.look(runId).catch(() => {}); // deleted meanwhile
  if (isActive(runs.get(runId)) && performance.now() - touched > BUSY_MS) leaveRunFor(runId);
}

/** @param {string} name  of a set of votes, "" for the list of them */
export function showVotes(name) {
  showSet(name);
}

function Panel() {
  const [view, setView] = useState(/** @type {View} */ ({ kind: "list" }));
  const [wide, setWide] = useState(false);
  const theme = useTheme();
  useStore();
  showRun = (id) => setView({ kind: "run", id });
  leaveRunFor = (id) => view.kind === "run" && showRun(id);
  showSet = (name) => setView({ kind: "votes", name });
  const toList = () => setView({ kind: "list" });
  const back = view.kind === "votes" ? { label: "All votes", to: () => showSet("") } : { label: "All runs", to: toList };
  const isPage = view.kind === "list" || (view.kind === "votes" && !view.name);

  widen = () => requestAnimationFrame(() => root.clientWidth > 0 && root.clientWidth < NARROW && setWide(true));
  useEffect(() => widen(), []);

  // At once: what follows its size (end.mjs) sees the new place and the new size together.
  useLayoutEffect(() => {
    if (!wide) return;
    // Inside the side bar the canvas's own controls would lie above it.
    const home = root.parentElement;
    document.body.append(root);
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && !document.querySelector(".p-dialog, [role='dialog']")) setWide(false);
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
      home?.append(root);
    };
  }, [wide]);

  return html`
    <div class=${`mixgrpo-panel${wide ? " mixgrpo-wide" : ""}`} data-testid="mixgrpo-panel">
      <header class="mixgrpo-bar">
        ${isPage
          ? html`<nav class="mixgrpo-pages" role="tablist" aria-label="MixGRPO">
              <button role="tab" aria-selected=${view.kind === "list"} onClick=${toList}>Runs</button>
              <button role="tab" aria-selected=${view.kind === "votes"} onClick=${() => showSet("")}>
                Votes${votes.pending ? ` (${votes.pending})` : ""}
              </button>
            </nav>`
          : html`<button class="mixgrpo-icon" title=${back.label} aria-label=${back.label} onClick=${back.to}>
                <i class="pi pi-arrow-left"></i>
              </button>
              <b>${view.kind === "votes" ? `Votes: ${view.name}` : view.kind === "compare" ? "Comparison" : "Run"}</b>`}
        <span class="mixgrpo-space"></span>
        <button
          class="mixgrpo-icon mixgrpo-wideButton"
          title=${wide ? "Back into the side bar (Escape)" : "Full screen"}
          aria-label=${wide ? "Back into the side bar" : "Full screen"}
          onClick=${() => setWide(!wide)}
        >
          <i class=${`pi ${wide ? "pi-window-minimize" : "pi-window-maximize"}`}></i>
        </button>
      </header>
      ${runs.error && html`<p class="mixgrpo-error">${runs.error}</p>`}
      ${view.kind === "list" &&
      html`<${RunList}
        runs=${runs}
        routes=${routes}
        onOpen=${showRun}
        onCompare=${(/** @type {string[]} */ ids) => setView({ kind: "compare", ids })}
      />`}
      ${view.kind === "run" &&
      html`<${RunView} key=${view.id} id=${view.id} runs=${runs} routes=${routes} theme=${theme} onGone=${toList} />`}
      ${view.kind === "compare" &&
      html`<${Compare} ids=${view.ids} runs=${runs} routes=${routes} theme=${theme} onOpen=${showRun} />`}
      ${view.kind === "votes" &&
      html`<${Votes} name=${view.name} votes=${votes} runs=${runs} wide=${wide} onOpen=${showSet} />`}
    </div>
  `;
}

/** Renders again when the store has changed. */
function useStore() {
  const [, setVersion] = useState(0);
  useEffect(() => {
    drawAgain = () => root.isConnected && setVersion(runs.version + votes.version);
    const ends = [runs.subscribe(drawAgain), votes.subscribe(drawAgain)];
    return () => ends.forEach((end) => end());
  }, []);
}

/** A number that grows when the frontend's colours change: canvases read them again. */
function useTheme() {
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const changed = () => requestAnimationFrame(() => setTheme((before) => before + 1));
    app.ui.settings.addEventListener("Comfy.ColorPalette.change", changed);
    return () => app.ui.settings.removeEventListener("Comfy.ColorPalette.change", changed);
  }, []);
  return theme;
}
