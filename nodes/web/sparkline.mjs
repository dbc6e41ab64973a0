// A curve of a few pixels, without axes.

/**
 * @param {HTMLCanvasElement} canvas  drawn at the size that its style gives it
 * @param {(number|null)[]} values  evenly spaced
 * @param {string} color
 * @param {{x: number, value: number}[]} points  marked ones; x from 0 to 1 along the curve
 */
export function sparkline(canvas, values, color, points = []) {
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
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = 1.5;
  context.beginPath();
  let drawing = false;
  values.forEach((value, index) => {
    if (value === null) return;
    const [x, y] = [across(values.length > 1 ? index / (values.length - 1) : 0.5), up(value)];
    if (drawing) context.lineTo(x, y);
    else context.moveTo(x, y);
    drawing = true;
  });
  context.stroke();
  for (const point of values.length === 1 ? [{ x: 0.5, value: known[0] }, ...points] : points) {
    context.beginPath();
    context.arc(across(point.x), up(point.value), 2.5, 0, 2 * Math.PI);
    context.fill();
  }
}
