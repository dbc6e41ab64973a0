import assert from "node:assert/strict";
import { test } from "node:test";

import { RunHistory, iterationRow, put } from "../../nodes/web/history.mjs";

const iteration = (number, reward, more = {}) => ({
  type: "iteration", iteration: number, window: [0, 4], reward: { shapes: reward }, loss: 0.5, seconds: { total: 2 }, ...more,
});

test("an event becomes a row of the route's columns", () => {
  const row = iterationRow(iteration(3, 0.25, { memory: { now: 5, peak: 7 }, kl: null }));
  assert.equal(row["reward.shapes"], 0.25);
  assert.equal(row["seconds.total"], 2);
  assert.deepEqual([row.window_start, row.window_stop, row.memory_now, row.memory_peak, row.kl], [0, 4, 5, 7, null]);
});

test("rows are added, with gaps where a column was not there", () => {
  const columns = { iteration: [1, 2], loss: [0.1, 0.2] };
  put(columns, { iteration: 3, kl: 0.5 });
  assert.deepEqual(columns, { iteration: [1, 2, 3], loss: [0.1, 0.2, null], kl: [null, null, 0.5] });
});

test("a resumed run repeats iterations, and the later ones count", () => {
  const history = new RunHistory();
  history.fill({ iterations: { iteration: [1, 2, 3], "reward.shapes": [0.1, 0.2, 0.3] } });
  history.extend([iteration(2, 0.9), { type: "notice", iteration: 2, message: "again" }]);
  assert.deepEqual(history.iterations.iteration, [1, 2]);
  assert.deepEqual(history.iterations["reward.shapes"], [0.1, 0.9]);
  assert.equal(history.notices[0].message, "again");
});

test("an empty answer is an empty history", () => {
  const history = new RunHistory();
  history.fill({ iterations: {}, evaluations: {}, best: null, notices: [] });
  assert.deepEqual([history.iterations.iteration, history.evaluations.iteration], [[], []]);
  history.extend([iteration(1, 0.5)]);
  assert.deepEqual(history.iterations.iteration, [1]);
});
