// Images as rows of prompts: what gallery, comparison and viewer show. No elements here.

/**
 * @typedef {import("../api.mjs").View} View
 * @typedef {Object<string, number|null>} Scores
 * @typedef {{view: View, label: string, prompt: string, seed?: string, scores: Scores, changed: string|number}} Picture
 *   label: what tells it from its neighbours; changed: as viewUrl wants it
 * @typedef {{prompt: string, pictures: (Picture|null)[]}} Row  one prompt, at least one image; null: thinned out
 * @typedef {[row: number, column: number]} Place
 */

/**
 * A row for each prompt and seed, a column for each iteration.
 * @param {import("../api.mjs").Samples[]} samples  oldest first
 * @returns {{iterations: number[], rows: Row[]}}
 */
export function rowsOf(samples) {
  const iterations = [...new Set(samples.map((each) => each.iteration))].sort((one, other) => one - other);
  /** @type {Map<string, Row>} */
  const rows = new Map();
  for (const { iteration, images } of samples) {
    const column = iterations.indexOf(iteration);
    for (const { view, prompt, seed, scores } of images) {
      const key = JSON.stringify([prompt, String(seed)]);
      const row = rows.get(key) ?? { prompt, pictures: iterations.map(() => null) };
      const label = iteration ? `iteration ${iteration}` : "before training";
      row.pictures[column] = { view, label, prompt, seed: String(seed), scores: scores ?? {}, changed: iteration };
      rows.set(key, row);
    }
  }
  return { iterations, rows: [...rows.values()] };
}

/**
 * The newest image that each run has of the prompts that all of them have, with the same seed where they share one.
 * @param {import("../api.mjs").Samples[][]} samplesOfRuns @param {string[]} names  of the runs
 * @returns {Row[]}
 */
export function sharedRows(samplesOfRuns, names) {
  const tables = samplesOfRuns.map((samples) => rowsOf(samples).rows.filter((row) => newest(row)));
  const [first = [], ...others] = tables;
  const seen = new Set();
  return first.flatMap((row) => {
    if (seen.has(row.prompt)) return [];
    seen.add(row.prompt);
    const seed = newest(row)?.seed;
    const found = others.map((rows) => {
      const same = rows.filter((other) => other.prompt === row.prompt);
      return same.find((other) => newest(other)?.seed === seed) ?? same[0];
    });
    if (found.includes(/** @type {any} */ (undefined))) return [];
    const pictures = [row, ...found].map((each, index) => {
      const picture = /** @type {Picture} */ (newest(each));
      return { ...picture, label: `${names[index]}, ${picture.label}` };
    });
    return [{ prompt: row.prompt, pictures }];
  });
}

/** @param {Row} row */
export function oldest(row) {
  return row.pictures.find((picture) => picture) ?? null;
}

/** @param {Row} row */
export function newest(row) {
  return row.pictures.findLast((picture) => picture) ?? null;
}

/**
 * The rows' numbers, those first whose newest image has the largest gain over their first one: a sum over scorers, each
 * by its largest change.
 * @param {Row[]} rows
 */
export function byChange(rows) {
  const changes = rows.map((row) => {
    const [before, after] = [oldest(row)?.scores ?? {}, newest(row)?.scores ?? {}];
    return Object.keys(after).map((name) => ({ name, value: (after[name] ?? NaN) - (before[name] ?? NaN) }));
  });
  /** @type {Object<string, number>} */
  const largest = {};
  for (const { name, value } of changes.flat()) largest[name] = Math.max(largest[name] ?? 0, Math.abs(value) || 0);
  const gains = changes.map((each) => each.reduce((sum, { name, value }) => sum + (value / largest[name] || 0), 0));
  return rows.map((_, index) => index).sort((one, other) => gains[other] - gains[one]);
}

/**
 * Where an arrow key leads: to the next image that is there; the same place at the edge.
 * @param {Row[]} rows @param {Place} place @param {number} down @param {number} right
 * @returns {Place}
 */
export function step(rows, [row, column], down, right) {
  if (right) {
    for (let next = column + right; next >= 0 && next < rows[row].pictures.length; next += right) {
      if (rows[row].pictures[next]) return [row, next];
    }
    return [row, column];
  }
  const target = rows[row + down];
  if (!target) return [row, column];
  const there = target.pictures.flatMap((picture, index) => (picture ? [index] : []));
  return [row + down, there.reduce((best, each) => (Math.abs(each - column) < Math.abs(best - column) ? each : best))];
}
