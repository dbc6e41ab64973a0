// What a run has told so far, in columns: filled by the history route, kept up to date by its events.

/** @typedef {Object<string, (number|null)[]>} Columns  all of one length */

export const POINTS = 1000;

export class RunHistory {
  constructor() {
    /** @type {Columns} */
    this.iterations = { iteration: [] };
    /** @type {Columns} */
    this.evaluations = { iteration: [] };
    /** @type {{iteration: number, score: number|null}|null} */
    this.best = null;
    /** @type {{iteration: number, time: number, message: string}[]} */
    this.notices = [];
    /** @type {{message: string, traceback: string}|null} */
    this.failure = null;
    this.samples = 0; // grows when there may be new images
    this.loaded = false;
  }

  /** @param {any} told  the route's answer */
  fill(told) {
    this.iterations = told.iterations?.iteration ? told.iterations : { iteration: [] };
    this.evaluations = told.evaluations?.iteration ? told.evaluations : { iteration: [] };
    this.best = told.best ?? null;
    this.notices = told.notices ?? [];
    this.failure = told.failure ?? null;
    this.samples += 1;
    this.loaded = true;
  }

  /** Whether so many rows have come since it was filled that it should be filled anew. */
  get isLong() {
    return this.iterations.iteration.length > 2 * POINTS;
  }

  /** @param {any} event  that the route may have told already */
  notice(event) {
    const known = this.notices.some(({ time, message }) => time === event.time && message === event.message);
    if (!known) this.notices.push(event);
  }

  /** @param {any[]} events  in their order; those that it holds already change nothing */
  extend(events) {
    for (const event of events) {
      if (event.type === "iteration") put(this.iterations, iterationRow(event));
      else if (event.type === "evaluation") put(this.evaluations, evaluationRow(event));
      else if (event.type === "best") this.best = event;
      else if (event.type === "notice") this.notice(event);
      else if (event.type === "stage") this.failure = null; // it goes on
      else if (event.type === "sample") this.samples += 1;
      else if (event.type === "failed") this.failure = event;
      }
  }
}

/** @param {any} event @returns {Object<string, number|null>} */
export function iterationRow(event) {
  const { window = [], memory = {} } = event;
  return {
    iteration: event.iteration,
    window_start: window[0],
    window_stop: window[1],
    ...prefixed("reward", event.reward),
    ...only(event, [
      "reward_std", "loss", "grad_norm", "ratio_deviation", "clip_fraction", "kl", "learning_rate", "forwards",
      "updates", "images", "time",
    ]),
    ...prefixed("seconds", event.seconds),
    ...prefixed("deviations", event.deviations),
    memory_now: memory.now,
    memory_peak: memory.peak,
  };
}

/** @param {any} event */
export function evaluationRow(event) {
  return {
    iteration: event.iteration,
    ...prefixed("reward", event.reward),
    ...prefixed("strict", event.strict),
    ...only(event, ["score", "change", "change_error"]),
  };
}

/**
 * Adds a row. A resumed run repeats the iterations since its checkpoint: the later row counts.
 * @param {Columns} columns @param {Object<string, number|null|undefined>} row
 */
export function put(columns, row) {
  const iteration = Number(row.iteration);
  while (Number(columns.iteration.at(-1) ?? -1) >= iteration) for (const values of Object.values(columns)) values.pop();
  const length = columns.iteration.length;
  for (const [name, value] of Object.entries(row)) {
    if (value === undefined) continue;
    columns[name] ??= new Array(length).fill(null);
    columns[name].push(value);
  }
  for (const values of Object.values(columns)) if (values.length === length) values.push(null);
}

/** @param {string} prefix @param {Object<string, number|null>} values */
function prefixed(prefix, values = {}) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value]));
}

/** @param {any} event @param {string[]} names */
function only(event, names) {
  return Object.fromEntries(names.map((name) => [name, event[name]]));
}
