// Numbers are shown and kept as they are. The frontends show as many decimals as the step has and round to it: 0.00025
// became 0.0003, and with Nodes 2.0 of older ones a click into 0.0001 made 0 of it.

const DIGITS = 12; // of the smallest bound, 1e-10, and two more

/** @param {any} node */
export function showExactly(node) {
  for (const widget of node.widgets ?? []) {
    if (widget.type === "number" && widget.options.precision !== 0) exactly(widget);
  }
}

/** @param {any} widget */
function exactly(widget) {
  const { options, callback } = widget;
  const { precision = 0, min = -Infinity, max = Infinity } = options;
  Object.assign(options, { minFractionDigits: 0, maxFractionDigits: DIGITS });
  Object.defineProperty(options, "precision", {
    configurable: true,
    enumerable: true,
    get: () => Math.max(precision, decimals(widget.value)),
  });
  widget.callback = function (/** @type {number} */ value, /** @type {any[]} */ ...others) {
    // Steps add up to 0.30000000000000004.
    const exact = Math.min(max, Math.max(min, Number(Number(value).toPrecision(DIGITS))));
    const result = callback?.call(this, exact, ...others);
    widget.value = exact; // it was rounded
    return result;
  };
}

/** @param {number} value */
function decimals(value) {
  const [, fraction = ""] = Number(value).toFixed(DIGITS).replace(/0+$/, "").split(".");
  return fraction.length;
}
