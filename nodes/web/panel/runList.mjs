// All runs: search, filter, a row each, and which of them to compare.
import { toast } from "../comfy.mjs";
import { heldOutChange, inSweep, measuredChange, moment, rewardLine, shortId, stateLine, sweepLine } from "../format.mjs";
import { html, useEffect, useRef, useState } from "../html.mjs";
import { bySweep, isActive } from "../runs.mjs";
import { TITLES } from "../templates.mjs";
import { Sparkline } from "./sparkline.mjs";

/** @typedef {import("../api.mjs").Run} Run */

const PAGE = 50;
/** What was searched for, for when one comes back from a run. */
const kept = { query: "", state: "", limit: PAGE };
const FILTERS = {
  "": "all",
  "queued,waiting,running": "at work",
  finished: "finished",
  cancelled: "cancelled",
  "failed,dead,unreadable": "failed",
};

/**
 * @param {{runs: import("../runs.mjs").RunStore, routes: import("../api.mjs").RunsApi, onOpen: (id: string) => void, onCompare: (ids: string[]) => void}} props
 */
export function RunList({ runs, routes, onOpen, onCompare }) {
  const [query, setQuery] = useState(kept.query);
  const [state, setState] = useState(kept.state);
  const [limit, setLimit] = useState(kept.limit);
  Object.assign(kept, { query, state, limit });
  const [shown, setShown] = useState({ ids: /** @type {string[]} */ ([]), total: 0, asked: false });
  const [chosen, setChosen] = useState(/** @type {string[]} */ ([]));
  const newest = useRef(0);
  // What changes the list itself, and not only a row of it; a server that is back is asked again.
  const change = [runs.error, runs.active, ...runs.all().slice(0, 1).map((run) => run.run_id)].join();

  useEffect(() => {
    const number = ++newest.current;
    const timer = setTimeout(async () => {
      const page = await runs.page({ query, state, limit });
      if (!page || number !== newest.current) return; // what was shown stays
      const ids = page.runs.map((run) => run.run_id);
      setShown({ ids, total: page.total, asked: true });
    }, 200);
    return () => clearTimeout(timer);
  }, [query, state, limit, change]);

  const rows = /** @type {Run[]} */ (shown.ids.map((id) => runs.get(id)).filter(Boolean));
  const choose = (/** @type {string} */ id) =>
    setChosen(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);

  return html`
    <div class="mixgrpo-tools">
      <input
        class="mixgrpo-input"
        type="search"
        placeholder="Search"
        title="By name, id or note"
        aria-label="Search runs"
        value=${query}
        onInput=${(/** @type {any} */ event) => setQuery(event.target.value)}
      />
      <select
        class="mixgrpo-input"
        aria-label="Filter by state"
        value=${state}
        onChange=${(/** @type {any} */ event) => setState(event.target.value)}
      >
        ${Object.entries(FILTERS).map(([value, label]) => html`<option value=${value}>${label}</option>`)}
      </select>
      <button class="mixgrpo-button mixgrpo-compareButton" disabled=${chosen.length < 2} onClick=${() => onCompare(chosen)}>
        ${chosen.length > 1 ? `Compare ${chosen.length}` : "Compare"}
      </button>
    </div>
    <div class="mixgrpo-scroll">
      ${shown.asked && !rows.length && html`<${Nothing} filtered=${Boolean(query || state)} />`}
      <ul class="mixgrpo-rows">
        ${bySweep(rows).map((group) => [
          group[0].sweep && html`<${Sweep} key=${group[0].sweep.id} group=${group} runs=${runs} routes=${routes} />`,
          ...group.map(
            (run) => html`<${Row}
              key=${run.run_id}
              run=${run}
              routes=${routes}
              chosen=${chosen.includes(run.run_id)}
              onOpen=${onOpen}
              onChoose=${choose}
            />`,
          ),
        ])}
      </ul>
      ${shown.total > rows.length &&
      html`<button class="mixgrpo-button" onClick=${() => setLimit(limit + PAGE)}>
        Show more (${rows.length} of ${shown.total})
      </button>`}
    </div>
  `;
}

/** @param {{filtered: boolean}} props */
function Nothing({ filtered }) {
  if (filtered) return html`<p class="mixgrpo-hint">No run fits.</p>`;
  return html`
    <div class="mixgrpo-hint">
      <p>No runs yet.</p>
      <p>Open the template <b>${TITLES.shapes_alignment}</b> (Workflow, Browse Templates) and press Run.</p>
      <p>Everything that it learns is shown here, also after a reload or a restart.</p>
    </div>
  `;
}

/**
 * What stands above the runs of a sweep, and ends all of them.
 * @param {{group: Run[], runs: import("../runs.mjs").RunStore, routes: import("../api.mjs").RunsApi}} props
 */
function Sweep({ group, runs, routes }) {
  const [busy, setBusy] = useState(false);
  async function cancel() {
    setBusy(true);
    try {
      runs.take(await routes.cancelSweep(group[0].run_id));
    } catch (error) {
      toast("error", "Cancel all", /** @type {Error} */ (error).message);
    } finally {
      setBusy(false);
    }
  }
  return html`
    <li class="mixgrpo-sweep" data-sweep=${group[0].sweep?.id}>
      <span class="mixgrpo-grow">${sweepLine(group)}</span>
      ${group.some(isActive) &&
      html`<button class="mixgrpo-button" disabled=${busy} onClick=${cancel}>
        <i class="pi pi-times-circle" aria-hidden="true"></i> Cancel all
      </button>`}
    </li>
  `;
}

/**
 * @param {{run: Run, routes: import("../api.mjs").RunsApi, chosen: boolean, onOpen: (id: string) => void, onChoose: (id: string) => void}} props
 */
function Row({ run, routes, chosen, onOpen, onChoose }) {
  // Four lines, whatever is told: nothing may move under the mouse.
  const lines = [
    [inSweep(run), stateLine(run)].filter(Boolean).join(": "),
    rewardLine(run),
    [moment(run.created), shortId(run.run_id), run.note].filter(Boolean).join(" · "),
  ];
  return html`
    <li class=${`mixgrpo-row${run.sweep ? " mixgrpo-member" : ""}`} data-run=${run.run_id} data-state=${run.state}>
      <input
        type="checkbox"
        aria-label=${`Choose ${run.name} for a comparison`}
        checked=${chosen}
        onChange=${() => onChoose(run.run_id)}
      />
      <button class="mixgrpo-open" onClick=${() => onOpen(run.run_id)} title=${run.run_id}>
        <span class="mixgrpo-thumb">
          ${run.thumbnail &&
          html`<img src=${routes.viewUrl(run.thumbnail)} alt="" loading="lazy" decoding="async" />`}
        </span>
        <span class="mixgrpo-about">
          <span class="mixgrpo-name">
            <i class="mixgrpo-dot"></i><span class="mixgrpo-oneLine mixgrpo-grow" title=${run.name}>${run.name}</span>
            <${Sparkline} values=${run.sparkline?.values ?? []} />
          </span>
          ${lines.map(
            (line, place) => html`<span
              class="mixgrpo-small mixgrpo-oneLine"
              title=${place === 1 && heldOutChange(run) ? `${measuredChange(run)}: ${line}` : line}
            >${line || "\u00a0"}</span>`,
          )}
        </span>
      </button>
    </li>
  `;
}
