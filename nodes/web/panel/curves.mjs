// A run's curves over its iterations.
import { Chart, color, smooth } from "../charts.mjs";
import { html, useState } from "../html.mjs";
import { DenoisingAxis } from "./denoisingAxis.mjs";

/** @typedef {import("../charts.mjs").Series} Series */
/** @typedef {import("../history.mjs").RunHistory} RunHistory */

/** By default: a mean over about ten points. Single iterations have other prompts each, which is more noise than gain. */
export const SMOOTHING = 0.9;

/** What stands below the reward, folded: title -> its columns with their labels. */
const MORE = {
  "Spread inside a group": { reward_std: "standard deviation" },
  "Ratio deviation": { ratio_deviation: "mean |ratio − 1|, last update" },
  "Clip fraction": { clip_fraction: "share of ratios clipped" },
  "Gradient norm": { grad_norm: "norm before clipping" },
  "KL": { kl: "KL to the base model" },
  "Learning rate": { learning_rate: "learning rate" },
  "Loss": { loss: "loss" },
  "Seconds by part": {
    "seconds.rollout": "rollout",
    "seconds.score": "score",
    "seconds.update": "update",
    "seconds.total": "all",
  },
  "Memory": { memory_now: "GB now", memory_peak: "GB peak" },
};
const SCALE = /** @type {Object<string, number>} */ ({ memory_now: 1e-9, memory_peak: 1e-9 });

/**
 * @param {{run: import("../api.mjs").Run, history: RunHistory, routes: import("../api.mjs").RunsApi, theme: number}} props
 */
export function Curves({ run, history, routes, theme }) {
  const [smoothing, setSmoothing] = useState(SMOOTHING);
  const [log, setLog] = useState(false);
  const { iterations, evaluations } = history;
  if (!iterations.iteration.length && !evaluations.iteration.length) {
    return html`<p class="mixgrpo-hint">${history.loaded ? "No iteration is finished yet." : "Loading …"}</p>`;
  }
  const marks = history.best ? [{ x: history.best.iteration, label: "best" }] : [];
  return html`
    <div class="mixgrpo-tools">
      <label class="mixgrpo-small" title="Each point of a curve becomes a mean over it and those before">
        smooth over ${Math.round(1 / (1 - smoothing)) === 1 ? "1 point" : `about ${Math.round(1 / (1 - smoothing))} points`}
        <input
          type="range"
          aria-label="smoothing"
          min="0"
          max="0.98"
          step="0.02"
          value=${smoothing}
          onInput=${(/** @type {any} */ event) => setSmoothing(Number(event.target.value))}
        />
      </label>
      <label class="mixgrpo-small">
        <input type="checkbox" checked=${log} onChange=${(/** @type {any} */ event) => setLog(event.target.checked)} />
        logarithmic
      </label>
      <span class="mixgrpo-small">
        drag to zoom, double click for all${log ? "; values at or below 0 can't be drawn" : ""}
      </span>
    </div>
    <${Chart}
      title="Reward over iterations"
      tables=${rewardTables(history, smoothing, run.held_out_prompts !== 0)}
      height=${220}
      log=${log}
      marks=${marks}
      theme=${theme}
    />
    <${DenoisingAxis} id=${run.run_id} history=${history} routes=${routes} />
    ${Object.entries(MORE).map(([title, columns]) => {
      const passes = "ratio_deviation" in columns ? passColumns(iterations) : {};
      const series = seriesOf(iterations, { ...columns, ...passes }, smoothing);
      if (!series.length) return null;
      return html`<${Folded} key=${title} title=${title}>
        <${Chart} title=${title} tables=${[{ x: iterations.iteration, series }]} height=${150} log=${log} theme=${theme} />
      <//>`;
    })}
  `;
}

/**
 * The trained rewards (faint as they are, and smoothed), and the measured ones.
 * @param {RunHistory} history @param {number} smoothing @param {boolean} heldOutPrompts  whether those are measured, not the training's
 */
export function rewardTables({ iterations, evaluations }, smoothing, heldOutPrompts) {
  const trainedNames = rewardNames(iterations);
  const names = [...new Set([...trainedNames, ...rewardNames(evaluations)])].sort();
  const shown = (/** @type {string} */ name) => color(names.indexOf(name));
  const trained = trainedNames.flatMap((name) => {
    const values = iterations[`reward.${name}`];
    if (!smoothing) return [{ label: name, values, color: shown(name) }];
    /** @type {Series[]} */
    const series = [{ label: `${name}, smooth`, values: smooth(values, smoothing), color: shown(name) }];
    return [...series, { label: `${name}, each iteration`, values, color: shown(name), faint: true }];
  });
  // Before the first iteration nobody knows which of them are trained.
  const isTrained = (/** @type {string} */ name) => trainedNames.includes(name) || !trainedNames.length;
  const where = heldOutPrompts ? "held out" : "measured";
  const heldOut = rewardNames(evaluations).map((name) => ({
    label: `${name}, ${isTrained(name) ? where : "only watched"}`,
    values: evaluations[`reward.${name}`],
    color: shown(name),
    points: true,
  }));
  return [
    { x: /** @type {number[]} */ (iterations.iteration), series: trained },
    { x: /** @type {number[]} */ (evaluations.iteration), series: heldOut },
  ];
}

/** @param {import("../history.mjs").Columns} columns */
export function rewardNames(columns) {
  return Object.keys(columns)
    .filter((name) => name.startsWith("reward."))
    .map((name) => name.slice("reward.".length));
}

/** Of runs with several epochs. @param {import("../history.mjs").Columns} columns */
function passColumns(columns) {
  const names = Object.keys(columns).filter((name) => name.startsWith("deviations."));
  return Object.fromEntries(names.map((name) => [name, `in pass ${name.slice("deviations.".length)}`]));
}

/**
 * @param {import("../history.mjs").Columns} columns @param {Object<string, string>} wanted @param {number} smoothing
 * @returns {Series[]}
 */
function seriesOf(columns, wanted, smoothing) {
  return Object.entries(wanted)
    .filter(([name]) => columns[name]?.some((value) => value !== null))
    .map(([name, label], index) => {
      const scaled = SCALE[name] ? columns[name].map((value) => value && value * SCALE[name]) : columns[name];
      return { label, values: smooth(scaled, smoothing), color: color(index) };
    });
}

/** Draws what it holds only while it is open. @param {{title: string, children?: any}} props */
function Folded({ title, children }) {
  const [open, setOpen] = useState(false);
  return html`
    <details class="mixgrpo-folded" open=${open} onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}>
      <summary>${title}</summary>
      ${open && children}
    </details>
  `;
}
