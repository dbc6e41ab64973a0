// Two images over each other, parted by a line that is dragged, or moved with the arrow keys.
import { html, useState } from "../html.mjs";
import { Image } from "./picture.mjs";

/** @typedef {import("./imageTable.mjs").Picture} Picture */

/** @param {{before: Picture, after: Picture, routes: import("../api.mjs").RunsApi}} props */
export function Slider({ before, after, routes }) {
  const [share, setShare] = useState(50);
  return html`
    <div class="mixgrpo-slider" style=${{ "--share": `${share}%` }}>
      <${Image} picture=${after} routes=${routes} />
      <${Image} picture=${before} routes=${routes} name="mixgrpo-before" />
      <input
        type="range"
        min="0"
        max="100"
        value=${share}
        aria-label=${`Before and after: how much is shown of ${before.label}, over ${after.label}`}
        onInput=${(/** @type {any} */ event) => setShare(Number(event.target.value))}
      />
      <i class="mixgrpo-line"></i>
      <span class="mixgrpo-tag">${before.label}</span>
      <span class="mixgrpo-tag mixgrpo-right">${after.label}</span>
    </div>
  `;
}
