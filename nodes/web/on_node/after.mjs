// The frontend calls a node's or a widget's own functions when something happens to it; packs put theirs behind what is
// there.

/** @param {any} node  or widget @param {string} name @param {(...values: any[]) => void} action */
export function after(node, name, action) {
  const before = node[name];
  node[name] = function (/** @type {any[]} */ ...values) {
    const result = before?.apply(this, values);
    action.apply(this, values);
    return result;
  };
}
