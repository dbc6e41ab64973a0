// The images that are shown together: the first tap picks the best, the second the worst.
import { html, useState } from "../html.mjs";
import { Image } from "../panel/picture.mjs";
import { Viewer } from "../panel/viewer.mjs";

/**
 * @param {{
 *   ballot: import("./ballot.mjs").Ballot, sheet: import("./api.mjs").Sheet, routes: import("./api.mjs").VotesApi,
 *   runs: import("../runs.mjs").RunStore, act: (what: import("./picking.mjs").Meaning) => void,
 * }} props
 */
export function Sheet({ ballot, sheet, routes, runs, act }) {
  const [enlarged, setEnlarged] = useState(/** @type {number|null} */ (null));
  const { images } = sheet;
  const rows = Math.floor(Math.sqrt(images.length));
  const pictures = images.map(({ view }, number) => ({
    view, prompt: sheet.prompt, label: `image ${number + 1}`, scores: {}, changed: "",
  }));
  const asks = ballot.told?.runs.includes(sheet.source);
  return html`
    ${asks && html`<p class="mixgrpo-asks">${runs.get(sheet.source)?.name ?? sheet.source} asks for your vote.</p>`}
    <p class="mixgrpo-prompt" data-testid="mixgrpo-prompt">${sheet.prompt || "(no prompt)"}</p>
    <p class="mixgrpo-small" aria-live="polite">${question(ballot.picks.length, images.length)}</p>
    <div class="mixgrpo-sheet" style=${{ "--rows": rows, "--columns": Math.ceil(images.length / rows) }}>
      ${images.map(({ place }, number) => {
        const pick = ["best", "worst"][ballot.picks.indexOf(place)];
        return html`<figure class="mixgrpo-option" data-pick=${pick} key=${place}>
          <button
            class="mixgrpo-pick"
            aria-label=${`Image ${number + 1}${pick ? `, the ${pick}` : ""}`}
            aria-pressed=${Boolean(pick)}
            onClick=${() => act({ image: number })}
          >
            <${Image} picture=${pictures[number]} routes=${routes} />
          </button>
          <span class="mixgrpo-tag">${pick ?? number + 1}</span>
          <button class="mixgrpo-icon mixgrpo-zoom" title="Enlarge" aria-label=${`Enlarge image ${number + 1}`} onClick=${() => setEnlarged(number)}>
            <i class="pi pi-search-plus"></i>
          </button>
        </figure>`;
      })}
    </div>
    ${enlarged !== null &&
    html`<${Viewer}
      rows=${[{ prompt: sheet.prompt, pictures }]}
      start=${[0, enlarged]}
      routes=${routes}
      across="image"
      changes=${false}
      onClose=${() => setEnlarged(null)}
    />`}
  `;
}

/** @param {number} picks @param {number} count */
function question(picks, count) {
  if (count === 2) return "Which one is better?";
  return picks ? "Which one is the worst?" : "Which one is the best?";
}
