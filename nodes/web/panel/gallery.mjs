// A run's images: prompt by iteration, from the same seeds every time.
import { html, useRef, useState } from "../html.mjs";
import { useEnd } from "./end.mjs";
import { useFetched } from "./fetched.mjs";
import { byChange, newest, oldest, rowsOf } from "./imageTable.mjs";
import { Scores, Thumb } from "./picture.mjs";
import { Slider } from "./slider.mjs";
import { Viewer } from "./viewer.mjs";

/**
 * @typedef {import("./imageTable.mjs").Row} Row
 * @typedef {import("./imageTable.mjs").Place} Place
 * @typedef {import("../api.mjs").RunsApi} RunsApi
 */

/**
 * @param {{id: string, routes: RunsApi, version: string, grid?: import("../api.mjs").View}} props
 *   version: changes when there may be new ones; grid: all newest images in one, for runs that keep no single ones
 */
export function Gallery({ id, routes, version, grid }) {
  const [told, error] = useFetched(() => routes.images(id), id, version);
  const [place, setPlace] = useState(/** @type {Place|null} */ (null));
  const [order, setOrder] = useState("drawn");
  const improved = useRef(/** @type {number[]} */ ([])); // rows, most improved first
  if (error && !told) return html`<p class="mixgrpo-error">${error}</p>`;
  if (!told) return html`<p class="mixgrpo-hint">Loading …</p>`;
  const { iterations, rows } = told.samples.length || !grid ? rowsOf(told.samples) : ofGrid(grid);
  if (!rows.length) {
    return html`<div class="mixgrpo-hint">
      <p>No images yet.</p>
      <p>The same prompts are drawn from the same seeds before training and every few iterations.</p>
    </div>`;
  }
  if (!place) improved.current = byChange(rows); // new images leave the viewer at its prompt
  const shown = order === "change" ? improved.current.flatMap((row) => rows[row] ?? []) : rows;
  return html`
    <div class="mixgrpo-gallery">
      ${iterations.length > 1 && html`<${BeforeAfter} iterations=${iterations} rows=${rows} routes=${routes} />`}
      <${Table}
        iterations=${iterations}
        rows=${shown}
        order=${order}
        onOrder=${setOrder}
        routes=${routes}
        onOpen=${setPlace}
      />
    </div>
    ${place &&
    html`<${Viewer} rows=${shown} start=${place} routes=${routes} onClose=${() => setPlace(null)} />`}
  `;
}

/** @param {import("../api.mjs").View} view */
function ofGrid(view) {
  const picture = { view, label: view.filename, prompt: "The newest samples", scores: {}, changed: view.filename };
  return { iterations: [0], rows: [{ prompt: picture.prompt, pictures: [picture] }] };
}

/** What training changed in one prompt. @param {{iterations: number[], rows: Row[], routes: RunsApi}} props */
function BeforeAfter({ iterations, rows, routes }) {
  const [chosen, setChosen] = useState(() => byChange(rows)[0]); // what was learned best
  const [at, setAt] = useState(/** @type {number|null} */ (null)); // an iteration; null follows the newest one
  const row = rows[chosen] ?? rows[0];
  const last = iterations.length - 1;
  const column = at === null ? last : Math.max(1, iterations.indexOf(at));
  const before = oldest(row);
  const after = newest({ ...row, pictures: row.pictures.slice(0, column + 1) });
  if (!before || !after) return null;
  return html`
    <section class="mixgrpo-beforeAfter" aria-label="Before and after">
      ${rows.length > 1 &&
      html`<select
        class="mixgrpo-input"
        aria-label="Prompt"
        value=${chosen}
        onChange=${(/** @type {any} */ event) => setChosen(Number(event.target.value))}
      >
        ${rows.map((each, index) => html`<option value=${index}>${each.prompt}</option>`)}
      </select>`}
      <${Slider} before=${before} after=${after} routes=${routes} />
      <div class="mixgrpo-tools">
        <input
          class="mixgrpo-grow"
          type="range"
          aria-label="Iteration that is compared with the first"
          min="1"
          max=${last}
          value=${column}
          onInput=${(/** @type {any} */ event) => {
            const value = Number(event.target.value);
            setAt(value >= last ? null : iterations[value]);
          }}
        />
        <span>${after.label}</span>
      </div>
      <${Scores} scores=${after.scores} since=${before === after ? {} : before.scores} />
    </section>
  `;
}

/**
 * A row of images for each prompt; the first one stays in sight.
 * @param {{
 *   iterations: number[], rows: Row[], order: string, onOrder: (order: string) => void, routes: RunsApi,
 *   onOpen: (place: Place) => void,
 * }} props
 */
function Table({ iterations, rows, order, onOrder, routes, onOpen }) {
  const [size, setSize] = useState(iterations.length > 1 ? "small" : "large");
  const { ref, onScroll } = useEnd("Left", `${iterations.length} ${size}`);
  const severalScorers = rows.some((row) => Object.keys(newest(row)?.scores ?? {}).length > 1);

  return html`
    <section class="mixgrpo-images" data-size=${size}>
      <div class="mixgrpo-tools">
        <span class="mixgrpo-small mixgrpo-grow">
          ${iterations.length > 1 && "The same prompts and seeds every time"}
        </span>
        ${iterations.length > 1 &&
        rows.length > 1 &&
        html`<select
          class="mixgrpo-input"
          aria-label="Order of the prompts"
          value=${order}
          onChange=${(/** @type {any} */ event) => onOrder(event.target.value)}
        >
          <option value="drawn">as drawn</option>
          <option value="change">most improved first</option>
        </select>`}
        <span class="mixgrpo-together">
          ${["small", "large"].map(
            (each) => html`<button class="mixgrpo-button" aria-pressed=${size === each} onClick=${() => setSize(each)}>
              ${each}
            </button>`,
          )}
        </span>
      </div>
      <div class="mixgrpo-strips" ref=${ref} onScroll=${onScroll}>
        ${rows.map((row, index) => {
          const [first, last] = [oldest(row), newest(row)];
          return html`<div class="mixgrpo-strip" role="group" aria-label=${row.prompt}>
            <p class="mixgrpo-prompt"><span title=${row.prompt}>${row.prompt}</span></p>
            ${row.pictures.map(
              (picture, column) => html`<div class="mixgrpo-cell" key=${iterations[column]}>
                ${picture &&
                html`<${Thumb}
                  picture=${picture}
                  routes=${routes}
                  stop=${picture === last}
                  onOpen=${() => onOpen([index, column])}
                >
                  ${picture.label}
                  <${Scores}
                    scores=${picture.scores}
                    since=${first && picture !== first ? first.scores : {}}
                    names=${severalScorers}
                  />
                <//>`}
              </div>`,
            )}
          </div>`;
        })}
      </div>
    </section>
  `;
}
