// What can be done with a run. Which actions would work now is the server's word.
import { Button } from "../button.mjs";
import { app, copy, showRun, toast } from "../comfy.mjs";
import { html, useState } from "../html.mjs";
import { isActive } from "../runs.mjs";
import { told } from "./answers.mjs";
import { insertLora, openWorkflow } from "./canvas.mjs";

/** @typedef {import("../api.mjs").Run} Run */

/**
 * @param {{run: Run, runs: import("../runs.mjs").RunStore, routes: import("../api.mjs").RunsApi, onGone: () => void}} props
 */
export function Actions({ run, runs, routes, onGone }) {
  const [busy, setBusy] = useState("");
  const [chosen, setChosen] = useState("");
  const { dialog } = app.extensionManager;
  const can = (/** @type {string} */ action) => !busy && Boolean(run.actions?.includes(action));

  /** @param {string} what @param {() => Promise<any>} work */
  async function during(what, work) {
    setBusy(what);
    try {
      await work();
    } catch (error) {
      toast("error", `${run.name}: ${what}`, /** @type {Error} */ (error).message);
    } finally {
      setBusy("");
    }
  }

  /** @param {"cancel"|"resume"|"save"|"continue"|"restart"|"about"} action @param {object} [body] */
  const act = (action, body) =>
    during(action, async () => {
      const answer = await routes.act(run.run_id, action, body);
      const isNew = answer.run_id !== run.run_id;
      // Where a training was asked for, the answer's note is about that, and not the run's own.
      runs.take(answer.action ? { ...answer, note: isNew ? "" : run.note } : answer);
      const words = told(action, isNew, answer);
      if (words.length) toast("info", ...words);
      if (isNew) showRun(answer.run_id);
    });

  async function goOnLonger() {
    const text = await dialog.prompt({
      title: "Continue longer",
      message: "How many iterations in all?",
      defaultValue: String(2 * (run.iterations ?? 100)),
    });
    if (text === null) return;
    const iterations = Number(text);
    if (Number.isInteger(iterations) && iterations > (run.iterations ?? 0)) await act("continue", { iterations });
    else toast("warn", "Continue longer", `Write a whole number above ${run.iterations}.`);
  }

  async function rename() {
    const name = await dialog.prompt({ title: "Rename", message: "The run's name", defaultValue: run.name });
    if (name?.trim()) await act("about", { name: name.trim() });
  }

  async function note() {
    const text = await dialog.prompt({ title: "Note", message: "What to remember of it", defaultValue: run.note ?? "" });
    if (text !== null) await act("about", { note: text.trim() });
  }

  async function remove() {
    const sure = await dialog.confirm({
      title: `Delete ${run.name}?`,
      message: "Its curves, images, checkpoints and its LoRAs are deleted from the disk.",
      type: "delete",
      itemList: [run.run_id, ...loras.map((file) => file.filename)],
    });
    if (!sure) return;
    await during("delete", async () => {
      await routes.remove(run.run_id, true);
      runs.onRemoved(run.run_id);
      onGone();
    });
  }

  const view = (/** @type {string} */ name) => run.files.find((file) => file.filename === name);
  const loras = run.files.filter((file) => file.filename.endsWith(".safetensors"));
  const lora = loras.find((file) => file.filename === chosen) ?? loras[0];
  const curve = run.images.find((image) => image.filename === "reward.png");
  const log = view("events.jsonl");

  return html`
    <div class="mixgrpo-actions" data-testid="mixgrpo-actions">
      <${Button}
        icon="pi-bolt"
        label="Use this LoRA"
        primary=${Boolean(lora) && run.state === "finished"}
        on=${Boolean(lora) && !busy}
        title=${lora ? "Puts a LoRA loader before the selected node, a KSampler for one, or behind the selected model; one that has a LoRA of this run is changed" : "No LoRA of it is saved yet"}
        onClick=${() => during("use this LoRA", () => insertLora(run, lora))}
      />
      <select
        class="mixgrpo-input"
        aria-label="Which of the run's LoRAs"
        disabled=${loras.length < 2}
        value=${lora?.filename ?? ""}
        onChange=${(/** @type {any} */ event) => setChosen(event.target.value)}
      >
        ${lora ? null : html`<option value="">${isActive(run) ? "none yet" : "none"}</option>`}
        ${loras.map(({ filename }) => html`<option value=${filename}>${whichLora(run, filename)}</option>`)}
      </select>
      <${Button} icon="pi-save" label="Save LoRA now" on=${can("save")} onClick=${() => act("save")} />
      ${isActive(run) &&
      html`<${Button}
        icon="pi-times-circle"
        label=${run.cancelling ? "Stopping …" : "Cancel"}
        on=${can("cancel") && !run.cancelling}
        onClick=${() => act("cancel")}
      />`}
      ${isActive(run) && run.sweep &&
      html`<${Button}
        icon="pi-times-circle"
        label="Cancel the sweep"
        on=${!busy}
        onClick=${() => during("cancel the sweep", async () => runs.take(await routes.cancelSweep(run.run_id)))}
      />`}
      ${can("resume") && html`<${Button} icon="pi-play" label="Resume" primary on onClick=${() => act("resume")} />`}
      ${can("continue") && html`<${Button} icon="pi-forward" label="Continue longer" on onClick=${goOnLonger} />`}
      <${Button}
        icon="pi-sitemap"
        label="Open workflow"
        on=${!busy}
        onClick=${() => during("open workflow", () => openWorkflow(run, routes))}
      />
      <details class="mixgrpo-more">
        <summary>More</summary>
        <div class="mixgrpo-actions">
          <${Button} icon="pi-refresh" label="Restart" on=${can("restart")} onClick=${() => act("restart")} />
          <${Button} icon="pi-pencil" label="Rename" on=${!busy} onClick=${rename} />
          <${Button} icon="pi-comment" label="Note" on=${!busy} onClick=${note} />
          <${Button} icon="pi-copy" label="Copy id" on onClick=${() => copy(run.run_id)} />
          <${Button} icon="pi-trash" label="Delete" on=${can("delete")} onClick=${remove} />
          <span class="mixgrpo-downloads">
            <i class="pi pi-download" aria-hidden="true"></i>
            ${lora && html`<${Download} label="LoRA" href=${routes.viewUrl(lora)} name=${lora.filename} />`}
            ${curve && html`<${Download} label="curve" href=${routes.viewUrl(curve, run.iteration)} name=${`${run.run_id}.png`} />`}
            ${log && html`<${Download} label="events" href=${routes.viewUrl(log, run.iteration)} name=${`${run.run_id}.jsonl`} />`}
            <${Download} label="report" href=${routes.reportUrl(run.run_id)} name=${`${run.run_id}.html`} />
          </span>
        </div>
      </details>
    </div>
  `;
}

/** @param {Run} run @param {string} filename */
function whichLora(run, filename) {
  const rest = filename.slice(run.run_id.length + 1).replace(/\.?safetensors$/, "");
  const known = (/** @type {string} */ name, /** @type {number|undefined} */ iteration) =>
    iteration === undefined ? name : `${name} (${iteration ? `iteration ${iteration}` : "before training"})`;
  if (rest === "best") return run.best?.lora ? known("best", run.best.iteration) : "best (an earlier one)";
  return rest ? `iteration ${Number(rest)}` : known("last", run.state === "finished" ? run.iteration : undefined);
}

/** @param {{label: string, href: string, name: string}} props */
function Download({ label, href, name }) {
  return html`<a href=${href} download=${name}>${label}</a>`;
}
