// What a beginner needs of a node is in front; its advanced settings fold, behind a button of ours where the frontend
// has none: everywhere but in Nodes 2.0 of newer ones.
//
// Only the widgets' `hidden` changes: values, their order and what is posted stay. Whether a node is unfolded is the
// frontend's own `showAdvanced`, which workflow files keep.
import { app } from "../comfy.mjs";
import { after } from "./after.mjs";

const BUTTON = "more settings";
const GAP = 4; // that follows each widget
const NOTHING = () => [0, -GAP];

/** @type {WeakMap<object, () => void>} node -> hides and shows its widgets */
const updates = new WeakMap();

/** @param {any} node */
export function fold(node) {
  const advanced = (node.widgets ?? []).filter((/** @type {any} */ widget) => widget.options.advanced);
  if (!advanced.length) return;
  const hidden = new Set();
  node.showAdvanced = false; // a file says then that it was saved since nodes fold
  const button = node.addWidget("button", BUTTON, null, toggle, { serialize: false });
  button.serialize = false; // neither the workflow nor the prompt holds it

  function toggle() {
    node.showAdvanced = !node.showAdvanced;
    update();
    node.graph?.change?.();
    setTimeout(() => app.canvas.setDirty(true, true)); // once the button isn't pressed any more
  }

  function update() {
    const native = foldsItself();
    const open = native || node.showAdvanced;
    let changed = false;
    for (const widget of advanced) {
      const hides = !open && !isLinked(node, widget);
      changed ||= hides !== hidden.has(widget);
      if (hides) hidden.add(widget);
      else hidden.delete(widget);
      hide(widget, hides);
      widget.advanced = native; // so that the node's height is right there, too
    }
    hide(button, native);
    button.label = node.showAdvanced ? "fewer settings" : BUTTON;
    if (!changed) return;
    // Nodes 2.0 of older frontends looks at the list of widgets when a node comes, and not again.
    if (!native && drawsNodes2()) node.graph?.onNodeAdded?.(node);
    fit(node);
  }

  updates.set(node, update);
  after(node, "onAdded", update);
  after(node, "onConnectionsChange", update);
  after(node, "onConfigure", (/** @type {any} */ saved) => {
    update();
    // As tall as all its widgets were, it would stand half empty.
    if (saved.showAdvanced === undefined) fit(node);
  });
  update();
  fit(node);
}

/** All nodes anew, e.g. once they are drawn in another way. */
export function foldAll() {
  for (const graph of [app.graph, ...(app.graph.subgraphs?.values() ?? [])]) {
    for (const node of graph.nodes) updates.get(node)?.();
  }
}

function foldsItself() {
  return drawsNodes2() && "Comfy.Node.AlwaysShowAdvancedWidgets" in app.ui.settings.settingsLookup;
}

function drawsNodes2() {
  return Boolean(app.ui.settings.getSettingValue("Comfy.VueNodes.Enabled"));
}

/** @param {any} widget @param {boolean} hidden */
function hide(widget, hidden) {
  widget.hidden = hidden; // the canvas looks here,
  widget.options.hidden = hidden; // Nodes 2.0 here,
  if (hidden) widget.computeSize = NOTHING; // and older frontends keep room for hidden widgets
  else if (widget.computeSize === NOTHING) delete widget.computeSize;
}

/** A wire that ends at a hidden widget would end nowhere. @param {any} node @param {any} widget */
function isLinked(node, widget) {
  const slot = node.inputs?.findIndex((/** @type {any} */ input) => input.widget?.name === widget.name) ?? -1;
  return slot >= 0 && node.isInputConnected(slot);
}

/** As tall as what it shows. @param {any} node */
export function fit(node) {
  node.setSize([node.size[0], node.computeSize()[1]]);
  app.canvas?.setDirty(true, true);
}
