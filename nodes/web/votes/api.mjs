// The routes of votes as functions; docs/taste.md describes them.
import { Routes, at, withQuery } from "../api.mjs";

/**
 * @typedef {{
 *   name: string, votes: number, pending: number, skipped: number, damaged_lines: number, runs: string[], words: string,
 *   accuracy: {mean: number, low: number, high: number}|null
 * }} Summary  runs: those at work that wait for an answer, or would like one; words: how well the votes are understood
 * @typedef {{place: number, view: import("../api.mjs").View}} Shown  place: among all images of its sheet
 * @typedef {{id: string, prompt: string, source: string, time: number, images: Shown[]}} Sheet
 * @typedef {Summary & {next: Sheet[], can_undo: boolean, undone?: string, added?: string[]}} Told
 */

export class VotesApi extends Routes {
  root = "/mixgrpo/votes";

  /** @returns {Promise<{sets: Summary[]}>} */
  list() {
    return this.get("");
  }

  /** @param {string} name @param {boolean} pairs @returns {Promise<Told>} */
  show(name, pairs) {
    return this.get(inPairs(at(name), pairs));
  }

  /** @param {string} name @param {boolean} pairs @param {{sheet: string, order?: number[][], skip?: true}} answer */
  vote(name, pairs, answer) {
    return this.post(inPairs(`${at(name)}/vote`, pairs), answer);
  }

  /** @param {string} name @param {boolean} pairs */
  undo(name, pairs) {
    return this.post(inPairs(`${at(name)}/undo`, pairs));
  }

  /** @param {string} name @param {{run_id: string}|{type: string, subfolder: string}} images @returns {Promise<Told>} */
  add(name, images) {
    return this.post(`${at(name)}/add`, images);
  }

  /** @param {string} name */
  remove(name) {
    return this.request(at(name), { method: "DELETE" });
  }

  /** @param {string} name */
  zipUrl(name) {
    return this.apiUrl(`${this.root}${at(name)}/zip`);
  }
}

/** @param {string} path @param {boolean} pairs */
function inPairs(path, pairs) {
  return withQuery(path, { pairs: pairs ? 1 : "" });
}
