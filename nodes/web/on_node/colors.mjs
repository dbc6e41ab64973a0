// Colours of the pack's own wires. The canvas looks into two tables, Nodes 2.0 at the style.
import { app } from "../comfy.mjs";

export const COLORS = {
  MIXGRPO_PROMPTS: "#4db6ac",
  MIXGRPO_REWARD: "#c0ca33",
  MIXGRPO_ALGORITHM: "#a1887f",
  MIXGRPO_LORA: "#ba68c8",
  MIXGRPO_RUN: "#ff7043",
};

export function colorWires() {
  const tables = [app.canvas.default_connection_color_byType, /** @type {any} */ (app.canvas.constructor).link_type_colors];
  for (const [type, color] of Object.entries(COLORS)) {
    for (const table of tables) lastingly(table, type, color);
  }
  const style = document.createElement("style");
  const lines = Object.entries(COLORS).map(([type, color]) => `--color-datatype-${type}: ${color};`);
  style.textContent = `:root { ${lines.join(" ")} }`;
  document.head.append(style);
}

/** A palette that doesn't know a type writes "" there. @param {any} table @param {string} type @param {string} color */
function lastingly(table, type, color) {
  let chosen = "";
  Object.defineProperty(table, type, {
    configurable: true,
    enumerable: true,
    get: () => chosen || color,
    set: (value) => {
      chosen = value;
    },
  });
}
