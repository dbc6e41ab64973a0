// Nodes 2.0 of older frontends shows three decimals and writes back what it shows: 0.0001 became 0 by a click.

const DIGITS = 12; // of the smallest bound, 1e-10, and two more

/** @param {any} node */
export function showExactly(node) {
  for (const { type, options } of node.widgets ?? []) {
    if (type === "number" && options.precision !== 0) {
      Object.assign(options, { minFractionDigits: 0, maxFractionDigits: DIGITS });
    }
  }
}
