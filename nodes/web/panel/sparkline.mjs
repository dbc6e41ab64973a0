// A run's small curve as an element.
import { html, useEffect, useRef } from "../html.mjs";
import { sparkline } from "../sparkline.mjs";

/** @param {{values: (number|null)[]}} props */
export function Sparkline({ values }) {
  const canvas = useRef(/** @type {HTMLCanvasElement|null} */ (null));
  const key = values.join();
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    // It calls at once, and again when the panel comes back onto the page.
    const observer = new ResizeObserver(() => sparkline(element, values));
    observer.observe(element);
    return () => observer.disconnect();
  }, [key]);
  return html`<canvas class="mixgrpo-spark" ref=${canvas} aria-hidden="true"></canvas>`;
}
