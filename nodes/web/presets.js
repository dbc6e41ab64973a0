// MixGRPO Algorithm: choosing a preset fills in its fields, and changing a field afterwards makes it "custom".
//
// The presets' values come with the node's own definition. Widgets only call back when a value is chosen or typed, or
// an API prompt is dropped onto the canvas; loading a workflow, undo and paste set values silently and change nothing.
// Only the fields that a loaded workflow doesn't know yet get what they meant before they were there.
import { app } from "../../scripts/app.js";
import { after } from "./on_node/after.mjs";

const NODE = "MixGRPO_Algorithm";
const CUSTOM = "custom";

/** @type {Object<string, Object<string, any>>} preset -> field -> value */
let presets = {};
/** @type {Object<string, any>} */
let before = {};

app.registerExtension({
  name: "mixgrpo.presets",

  beforeRegisterNodeDef(/** @type {any} */ _nodeType, /** @type {any} */ nodeData) {
    if (nodeData.name === NODE) ({ presets, before } = nodeData.input.optional.preset[1]);
  },

  nodeCreated(/** @type {any} */ node) {
    if (node.comfyClass === NODE) connect(node);
  },
});

/** @param {any} node */
function connect(node) {
  const isSetting = (/** @type {any} */ widget) => widget.name === "preset" || widget.name in before;
  /** @type {any[]} */
  const widgets = node.widgets.filter(isSetting);
  const [preset] = widgets;
  let writing = false;
  /** @type {Set<any>|null} */
  let touched = null; // widgets that were given a value since the last look

  // Later in the same turn: a dropped API prompt gives preset and fields in any order, and a given field wins.
  function look() {
    const given = touched ?? new Set();
    touched = null;
    if (!(preset.value in presets)) return;
    if (given.has(preset)) fillIn(given);
    if (!fields().every((widget) => same(widget.value, wanted(widget)))) write(preset, CUSTOM);
  }

  /** @param {Set<any>} given */
  function fillIn(given) {
    for (const widget of fields()) if (!given.has(widget)) write(widget, wanted(widget));
  }

  function fields() {
    return widgets.filter((widget) => widget.name in presets[preset.value]);
  }

  /** @param {any} widget */
  function wanted(widget) {
    return presets[preset.value][widget.name];
  }

  /** @param {any} widget @param {any} value */
  function write(widget, value) {
    writing = true;
    try {
      widget.value = value;
      widget.callback?.(value);
      widget.value = value; // number widgets round what they are given by callback
    } finally {
      writing = false;
    }
  }

  after(node, "onConfigure", (/** @type {any} */ saved) => {
    const known = saved.widgets_values?.length;
    if (known) for (const widget of widgets.slice(known)) write(widget, before[widget.name]);
  });

  for (const widget of widgets) {
    after(widget, "callback", () => {
      if (writing) return;
      if (!touched) queueMicrotask(look);
      touched = (touched ?? new Set()).add(widget);
    });
  }
}

/** @param {any} value @param {any} other */
function same(value, other) {
  if (typeof value !== "number" || typeof other !== "number") return value === other;
  return Math.abs(value - other) <= 1e-6 * Math.max(Math.abs(value), Math.abs(other));
}
