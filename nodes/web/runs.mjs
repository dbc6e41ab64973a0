// The one store of runs: filled by GET, kept up to date by events. Nodes and panel look at it and are told of changes.
import { RouteError, isRunId } from "./api.mjs";
import { POINTS, RunHistory } from "./history.mjs";

export const ACTIVE = ["queued", "waiting", "running"];
const PAGE = 50;
const KEPT_HISTORIES = 40;

/** @typedef {import("./api.mjs").Run} Run */

export class RunStore {
  /** @param {import("./api.mjs").RunsApi} routes */
  constructor(routes) {
    this.routes = routes;
    /** @type {Map<string, Run>} */
    this.known = new Map();
    /** @type {Map<string, RunHistory>} those that somebody has looked at */
    this.histories = new Map();
    /** @type {Map<string, any[]>} histories that are asked for -> what events have told since */
    this.loading = new Map();
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    /** @type {Set<(run: Run) => void>} */
    this.endListeners = new Set();
    this.active = 0; // how many are at work, those that aren't loaded included
    this.version = 0;
    this.refreshed = 0; // how often all was asked for: what failed while the server was away is worth another question
    this.error = ""; // why the runs can't be asked for, in one sentence
    this.told = false; // whether listeners will be told at the end of this turn
  }

  /** All known runs, newest first. */
  all() {
    return [...this.known.values()].sort((one, other) => (other.created ?? 0) - (one.created ?? 0));
  }

  /** @param {string} id */
  get(id) {
    return this.known.get(id);
  }

  /** @param {() => void} listener @returns {() => void} ends it */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @param {(run: Run) => void} listener  called once when a run that was at work has ended */
  onEnd(listener) {
    this.endListeners.add(listener);
    return () => this.endListeners.delete(listener);
  }

  /** Asks for the newest runs again, and for the histories that are shown. */
  async refresh() {
    this.refreshed += 1;
    await this.page({});
    for (const id of [...this.histories.keys()]) await this.load(id);
  }

  /**
   * Some runs as the list shows them, newest first; null where they can't be asked for, which `error` tells.
   * @param {{query?: string, state?: string, workflow?: string, limit?: number}} wanted
   * @returns {Promise<{runs: Run[], total: number, counts: Object<string, number>}|null>}
   */
  async page(wanted) {
    try {
      const answer = await this.routes.list({ limit: PAGE, ...wanted });
      for (const run of answer.runs) this.put(run);
      const counts = answer.counts ?? {};
      this.active = ACTIVE.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
      this.error = "";
      return { runs: answer.runs, total: answer.total ?? answer.runs.length, counts };
    } catch (error) {
      this.error = `The runs can't be listed: ${/** @type {Error} */ (error).message}`;
      return null;
    } finally {
      this.changed();
    }
  }

  /** A run's summary anew, also of one that isn't known yet. @param {string} id  may be a stranger's word */
  async look(id) {
    if (!isRunId(id)) throw new RouteError(`There is no run '${String(id).slice(0, 80)}'.`, 404);
    this.take(await this.routes.show(id));
  }

  /** A run's history, empty until it has come. @param {string} id @returns {RunHistory} */
  history(id) {
    let history = this.histories.get(id);
    if (!history) {
      history = new RunHistory();
      this.histories.set(id, history);
      if (this.histories.size > KEPT_HISTORIES) this.histories.delete(String(this.histories.keys().next().value));
      this.load(id);
    }
    return history;
  }

  /** Asks for a history; what events tell until the answer comes is added to it. @param {string} id */
  async load(id) {
    if (this.loading.has(id)) return;
    /** @type {any[]} */
    const meanwhile = [];
    this.loading.set(id, meanwhile);
    try {
      const told = await this.routes.history(id, { points: POINTS });
      const history = this.histories.get(id);
      history?.fill(told);
      history?.extend(meanwhile);
      this.changed();
    } catch (error) {
      // Deleted, or the server is away. The history stays, so that nobody's drawing asks for it again and again;
      // refresh() and the next event do.
      if (/** @type {any} */ (error).status === 404 && this.known.delete(id)) this.changed();
    } finally {
      this.loading.delete(id);
    }
  }

  /** @param {{run_id: string, events: any[], status: Run, more?: boolean}} message  of mixgrpo.progress */
  onProgress({ run_id, events, status, more }) {
    this.loading.get(run_id)?.push(...events);
    const history = this.histories.get(run_id);
    if (history?.loaded) history.extend(events);
    if (history && (!history.loaded || more || history.isLong)) this.load(run_id);
    this.take(status);
  }

  /** @param {string} id */
  onRemoved(id) {
    if (isActive(this.known.get(id))) this.active -= 1;
    this.known.delete(id);
    this.histories.delete(id);
    this.changed();
  }

  /** What a route or an event says of a run. @param {Run} run */
  take(run) {
    const before = this.known.get(run.run_id);
    if (before) this.active += Number(isActive(run)) - Number(isActive(before));
    else this.page({}); // how many are at work is known for the loaded ones only
    this.put(run);
    this.changed();
  }

  /** @param {Run} run */
  put(run) {
    const before = this.known.get(run.run_id);
    this.known.set(run.run_id, run);
    if (before && isActive(before) && !isActive(run)) for (const listener of this.endListeners) listener(run);
  }

  /** Tells the listeners once a turn. */
  changed() {
    this.version += 1;
    if (this.told) return;
    this.told = true;
    queueMicrotask(() => {
      this.told = false;
      for (const listener of this.listeners) listener();
    });
  }
}

/**
 * Runs as the list shows them: those of a sweep stand together, in their order, where the first of them is.
 * @param {Run[]} runs @returns {Run[][]}
 */
export function bySweep(runs) {
  /** @type {Map<string, Run[]>} */
  const groups = new Map();
  for (const run of runs) {
    const key = run.sweep ? `sweep ${run.sweep.id}` : run.run_id;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const place = (/** @type {Run} */ run) => run.sweep?.position ?? 0;
  return [...groups.values()].map((group) => group.sort((one, other) => place(one) - place(other)));
}

/** @param {Run|undefined} run */
export function isActive(run) {
  return run !== undefined && ACTIVE.includes(run.state);
}
