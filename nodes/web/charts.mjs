// Curves with axes, legend, zoom and values under the pointer: uPlot, in the frontend's colours.
import { html, useEffect, useRef } from "./html.mjs";
import uPlot from "./vendor/uPlot.mjs";

/**
 * @typedef {{label: string, values: (number|null)[], color: string, points?: boolean, faint?: boolean}} Series  points: thick, and a point at each
 * @typedef {{x: number[], series: Series[]}} Table  series over the same iterations
 * @typedef {{x: number, label: string}} Mark  a vertical line
 */

const WHOLE_STEPS = [1, 2, 5].flatMap((step) => Array.from({ length: 9 }, (_, power) => step * 10 ** power)).sort((one, other) => one - other);
const COLORS = ["#4e9bd8", "#e8923c", "#57b36a", "#d8625f", "#a783d6", "#b98a5e", "#d77fb8", "#8d9bab"];

/** The colour of the nth scorer or run. @param {number} index */
export function color(index) {
  return COLORS[index % COLORS.length];
}

/** A theme variable's present value. @param {string} name @param {string} otherwise */
export function themed(name, otherwise) {
  return getComputedStyle(document.body).getPropertyValue(name).trim() || otherwise;
}

/**
 * Exponential moving average, started without bias; gaps stay gaps.
 * @param {(number|null)[]} values @param {number} weight  of what was before, 0 (as they are) to below 1
 */
export function smooth(values, weight) {
  if (weight <= 0) return values;
  let [sum, share] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}

/**
 * Curves over iterations. Drag to zoom, double click to see all again, click a legend entry to hide its curve.
 * @param {{tables: Table[], height?: number, log?: boolean, marks?: Mark[], theme?: number, title?: string}} props
 *   theme: grows when the colours change
 */
