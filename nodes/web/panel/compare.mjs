// Two or more runs side by side: what came out, their curves over each other, what differs, and the same prompts.
import { Chart, color, smooth } from "../charts.mjs";
import { bestOf, doing, heldOutChange, measuredChange, shortId } from "../format.mjs";
import { html, useState } from "../html.mjs";
import { SMOOTHING, rewardNames } from "./curves.mjs";
import { differences } from "./differences.mjs";
import { detailsOf, useFetched } from "./fetched.mjs";
import { sharedRows } from "./imageTable.mjs";
import { Scores, Thumb } from "./picture.mjs";
import { shown } from "./settings.mjs";
import { Viewer } from "./viewer.mjs";

/**
 * @typedef {import("../api.mjs").Run} Run
 * @typedef {import("../api.mjs").RunsApi} RunsApi
 * @typedef {{id: string, run: Run, history: import("../history.mjs").RunHistory}} Compared
 */

/**
 * @param {{
 *   ids: string[], runs: import("../runs.mjs").RunStore, routes: RunsApi, theme: number, onOpen: (id: string) => void
 * }} props
 */
export function Compare({ ids, runs, routes, theme, onOpen }) {
  // Anew when one is deleted or goes on longer, and when the server is back.
  const version = [runs.refreshed, ...ids.map((id) => runs.get(id)?.iterations)].join();
  const [details, error] = useFetched(() => detailsOf(ids, routes), ids.join(), version);
  if (error && !details) return html`<p class="mixgrpo-error">${error}</p>`;
  if (!details) return html`<p class="mixgrpo-hint">Loading …</p>`;
  if (!details.length) return html`<p class="mixgrpo-hint">These runs were deleted.</p>`;
  const compared = toldApart(
    details.map((each) => ({ id: each.run_id, run: runs.get(each.run_id) ?? each, history: runs.history(each.run_id) })),
  );
  return html`
    <div class="mixgrpo-scroll mixgrpo-compare">
      <${Outcomes} compared=${compared} onOpen=${onOpen} />
      <${RewardCurves} compared=${compared} theme=${theme} />
      ${new Set(details.map(({ config }) => config?.run?.seed)).size > 1 &&
      html`<p class="mixgrpo-small">
        These runs have different seeds, and so other noises for their held-out images: even the same model starts at
        another height. Compare how much each curve rises, not how high it lies.
      </p>`}
      <${Differences} compared=${compared} details=${details} />
      <${SamePrompts} compared=${compared} routes=${routes} refreshed=${runs.refreshed} />
    </div>
  `;
}

/** A run's name in its colour. @param {{index: number, run: Run}} props */
function Name({ index, run }) {
  return html`<span class="mixgrpo-run"><i style=${{ background: color(index) }}></i>${run.name}</span>`;
}

/** Runs of one name get the ends of their ids beside it. @param {Compared[]} compared @returns {Compared[]} */
export function toldApart(compared) {
  return compared.map((each) => {
    const isShared = compared.some(({ id, run }) => id !== each.id && run.name === each.run.name);
    const name = isShared ? `${each.run.name} (${shortId(each.id)})` : each.run.name;
    return { ...each, run: { ...each.run, name } };
  });
}

/** @param {{compared: Compared[], onOpen: (id: string) => void}} props */
function Outcomes({ compared, onOpen }) {
  const facts = Object.entries({
    state: doing,
    iterations: (/** @type {Run} */ run) => `${run.iteration ?? 0} of ${run.iterations ?? "?"}`,
    ...changes(compared),
    best: (/** @type {Run} */ run) => bestOf(run) || "–",
  });
  return html`<${Table}
    title="run"
    heads=${compared.map(
      ({ id, run }, index) => html`<button class="mixgrpo-link" title=${`Open ${id}`} onClick=${() => onOpen(id)}>
        <${Name} index=${index} run=${run} />
      </button>`,
    )}
    rows=${facts.map(([name, told]) => [name, ...compared.map(({ run }) => told(run))])}
  />`;
}

/** What evaluations tell: a row for each kind of prompts that they score. @param {Compared[]} compared */
export function changes(compared) {
  const kinds = new Set(compared.map(({ run }) => measuredChange(run)));
  const told = (/** @type {string} */ kind) => (/** @type {Run} */ run) =>
    (measuredChange(run) === kind && heldOutChange(run)) || "–";
  return Object.fromEntries([...kinds].map((kind) => [kind, told(kind)]));
}

