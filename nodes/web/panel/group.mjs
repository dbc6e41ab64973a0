// The newest training group: what is compared with what, and what follows from it.
import { html } from "../html.mjs";

/** @param {{id: string, routes: import("../api.mjs").RunsApi, version: number}} props  version: grows when there may be a new one */
export function Group({ id }) {
  return html`<p>${id}</p>`;
}
