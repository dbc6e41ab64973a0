// A run's settings, and where they differ from the nearest preset.
import { html } from "../html.mjs";
import { useFetched } from "./fetched.mjs";

/** @param {{id: string, routes: import("../api.mjs").RunsApi, version: string}} props  version: changes when they may have */
export function Settings({ id, routes, version }) {
  const [told, error] = useFetched(() => routes.show(id), id, version);
  if (!told) return html`<p class="mixgrpo-hint">${error || "Loading …"}</p>`;
  const { preset, changed = [] } = told.preset_differences ?? {};
  return html`
    ${preset &&
    html`<p>
      ${changed.length
        ? `Custom: nearest to the preset ${preset}, but for ${changed.length} setting${changed.length > 1 ? "s" : ""}:`
        : `The settings of the preset ${preset}.`}
    </p>`}
    ${changed.length > 0 &&
    html`<table class="mixgrpo-table">
      <thead><tr><th>setting</th><th>here</th><th>preset</th></tr></thead>
      <tbody>
        ${changed.map(
          (/** @type {any} */ each) => html`<tr>
            <td>${each.setting}</td><td>${shown(each.value)}</td><td>${shown(each.preset)}</td>
          </tr>`,
        )}
      </tbody>
    </table>`}
    ${Object.entries(told.config ?? {}).map(
      ([group, values]) => html`<details class="mixgrpo-folded">
        <summary>${group}</summary>
        <table class="mixgrpo-table">
          <tbody>
            ${Object.entries(/** @type {object} */ (values)).map(
              ([name, value]) => html`<tr><td>${name}</td><td>${shown(value)}</td></tr>`,
            )}
          </tbody>
        </table>
      </details>`,
    )}
    <${Prompts} prompts=${told.prompts} />
    <p class="mixgrpo-small">${versions(told.versions)}</p>
    <p class="mixgrpo-small">${told.folder}</p>
  `;
}

const SHOWN = 200;

/** @param {{prompts: import("../api.mjs").Prompts}} props */
function Prompts({ prompts }) {
  /** @type {[string, "train"|"held_out"][]} */
  const kinds = [["training prompts", "train"], ["held-out prompts", "held_out"]];
  return kinds.map(([title, kind]) => {
    const all = prompts.total[kind];
    const shown = prompts[kind].slice(0, SHOWN);
    return all > 0 && html`<details class="mixgrpo-folded">
      <summary>${all} ${title}</summary>
      <ol class="mixgrpo-small">
        ${shown.map((prompt) => html`<li>${prompt}</li>`)}
      </ol>
      ${all > shown.length && html`<p class="mixgrpo-small">and ${all - shown.length} more</p>`}
    </details>`;
  });
}

/** @param {any} value */
export function shown(value) {
  if (value === "") return "(empty)";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {Object<string, string>|undefined} told */
function versions(told) {
  return Object.entries(told ?? {})
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
}
