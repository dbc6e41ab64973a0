// A run's images: prompt by iteration, from the same seeds every time.
import { html } from "../html.mjs";

/** @param {{id: string, routes: import("../api.mjs").RunsApi, version: number}} props  version: grows when there may be new ones */
export function Gallery({ id }) {
  return html`<p>${id}</p>`;
}
