import assert from "node:assert/strict";
import { test } from "node:test";
import { rewardTables } from "../../nodes/web/panel/curves.mjs";
import { RunHistory } from "../../nodes/web/history.mjs";

/** @param {string[]} trained @param {string[]} measured  names of scorers @returns {RunHistory} */
function history(trained, measured) {
  const history = new RunHistory();
  const columns = (/** @type {string[]} */ names) => Object.fromEntries(names.map((name) => [`reward.${name}`, [0.5]]));
  history.iterations = { iteration: trained.length ? [1] : [], ...columns(trained) };
  history.evaluations = { iteration: [0], ...columns(measured) };
  return history;
}

/** @param {RunHistory} history @param {number} smoothing @param {boolean} [heldOut] */
function labels(history, smoothing, heldOut = true) {
  return rewardTables(history, smoothing, heldOut).flatMap(({ series }) => series.map(({ label }) => label));
}

test("curves say what they are", () => {
  const trained = ["hps, smooth", "hps, each iteration"];
  assert.deepEqual(labels(history(["hps"], ["hps", "pick"]), 0.5), [...trained, "hps, held out", "pick, only watched"]);
  assert.deepEqual(labels(history(["hps"], ["hps"]), 0), ["hps", "hps, held out"]);
  assert.deepEqual(labels(history(["hps"], ["hps"]), 0, false), ["hps", "hps, measured"]);
});

test("before the first iteration nothing is called watched", () => {
  assert.deepEqual(labels(history([], ["hps"]), 0.5), ["hps, held out"]);
});
