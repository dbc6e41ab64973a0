// Two or more runs side by side.
import { html } from "../html.mjs";

/** @param {{ids: string[], runs: import("../runs.mjs").RunStore, routes: import("../api.mjs").RunsApi, theme: number, onOpen: (id: string) => void}} props */
export function Compare({ ids }) {
  return html`<p>${ids.join(", ")}</p>`;
}
