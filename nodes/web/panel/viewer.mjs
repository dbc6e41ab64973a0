// Images over the whole screen: arrow keys go through iterations and prompts, Escape closes.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.mjs";
import { oldest, step } from "./imageTable.mjs";
import { Image, Scores } from "./picture.mjs";
import { Slider } from "./slider.mjs";

/** @typedef {import("./imageTable.mjs").Place} Place */

const ARROWS = /** @type {Object<string, [number, number]>} */ ({
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
});

/**
 * @param {{
 *   rows: import("./imageTable.mjs").Row[], start: Place, routes: import("../api.mjs").RunsApi, onClose: () => void,
 *   across?: string, changes?: boolean,
 * }} props
 *   start: the image that is shown first; across: what left and right lead to; changes: whether the first image of a
 *   row is what the others came from
 */
export function Viewer({ rows, start, routes, across = "iteration", changes = true, onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement|null} */ (null));
  const [place, setPlace] = useState(start);
  const [parted, setParted] = useState(false);
  const picture = rows[place[0]]?.pictures[place[1]] ?? null;
  const first = rows[place[0]] && oldest(rows[place[0]]);
  const since = changes && first !== picture ? first : null;
  const move = (/** @type {string} */ key) => setPlace((before) => step(rows, before, ...ARROWS[key]));

  // A modal dialog stands above everything, keeps the focus, and gives it back.
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);

  // At once: who opens it may press a key before the browser has painted.
  useLayoutEffect(() => {
    // Before all others: neither the panel's Escape nor the frontend's own key bindings are meant here.
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      event.stopPropagation();
      if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's
      const sliding = event.target instanceof HTMLInputElement && event.key in ARROWS && !event.key.match(/Up|Down/);
      if (event.key === "Escape") onClose();
      else if (event.key in ARROWS && !sliding) move(event.key);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey, true);
    return () => window.removeEventListener("keydown", onKey, true);
  });

  useEffect(() => {
    if (!picture) onClose(); // it was deleted meanwhile
  }, [picture]);
  if (!picture) return html`<dialog ref=${dialog}></dialog>`;

  /** @param {string} name @param {string} icon @param {string} label */
  const arrow = (name, icon, label) => {
    const target = step(rows, place, ...ARROWS[name]);
    return html`<button
      class=${`mixgrpo-arrow mixgrpo-${name}`}
      title=${label}
      aria-label=${label}
      disabled=${String(target) === String(place)}
      onClick=${() => move(name)}
    >
      <i class=${`pi ${icon}`}></i>
    </button>`;
  };

  return html`
    <dialog
      class="mixgrpo-viewer"
      tabindex="-1"
      autofocus
      aria-label="Image"
      data-testid="mixgrpo-viewer"
      ref=${dialog}
      onCancel=${onClose}
    >
      <header>
        <p class="mixgrpo-prompt">${picture.prompt}</p>
        ${since &&
        html`<button class="mixgrpo-button" aria-pressed=${parted} onClick=${() => setParted(!parted)}>
          <i class="pi pi-arrows-h"></i> Before/after
        </button>`}
        <button class="mixgrpo-icon" title="Close (Escape)" aria-label="Close" onClick=${onClose}>
          <i class="pi pi-times"></i>
        </button>
      </header>
      <div class="mixgrpo-stage">
        ${since && parted
          ? html`<${Slider} before=${since} after=${picture} routes=${routes} />`
          : html`<${Image} picture=${picture} routes=${routes} />`}
      </div>
      ${arrow("ArrowLeft", "pi-chevron-left", `Previous ${across}`)}
      ${arrow("ArrowRight", "pi-chevron-right", `Next ${across}`)}
      <footer aria-live="polite">
        ${rows.length > 1 && arrow("ArrowUp", "pi-chevron-up", "Previous prompt")}
        <div>
          <b>${picture.label}</b>${picture.seed && html`<span class="mixgrpo-small"> seed ${picture.seed}</span>`}
          <${Scores} scores=${picture.scores} since=${since?.scores} />
        </div>
        ${rows.length > 1 && arrow("ArrowDown", "pi-chevron-down", "Next prompt")}
      </footer>
    </dialog>
  `;
}