/** A column for each run. @param {{title: string, heads: any[], rows: any[][]}} props */
function Table({ title, heads, rows }) {
  return html`<div class="mixgrpo-wideTable" style=${{ "--runs": heads.length }}>
    <table class="mixgrpo-table" aria-label=${title}>
      <thead>
        <tr><th>${title}</th>${heads.map((head) => html`<th>${head}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}
      </tbody>
    </table>
  </div>`;
}

/** @param {{compared: Compared[], theme: number}} props */
function RewardCurves({ compared, theme }) {
  const [chosen, setChosen] = useState("");
  const names = scorersOf(compared);
  const scorer = names.includes(chosen) ? chosen : names[0];
  if (!scorer) return html`<p class="mixgrpo-hint">No iteration is finished yet.</p>`;
  return html`
    <div class="mixgrpo-tools">
      <b class="mixgrpo-grow">Reward</b>
      ${names.length > 1 &&
      html`<select
        class="mixgrpo-input"
        aria-label="Scorer"
        value=${scorer}
        onChange=${(/** @type {any} */ event) => setChosen(event.target.value)}
      >
        ${names.map((name) => html`<option value=${name}>${name}</option>`)}
      </select>`}
    </div>
    <${Chart}
      title=${`Reward of ${scorer} over iterations`}
      tables=${compared.flatMap(({ run, history }, index) => tablesOf(run, history, scorer, color(index)))}
      height=${220}
      theme=${theme}
    />
  `;
}

/** All scorers, first those that most runs have. @param {{history: Compared["history"]}[]} compared */
export function scorersOf(compared) {
  const each = compared.flatMap(({ history: { iterations, evaluations } }) => [
    ...new Set([...rewardNames(iterations), ...rewardNames(evaluations)]),
  ]);
  const times = (/** @type {string} */ name) => each.filter((other) => other === name).length;
  return [...new Set(each)].sort((one, other) => times(other) - times(one));
}

/** @param {Run} run @param {Compared["history"]} history @param {string} scorer @param {string} stroke */
export function tablesOf(run, { iterations, evaluations }, scorer, stroke) {
  const [trained, heldOut] = [iterations[`reward.${scorer}`], evaluations[`reward.${scorer}`]];
  const label = `${run.name}: ${scorer}`;
  const where = run.held_out_prompts === 0 ? "measured" : "held out";
  return [
    { x: iterations.iteration, series: trained ? [{ label, values: smooth(trained, SMOOTHING), color: stroke }] : [] },
    {
      x: evaluations.iteration,
      series: heldOut ? [{ label: `${label}, ${where}`, values: heldOut, color: stroke, points: true }] : [],
    },
  ];
}

/** @param {{compared: Compared[], details: any[]}} props */
function Differences({ compared, details }) {
  const counted = details.map(({ config, prompts }) => ({
    ...config,
    prompts: prompts?.total,
  }));
  const rows = differences(counted);
  if (!rows.length) return html`<p>Their settings are the same.</p>`;
  return html`<${Table}
    title="setting"
    heads=${compared.map(({ run }, index) => html`<${Name} index=${index} run=${run} />`)}
    rows=${rows.map(({ setting, values }) => [
      breakable(setting),
      ...values.map((value) => (value === undefined ? "–" : shown(value))),
    ])}
  />`;
}

/** A long name may go on in the next line after its dots. @param {string} setting */
function breakable(setting) {
  return setting.split(".").map((part, index) => (index ? html`.<wbr />${part}` : part));
}

/** @param {{compared: Compared[], routes: RunsApi, refreshed: number}} props */
function SamePrompts({ compared, routes, refreshed }) {
  const [place, setPlace] = useState(/** @type {import("./imageTable.mjs").Place|null} */ (null));
  const ids = compared.map(({ id }) => id);
  const version = compared.reduce((sum, { history }) => sum + history.samples, refreshed);
  const [told, error] = useFetched(() => Promise.all(ids.map((id) => routes.images(id))), ids.join(), version);
  if (error && !told) return html`<p class="mixgrpo-error">${error}</p>`;
  if (!told) return html`<p class="mixgrpo-hint">Loading …</p>`;
  const names = compared.map(({ run }) => run.name);
  const rows = sharedRows(told.map(({ samples }) => samples), names);
  if (!rows.length) return html`<p class="mixgrpo-hint">There is no prompt of which all these runs have an image.</p>`;
  return html`
    <p><b>The same prompts</b> <span class="mixgrpo-small">the newest image of each run; another seed of Train means other noise</span></p>
    <div class="mixgrpo-prompts" style=${{ "--runs": compared.length }}>
      ${rows.map(
        (row, index) => html`<div class="mixgrpo-same" role="group" aria-label=${row.prompt} key=${row.prompt}>
          <p class="mixgrpo-prompt">${row.prompt}</p>
          <div class="mixgrpo-columns">
            ${row.pictures.map(
              (picture, column) =>
                picture &&
                html`<${Thumb} picture=${picture} routes=${routes} onOpen=${() => setPlace([index, column])}>
                  <${Name} index=${column} run=${compared[column].run} />
                  <div>${picture.changed ? `iteration ${picture.changed}` : "before training"}</div>
                  <${Scores} scores=${picture.scores} />
                <//>`,
            )}
          </div>
        </div>`,
      )}
    </div>
    ${place &&
    html`<${Viewer}
      rows=${rows}
      start=${place}
      routes=${routes}
      across="run"
      changes=${false}
      onClose=${() => setPlace(null)}
    />`}
  `;
}
