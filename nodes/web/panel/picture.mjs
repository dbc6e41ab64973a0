// One image with what is known of it.
import { change, number } from "../format.mjs";
import { html } from "../html.mjs";

/**
 * @typedef {import("./imageTable.mjs").Picture} Picture
 * @typedef {import("../api.mjs").RunsApi} RunsApi
 */

const FEW_PIXELS = 128; // images of the tiny model: enlarged, they are clearer as squares than blurred

/** @param {{picture: Picture, routes: RunsApi, lazy?: boolean, name?: string}} props  name: a class */
export function Image({ picture, routes, lazy = false, name = "" }) {
  return html`<img
    class=${name}
    src=${routes.viewUrl(picture.view, picture.changed)}
    alt=${`${picture.prompt} (${picture.label})`}
    loading=${lazy ? "lazy" : "eager"}
    decoding="async"
    draggable=${false}
    onLoad=${(/** @type {any} */ { target }) => target.toggleAttribute("data-few", target.naturalWidth <= FEW_PIXELS)}
  />`;
}

/**
 * A line for each scorer, with the difference to another image.
 * @param {{scores: Picture["scores"], since?: Picture["scores"], names?: boolean}} props
 */
export function Scores({ scores, since = {}, names = true }) {
  return html`<ul class="mixgrpo-scores">
    ${Object.entries(scores).map(([name, value]) => {
      const before = since[name];
      const difference = typeof value === "number" && typeof before === "number" ? value - before : null;
      return html`<li title=${name}>
        ${names && html`<span class="mixgrpo-scorer">${name}</span>${" "}`}<b>${number(value)}</b>
        ${difference !== null && html`${" "}<span class=${signed(difference)}>${change(difference)}</span>`}
      </li>`;
    })}
  </ul>`;
}

const SMALL = 0.005; // a change that nobody sees

/** The class that colours a number by its sign, if it is large enough. @param {number} value */
export function signed(value) {
  if (Math.abs(value) < SMALL) return "";
  return value > 0 ? "mixgrpo-better" : "mixgrpo-worse";
}

/**
 * An image as a button that opens the viewer.
 * @param {{picture: Picture, routes: RunsApi, stop?: boolean, lazy?: boolean, onOpen: () => void, children?: any}} props
 *   stop: whether Tab stops here; lazy: fetched when it is near what is seen
 */
export function Thumb({ picture, routes, stop = true, lazy = true, onOpen, children }) {
  return html`<figure class="mixgrpo-figure">
    <button class="mixgrpo-enlarge" title="Enlarge" tabindex=${stop ? 0 : -1} onClick=${onOpen}>
      <${Image} picture=${picture} routes=${routes} lazy=${lazy} />
    </button>
    <figcaption class="mixgrpo-small">${children}</figcaption>
  </figure>`;
}
