// A curve of a few pixels, without axes.

const COLOR = "#4e9bd8"; // the first scorer's in large charts

/**
 * @param {HTMLCanvasElement} canvas  drawn at the size that its style gives it
 * @param {(number|null)[]} values  evenly spaced
 * @param {{x: number, value: number}[]} points  another curve over it, marked; x from 0 to 1. With two or more the first
 *   one is faint
 */
export function sparkline(canvas, values, points = []) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (!width || !height || !context) return; // collapsed, or not on the page
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  context.scale(scale, scale);
  const known = [...values.filter((value) => value !== null), ...points.map((point) => point.value)];
  if (!known.length) return;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const margin = 3;
  const across = (/** @type {number} */ x) => margin + x * (width - 2 * margin);
  const up = (/** @type {number} */ value) =>
    high === low ? height / 2 : height - margin - ((value - low) / (high - low)) * (height - 2 * margin);
  context.strokeStyle = context.fillStyle = COLOR;
  const draw = (/** @type {{x: number, value: number|null}[]} */ curve, /** @type {number} */ width) => {
    context.lineWidth = width;
    context.beginPath();
    // A line from nowhere begins where it leads to.
    for (const { x, value } of curve) if (value !== null) context.lineTo(across(x), up(value));
    context.stroke();
  };
  const faint = points.length > 1;
  context.globalAlpha = faint ? 0.4 : 1;
  draw(values.map((value, index) => ({ x: index / Math.max(1, values.length - 1), value })), faint ? 1 : 1.5);
  context.globalAlpha = 1;
  draw(points, 2);
  for (const point of values.length === 1 ? [{ x: 0.5, value: known[0] }, ...points] : points) {
    context.beginPath();
    context.arc(across(point.x), up(point.value), 2.5, 0, 2 * Math.PI);
    context.fill();
  }
}
