// Puts images to the vote that are already there: the newest group of a run at work, or a folder.
import { toast } from "../comfy.mjs";
import { html, useState } from "../html.mjs";
import { isActive } from "../runs.mjs";

/**
 * @param {{
 *   name: string, open: boolean, routes: import("./api.mjs").VotesApi, runs: import("../runs.mjs").RunStore,
 *   onAdded: () => void,
 * }} props
 */
export function Add({ name, open, routes, runs, onAdded }) {
  const [run, setRun] = useState("");
  const [type, setType] = useState("output");
  const [subfolder, setSubfolder] = useState("");
  const [busy, setBusy] = useState(false);
  const active = runs.all().filter(isActive);
  const chosen = active.find((each) => each.run_id === run) ?? active[0];

  /** @param {Parameters<typeof routes.add>[1]} images */
  async function add(images) {
    setBusy(true);
    try {
      const { added = [] } = await routes.add(name, images);
      toast("success", `Votes: ${name}`, `${added.length} ${added.length === 1 ? "sheet" : "sheets"} to vote on.`);
      onAdded();
    } catch (error) {
      toast("error", `Votes: ${name}`, /** @type {Error} */ (error).message);
    } finally {
      setBusy(false);
    }
  }

  return html`
    <details class="mixgrpo-folded" open=${open}>
      <summary>Add images</summary>
      <div class="mixgrpo-tools">
        <span class="mixgrpo-small">Newest group of</span>
        <select
          class="mixgrpo-input"
          aria-label="A run at work"
          disabled=${!chosen}
          value=${chosen?.run_id ?? ""}
          onChange=${(/** @type {any} */ event) => setRun(event.target.value)}
        >
          ${!chosen && html`<option value="">no run is at work</option>`}
          ${active.map((each) => html`<option value=${each.run_id}>${each.name}</option>`)}
        </select>
        <button class="mixgrpo-button" disabled=${busy || !chosen} onClick=${() => chosen && add({ run_id: chosen.run_id })}>
          Add the group
        </button>
      </div>
      <form
        class="mixgrpo-tools"
        onSubmit=${(/** @type {Event} */ event) => {
          event.preventDefault();
          add({ type, subfolder: subfolder.trim() });
        }}
      >
        <select
          class="mixgrpo-input"
          aria-label="Which of ComfyUI's folders"
          value=${type}
          onChange=${(/** @type {any} */ event) => setType(event.target.value)}
        >
          <option>output</option>
          <option>input</option>
        </select>
        <input
          class="mixgrpo-input"
          placeholder="subfolder"
          aria-label="Subfolder"
          value=${subfolder}
          onInput=${(/** @type {any} */ event) => setSubfolder(event.target.value)}
        />
        <button class="mixgrpo-button" disabled=${busy}>Add the folder</button>
      </form>
    </details>
  `;
}
