// The frontend's own objects, and the pack's one store of runs that hangs on them.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { RunsApi } from "./api.mjs";
import { RunStore, isActive } from "./runs.mjs";
import { VotesApi } from "./votes/api.mjs";
import { VoteStore } from "./votes/store.mjs";

export { api, app };

/** @type {ConstructorParameters<typeof RunsApi>} */
const server = [(path, options) => api.fetchApi(path, options), (path) => api.apiURL(path)];
export const routes = new RunsApi(...server);
export const runs = new RunStore(routes);
export const votes = new VoteStore(new VotesApi(...server));

api.addEventListener("mixgrpo.progress", (event) => runs.onProgress(event.detail));
api.addEventListener("mixgrpo.removed", (event) => runs.onRemoved(event.detail.run_id));
api.addEventListener("mixgrpo.votes", () => votes.refresh());
// A server that was away, or started again, has told nothing meanwhile.
api.addEventListener("reconnected", () => Promise.all([runs.refresh(), votes.refresh()]));
// Which sheets a run waits for depends on which runs are at work.
runs.subscribe(() => votes.follow(runs.all().filter(isActive).map((run) => run.run_id)));

/** Opens the panel on a run, from wherever in the frontend. @param {string} runId */
export function showRun(runId) {
  window.dispatchEvent(new CustomEvent("mixgrpo:show-run", { detail: { runId } }));
}

/** Opens the panel on a set of votes. @param {string} name */
export function showVotes(name) {
  window.dispatchEvent(new CustomEvent("mixgrpo:show-votes", { detail: { name } }));
}

/** @param {"success"|"info"|"warn"|"error"} severity @param {string} summary @param {string} detail */
export function toast(severity, summary, detail = "", life = 6000) {
  app.extensionManager.toast.add({ severity, summary, detail, life });
}

/** @param {string} text  into the clipboard, or at least before one's eyes */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("success", "Copied", text, 2000);
  } catch {
    toast("info", "To be copied", text); // without https browsers keep the clipboard closed
  }
}
