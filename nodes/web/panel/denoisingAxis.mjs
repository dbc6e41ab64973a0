// The denoising axis: noise levels true to scale, the trained window (SDE) and the rest (ODE), moving over iterations.
// Where no step is random, all of it is ODE, and the window holds the levels that finished images are noised to.
import { number } from "../format.mjs";
import { html, useEffect, useState } from "../html.mjs";

/** @typedef {{sigmas: number[], flash_ratio?: number, random?: boolean, windows: {start: number, stop: number, sigmas: number[]}[]}} Schedule */

/** @param {{id: string, history: import("../history.mjs").RunHistory, routes: import("../api.mjs").RunsApi}} props */
export function DenoisingAxis({ id, history, routes }) {
  const [schedule, setSchedule] = useState(/** @type {Schedule|null} */ (null));
  const [at, setAt] = useState(/** @type {number|null} */ (null)); // a row; null follows the newest one
  const { iteration, window_start: starts, window_stop: stops } = history.iterations;
  // A run that goes on longer comes to windows that it hadn't planned before.
  const newest = starts ? `${starts.at(-1)} ${stops.at(-1)}` : "";
  const known = schedule?.windows.some((each) => `${each.start} ${each.stop}` === newest);

  useEffect(() => {
    if (newest && !known) routes.schedule(id).then(setSchedule, () => {}); // asked again at the next window
  }, [id, newest]);

  if (!schedule?.sigmas.length || !starts) return null; // runs of older versions haven't told theirs
  const row = Math.min(at ?? iteration.length - 1, iteration.length - 1);
  const [start, stop] = [Number(starts[row]), Number(stops[row])];
  const sigmas = schedule.windows.find((each) => each.start === start && each.stop === stop)?.sigmas ?? schedule.sigmas;
  return html`
    <details class="mixgrpo-folded">
      <summary>Denoising axis: which steps are trained</summary>
      <${Axis} sigmas=${sigmas} start=${start} stop=${stop} />
      <label class="mixgrpo-small mixgrpo-tools">
        iteration ${iteration[row]}
        <input
          class="mixgrpo-grow"
          type="range"
          aria-label="Iteration whose window is shown"
          min="0"
          max=${Math.max(0, iteration.length - 1)}
          value=${row}
          onInput=${(/** @type {any} */ event) => {
            const value = Number(event.target.value);
            setAt(value >= iteration.length - 1 ? null : value);
          }}
        />
      </label>
      <p class="mixgrpo-small">
        <span class="mixgrpo-sde">■</span>${" "}
        ${schedule.random === false ? "trained on images noised again to" : "SDE, the trained window:"} ${steps(start, stop)}
        ${" "}<span class="mixgrpo-ode">■</span>${" "}
        ${schedule.random === false ? "ODE, all steps" : `ODE, ${sigmas.length - 1 - (stop - start)} steps`}
        ${schedule.flash_ratio !== undefined && schedule.flash_ratio < 1 ? `, re-spaced after the window (Flash)` : ""}
      </p>
    </details>
  `;
}

/** From noise (the highest sigma) to the image (0). @param {{sigmas: number[], start: number, stop: number}} props */
function Axis({ sigmas, start, stop }) {
  const highest = Math.max(...sigmas);
  const place = (/** @type {number} */ sigma) => 100 * (1 - sigma / highest);
  const isTrained = (/** @type {number} */ step) => step >= start && step < stop;
  return html`
    <svg
      class="mixgrpo-axis"
      viewBox="0 0 100 30"
      preserveAspectRatio="none"
      role="img"
      aria-label=${`Window: ${steps(start, stop)}`}
    >
      ${sigmas.slice(0, -1).map(
        (sigma, step) => html`<rect
          class=${isTrained(step) ? "mixgrpo-sde" : "mixgrpo-ode"}
          x=${place(sigma)}
          y=${isTrained(step) ? 4 : 11}
          width=${place(sigmas[step + 1]) - place(sigma)}
          height=${isTrained(step) ? 22 : 8}
        >
          <title>step ${step + 1}: sigma ${number(sigma)} to ${number(sigmas[step + 1])}</title>
        </rect>`,
      )}
      ${sigmas.map((sigma) => html`<line class="mixgrpo-tick" x1=${place(sigma)} x2=${place(sigma)} y1="1" y2="29" />`)}
    </svg>
    <div class="mixgrpo-small mixgrpo-scale">
      ${[1, 0.75, 0.5, 0.25, 0].map((part) => html`<span>${Number((part * highest).toFixed(3))}</span>`)}
    </div>
  `;
}

/** A window's steps, counted from 1. @param {number} start @param {number} stop  one past the last */
function steps(start, stop) {
  return stop - start === 1 ? `step ${stop}` : `steps ${start + 1} to ${stop}`;
}