export function Chart({ tables, height = 180, log = false, marks = [], theme = 0, title = "" }) {
  const place = useRef(/** @type {HTMLElement|null} */ (null));
  const chart = useRef(/** @type {any} */ (null));
  const kept = useRef({ hidden: /** @type {string[]} */ ([]), zoom: /** @type {any} */ (null) });
  const latest = useRef(/** @type {Mark[]} */ ([]));
  latest.current = marks;
  const data = joined(tables, log);
  const shape = JSON.stringify([tables.map((table) => table.series.map(({ values: _, ...look }) => look)), log, theme]);

  useEffect(() => {
    const element = /** @type {HTMLElement} */ (place.current);
    const width = element.clientWidth || 300;
    chart.current = new uPlot(options(tables, width, height, log, () => latest.current), data, element);
    const { hidden, zoom } = kept.current;
    chart.current.series.forEach((/** @type {any} */ series, /** @type {number} */ index) => {
      if (hidden.includes(series.label)) chart.current.setSeries(index, { show: false });
    });
    if (zoom) chart.current.setScale("x", zoom);
    const observer = new ResizeObserver(([entry]) => {
      const now = Math.floor(entry.contentRect.width);
      if (now > 0) chart.current?.setSize({ width: now, height }); // 0: collapsed, or another tab in front
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      // The next one, with other curves or colours, shows what this one did.
      const { series, scales } = chart.current;
      kept.current.hidden = series.filter((/** @type {any} */ each) => !each.show).map((/** @type {any} */ each) => each.label);
      kept.current.zoom = isZoomed(chart.current) ? { min: scales.x.min, max: scales.x.max } : null;
      chart.current.destroy();
      chart.current = null;
    };
  }, [shape, height]);

  useEffect(() => {
    if (!chart.current || chart.current.data === data) return;
    const zoomed = isZoomed(chart.current);
    chart.current.setData(data, !zoomed);
    if (zoomed) chart.current.redraw(); // setData() draws only where it scales anew
  });

  return html`<div class="mixgrpo-chart" role="img" aria-label=${title} ref=${place}></div>`;
}

/** @param {any} chart */
function isZoomed(chart) {
  const all = chart.data[0];
  const { min, max } = chart.scales.x;
  return all.length > 1 && (min > all[0] || max < all.at(-1));
}

/** @param {Table[]} tables @param {boolean} log @returns {any} */
function joined(tables, log) {
  const drawable = (/** @type {(number|null)[]} */ values) =>
    log ? values.map((value) => (value !== null && value > 0 ? value : null)) : values;
  const filled = tables.filter((table) => table.series.length);
  if (!filled.length) return [[]];
  return uPlot.join(/** @type {any} */ (filled.map(({ x, series }) => [x, ...series.map((s) => drawable(s.values))])));
}

/** @param {Table[]} tables @param {number} width @param {number} height @param {boolean} log @param {() => Mark[]} marks */
function options(tables, width, height, log, marks) {
  const ink = themed("--descrip-text", "#999");
  const grid = { stroke: themed("--border-color", "#444"), width: 0.5 };
  const axis = { stroke: ink, grid, ticks: { ...grid, size: 4 }, font: "11px sans-serif" };
  const shown = (/** @type {any} */ _, /** @type {number|null} */ value) =>
    value === null || value === undefined ? "" : Number(value.toPrecision(4)).toString();
  return /** @type {any} */ ({
    width,
    height,
    scales: { x: { time: false, range: iterationRange }, y: log ? { distr: 3 } : { range: valueRange } },
    axes: [{ ...axis, size: 26, incrs: WHOLE_STEPS }, { ...axis, size: 52, values: valueTicks }],
    legend: { live: true, markers: markers(tables.flatMap(({ series }) => series)) },
    cursor: { drag: { x: true, y: false }, points: { size: 6 } },
    hooks: { draw: [(/** @type {any} */ chart) => marks().forEach((mark) => drawMark(chart, mark, ink))] },
    series: [
      { label: "iteration" },
      ...tables.flatMap(({ series }) =>
        series.map(({ label, color, points = false, faint = false }) => ({
          label,
          stroke: color,
          width: points ? 2.5 : faint ? 0.7 : 1.5,
          alpha: faint ? 0.45 : 1,
          points: { show: points && fewPoints, size: 6 },
          spanGaps: true,
          value: shown,
        })),
      ),
    ],
  });
}

// One point alone would stand somewhere in a hundred iterations, and at half the height.
/** @param {any} chart @param {number|null} min @param {number|null} max */
function iterationRange(chart, min, max) {
  const [first, second] = chart.data[0];
  return first !== undefined && second === undefined ? [Math.max(0, first - 1), first + 1] : [min, max];
}
// uPlot's own words for small numbers are "0". Of a logarithmic axis it leaves some out.
/** @param {any} _ @param {(number|null)[]} places */
function valueTicks(_, places) {
  return places.map((value) => (value === null ? "" : String(Number(value.toPrecision(4)))));
}
/** @param {any} _ @param {number|null} min @param {number|null} max */
function valueRange(_, min, max) {
  if (min === null || max === null) return [min, max];
  const room = min === max ? Math.abs(min) / 10 || 1 : 0;
  return room ? [min - room, max + room] : uPlot.rangeNum(min, max, 0.1, true);
}

/** A curve's mark in the legend looks as the curve does: filled, faint, or a frame as its points have. @param {Series[]} series */
function markers(series) {
  const ink = (/** @type {Series} */ { color, faint }) => (faint ? `color-mix(in srgb, ${color} 45%, transparent)` : color);
  return {
    width: 2,
    stroke: (/** @type {any} */ _, /** @type {number} */ index) => ink(series[index - 1]),
    dash: "solid",
    fill: (/** @type {any} */ _, /** @type {number} */ index) =>
      series[index - 1].points ? "transparent" : ink(series[index - 1]),
  };
}

/** Many would hide their curve. @param {any} chart @param {number} index */
function fewPoints(chart, index) {
  return chart.data[index].filter((/** @type {number|null} */ value) => value !== null && value !== undefined).length < 60;
}

/** @param {any} chart @param {Mark} mark @param {string} ink */
function drawMark(chart, mark, ink) {
  const x = chart.valToPos(mark.x, "x", true);
  const { left, top, width, height } = chart.bbox;
  if (!(x >= left && x <= left + width)) return;
  const { ctx } = chart;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = ink;
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
  ctx.textAlign = x > left + width / 2 ? "right" : "left";
  ctx.fillText(` ${mark.label} `, x, top + 12 * (window.devicePixelRatio || 1));
  ctx.restore();
}
