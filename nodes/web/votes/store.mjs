// The one store of sets of votes: filled by GET, asked again when an event tells of a change.

/** @typedef {import("./api.mjs").Summary} Summary */

const LAST = "mixgrpo.votes"; // in the browser's own storage: the set that was used last

export class VoteStore {
  /** @param {import("./api.mjs").VotesApi} routes */
  constructor(routes) {
    this.routes = routes;
    /** @type {Summary[]} */
    this.sets = [];
    this.loaded = false;
    this.error = ""; // why the sets can't be asked for, in one sentence
    this.version = 0; // grows when a set may have changed
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    this.asking = false;
    this.again = false;
    this.active = ""; // ids of the runs at work
  }

  /** Runs at work that wait for an answer, or would like one. */
  get runs() {
    return [...new Set(this.sets.flatMap((set) => set.runs))];
  }

  get pending() {
    return this.sets.reduce((sum, set) => sum + set.pending, 0);
  }

  /** The set that was used last, a known one if there is any. */
  get lastUsed() {
    const last = localStorage.getItem(LAST);
    return last || (this.sets[0]?.name ?? "my-taste");
  }

  /** @param {string} name */
  use(name) {
    localStorage.setItem(LAST, name);
  }

  /** @param {() => void} listener @returns {() => void} ends it */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Asks for all sets; called meanwhile, once more after that. */
  async refresh() {
    this.again = true;
    if (this.asking) return;
    this.asking = true;
    while (this.again) {
      this.again = false;
      try {
        this.sets = (await this.routes.list()).sets;
        [this.loaded, this.error] = [true, ""];
      } catch (error) {
        this.error = `The votes can't be listed: ${/** @type {Error} */ (error).message}`;
      }
      this.version += 1;
      for (const listener of this.listeners) listener();
    }
    this.asking = false;
  }

  /** @param {string[]} active  the runs at work: which sheets they wait for changes with them */
  follow(active) {
    const now = [...active].sort().join();
    if (now === this.active) return;
    this.active = now;
    this.refresh();
  }
}
