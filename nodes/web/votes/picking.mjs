// From keys and taps to a vote: the first pick is the best image, the second the worst.

/** @typedef {"skip"|"undo"|"pairs"|"enter"|"tie"|{image: number}} Meaning  image: the how-manieth that is shown, from 0 */

const LETTERS = /** @type {Object<string, Meaning>} */ ({ s: "skip", z: "undo", p: "pairs", enter: "enter" });
const OF_PAIRS = /** @type {Object<string, Meaning>} */ ({
  0: "tie", arrowleft: { image: 0 }, arrowright: { image: 1 }, arrowup: { image: 0 }, arrowdown: { image: 1 },
});

/**
 * What a key means, null if nothing.
 * @param {string} key @param {number} count  images that are shown @param {boolean} pairs  whether they are a pair
 * @returns {Meaning|null}
 */
export function meaning(key, count, pairs) {
  const number = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (number) return number <= count ? { image: number - 1 } : null;
  return LETTERS[key.toLowerCase()] ?? (pairs ? OF_PAIRS[key.toLowerCase()] : null) ?? null;
}

/** The picks after one more; the same image again takes it back. @param {number[]} picks @param {number} place */
export function picked(picks, place) {
  return picks.includes(place) ? picks.filter((other) => other !== place) : [...picks, place].slice(0, 2);
}

/** Whether nothing is left to pick. @param {number[]} picks @param {number[]} places  all that are shown */
export function isComplete(picks, places) {
  return picks.length === Math.min(2, places.length - 1);
}

/**
 * The vote as the route wants it: places in tiers, the best tier first. Best 2, worst 1 of four: [[2], [0, 3], [1]].
 * @param {number[]} picks  at least the best @param {number[]} places  all that are shown @returns {number[][]}
 */
export function orderOf(picks, places) {
  const [best, worst] = picks;
  const rest = places.filter((place) => !picks.includes(place));
  return [[best], rest, worst === undefined ? [] : [worst]].filter((tier) => tier.length);
}
