// Colours of the pack's own wires: the canvas draws them by the first two tables, Nodes 2.0 by the style.
import { app } from "../comfy.mjs";

const COLORS = {
  MIXGRPO_PROMPTS: "#4db6ac",
  MIXGRPO_REWARD: "#c0ca33",
  MIXGRPO_ALGORITHM: "#a1887f",
  MIXGRPO_LORA: "#ba68c8",
  MIXGRPO_RUN: "#ff7043",
};

/** A new colour palette forgets them. */
export function colorWires() {
  for (const [type, color] of Object.entries(COLORS)) {
    app.canvas.default_connection_color_byType[type] = color;
    /** @type {any} */ (app.canvas.constructor).link_type_colors[type] = color;
    document.documentElement.style.setProperty(`--color-datatype-${type}`, color);
  }
  app.canvas.setDirty(true, true);
}
