// The newest training group: what is compared with what, and what follows from it.
import { showVotes, toast, votes } from "../comfy.mjs";
import { change, number } from "../format.mjs";
import { html, useState } from "../html.mjs";
import { askName } from "../votes/setList.mjs";
import { useFetched } from "./fetched.mjs";
import { Scores, Thumb, signed } from "./picture.mjs";
import { Viewer } from "./viewer.mjs";

/**
 * @typedef {import("../api.mjs").GroupImage} GroupImage
 * @typedef {import("./imageTable.mjs").Row} Row
 * @typedef {import("./imageTable.mjs").Place} Place
 * @typedef {import("../api.mjs").Group & {loaded: HTMLImageElement[]}} Loaded
 */

/**
 * @param {{id: string, routes: import("../api.mjs").RunsApi, version: string}} props
 *   version: changes when there may be a new one
 */
export function Group({ id, routes, version }) {
  const [told, error] = useFetched(() => routes.group(id).then((group) => withImages(group, routes)), id, version);
  const [order, setOrder] = useState("advantage");
  // What somebody looks at stays, though the next group comes.
  const [opened, setOpened] = useState(/** @type {{group: Loaded, rows: Row[], start: Place}|null} */ (null));
  if (error && !told) return html`<p class="mixgrpo-error">${error}</p>`;
  if (!told) return html`<p class="mixgrpo-hint">Loading …</p>`;
  if (!told.images.length) {
    return html`<p class="mixgrpo-hint">No group yet: it comes with the first iteration of the training.</p>`;
  }
  const { iteration = 0, prompt = "", window } = told;
  const images = sorted(told.images, order);
  const largest = Math.max(...images.map((image) => Math.abs(image.advantage)));
  const pictures = images.map(({ view, rewards, advantage }) => {
    const label = `iteration ${iteration}, advantage ${change(advantage)}`;
    return { view, label, prompt, scores: rewards, changed: iteration };
  });
  return html`
    <section class="mixgrpo-group">
      <p>
        <b>Iteration ${iteration}</b>
        ${window && html`<span class="mixgrpo-small">${` ${trained(window)}`}</span>`}
      </p>
      <p class="mixgrpo-prompt">${prompt}</p>
      <p class="mixgrpo-small">${meaning(told.images)}</p>
      <p class="mixgrpo-small">${means(told.images)}</p>
      <div class="mixgrpo-tools">
        <button class="mixgrpo-button" title="Puts its images to the vote" onClick=${() => vote(id, told.iteration)}>
          <i class="pi pi-thumbs-up" aria-hidden="true"></i> Vote on this group
        </button>
        <select
          class="mixgrpo-input"
          aria-label="Order of the images"
          value=${order}
          onChange=${(/** @type {any} */ event) => setOrder(event.target.value)}
        >
          <option value="advantage">best first</option>
          <option value="sampled">as sampled</option>
        </select>
      </div>
      <div class="mixgrpo-grid">
        ${images.map(
          ({ rewards, advantage }, index) => html`<${Thumb}
            picture=${pictures[index]}
            routes=${routes}
            lazy=${false}
            onOpen=${() => setOpened({ group: told, rows: [{ prompt, pictures }], start: [0, index] })}
          >
            <${Bar} value=${advantage} largest=${largest} />
            <span class="mixgrpo-scorer">advantage</span>${" "}<b class=${signed(advantage)}>${change(advantage)}</b>
            <${Scores} scores=${rewards} />
          <//>`,
        )}
      </div>
    </section>
    ${opened &&
    html`<${Viewer}
      rows=${opened.rows}
      start=${opened.start}
      routes=${routes}
      across="image"
      changes=${false}
      onClose=${() => setOpened(null)}
    />`}
  `;
}

/**
 * A group once its images are here: until then the one before is shown, and not empty frames.
 * Whoever keeps it can show its images also when their files are gone.
 * @param {import("../api.mjs").Group} group @param {import("../api.mjs").RunsApi} routes @returns {Promise<Loaded>}
 */
async function withImages(group, routes) {
  const loaded = group.images.map(({ view }) => {
    const image = new window.Image();
    image.src = routes.viewUrl(view, group.iteration);
    return image;
  });
  await Promise.all(loaded.map((image) => image.decode().catch(() => {}))); // the frame says that it is missing
  return { ...group, loaded };
}

/** @param {string} id @param {number} [iteration]  of the group that is shown */
async function vote(id, iteration) {
  const name = await askName(votes.lastUsed);
  if (!name) return;
  try {
    const group = { run_id: id, iteration };
    await votes.routes.add(name, group);
    showVotes(name);
  } catch (error) {
    toast("error", "Vote on this group", /** @type {Error} */ (error).message);
  }
}

/** @param {[number, number]} window */
function trained([start, stop]) {
  return stop - start === 1 ? `trained step ${stop}` : `trained steps ${start + 1} to ${stop}`;
}

/** From the middle to the left (worse than the mean) or right. @param {{value: number, largest: number}} props */
function Bar({ value, largest }) {
  const share = largest ? (Math.abs(value) / largest) * 50 : 0;
  const left = value < 0 ? 50 - share : 50;
  return html`<span class="mixgrpo-advantage" aria-hidden="true">
    <i class=${signed(value)} style=${{ left: `${left}%`, width: `${share}%` }}></i>
  </span>`;
}

/** @param {GroupImage[]} images @param {string} order */
export function sorted(images, order) {
  return order === "advantage" ? [...images].sort((one, other) => other.advantage - one.advantage) : images;
}

/** What GRPO does with the group, in a sentence. @param {GroupImage[]} images */
export function meaning(images) {
  const better = images.filter((image) => image.advantage > 0).length;
  if (images.every((image) => Object.values(image.rewards ?? {}).every((value) => value === null))) {
    return `None of the ${images.length} images could be scored: GRPO learns nothing from this group.`;
  }
  if (images.every((image) => image.advantage === 0)) {
    return `All ${images.length} images got the same reward: GRPO learns nothing from this group.`;
  }
  return (
    `GRPO compares ${images.length} images of one prompt: what made ${better} of them better than the group's mean ` +
    "(advantage above 0) becomes more likely, what made the others worse becomes less likely."
  );
}

/** "Mean: text 0.412, taste 5.21". @param {GroupImage[]} images */
export function means(images) {
  const names = Object.keys(images[0]?.rewards ?? {});
  const shown = names.map((name) => {
    const known = images.map((image) => image.rewards[name]).filter((value) => typeof value === "number");
    return `${name} ${number(known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null)}`;
  });
  return shown.length ? `Mean: ${shown.join(", ")}` : "";
}
