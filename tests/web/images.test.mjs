import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { RunHistory } from "../../nodes/web/history.mjs";
import { changes, tablesOf } from "../../nodes/web/panel/compare.mjs";
import { differences } from "../../nodes/web/panel/differences.mjs";
import { throttled } from "../../nodes/web/panel/fetched.mjs";
import { byChange, newest, oldest, rowsOf, sharedRows, step } from "../../nodes/web/panel/imageTable.mjs";

const image = (prompt, seed, iteration) => ({
  view: { filename: `${iteration}_${prompt}.webp`, subfolder: "mixgrpo/a", type: "output" },
  prompt,
  seed,
  scores: { text: iteration / 10 },
});
const samples = (...table) => table.map(([iteration, ...images]) => ({
  iteration,
  images: images.map(([prompt, seed]) => image(prompt, seed, iteration)),
}));
const files = (rows) => rows.map((row) => row.pictures.map((picture) => picture?.view.filename ?? null));

test("rows are prompts with their seeds, columns iterations, gaps stay gaps", () => {
  const { iterations, rows } = rowsOf(
    samples([0, ["a", "1"], ["a", "2"], ["b", "1"]], [10, ["b", "1"]], [20, ["a", "1"], ["b", "1"]]),
  );
  assert.deepEqual(iterations, [0, 10, 20]);
  assert.deepEqual(rows.map((row) => row.prompt), ["a", "a", "b"]);
  assert.deepEqual(files(rows), [
    ["0_a.webp", null, "20_a.webp"],
    ["0_a.webp", null, null],
    ["0_b.webp", "10_b.webp", "20_b.webp"],
  ]);
  assert.deepEqual([oldest(rows[0]).changed, newest(rows[0]).changed], [0, 20]);
});

test("seeds beyond what a number keeps exactly stay apart", () => {
  const { rows } = rowsOf(samples([0, ["a", "9007199254740993"], ["a", "9007199254740992"]]));
  assert.deepEqual(rows.map((row) => row.pictures[0].seed), ["9007199254740993", "9007199254740992"]);
});

test("arrows jump over gaps, keep near the column, and stop at the edges", () => {
  const { rows } = rowsOf(samples([0, ["a", "1"], ["b", "1"]], [10, ["b", "1"]], [20, ["a", "1"]]));
  assert.deepEqual(step(rows, [0, 0], 0, 1), [0, 2]);
  assert.deepEqual(step(rows, [0, 2], 0, 1), [0, 2]);
  assert.deepEqual(step(rows, [0, 2], 0, -1), [0, 0]);
  assert.deepEqual(step(rows, [0, 2], 1, 0), [1, 1]);
  assert.deepEqual(step(rows, [1, 1], 1, 0), [1, 1]);
  assert.deepEqual(step(rows, [0, 0], -1, 0), [0, 0]);
});

test("rows in the order of their gains: scorers count alike, and what has no score gains nothing", () => {
  const row = (/** @type {string} */ prompt, /** @type {any[]} */ ...scores) => ({
    prompt,
    pictures: scores.map((each) => each && { ...image(prompt, "1", 0), label: "", changed: 0, scores: each }),
  });
  const order = (/** @type {any[]} */ ...rows) => byChange(rows).map((number) => rows[number].prompt).join("");
  assert.equal(order(row("a", { s: 0.5 }, { s: 0.4 }), row("b", { s: 0.5 }, { s: 0.9 }), row("c", { s: 0 }, null, { s: 0.5 })), "cba");
  assert.equal(order(row("a", { s: 5, t: 0.1 }, { s: 9, t: 0.1 }), row("b", { s: 5, t: 0.1 }, { s: 8, t: 0.9 })), "ba");
  assert.equal(order(row("a", { s: 0.5 }, { s: null }), row("b", { s: 0.5 }), row("c", { s: 0.5 }, { s: 0.5 })), "abc");
});

test("runs share the prompts that all of them have: the newest image, the same seed if there is one", () => {
  const one = samples([0, ["a", "1"], ["b", "1"]], [10, ["a", "1"], ["b", "1"]]);
  const other = samples([0, ["b", "2"], ["b", "1"], ["c", "1"]], [40, ["b", "2"]]);
  const rows = sharedRows([one, other], ["first", "second"]);
  assert.deepEqual(rows.map((row) => row.prompt), ["b"]);
  assert.deepEqual(files(rows), [["10_b.webp", "0_b.webp"]]);
  const labels = rows[0].pictures.map((picture) => picture.label);
  assert.deepEqual(labels, ["first, iteration 10", "second, before training"]);
  assert.deepEqual(sharedRows([one, []], ["first", "second"]), []);
});

test("only settings that differ are told, by group and field; an unknown one is told as such", () => {
  const one = { run: { seed: 1, width: 64 }, window: { size: 4 }, list: [1, 2] };
  const other = { run: { seed: 2, width: 64 }, window: { size: 4, wrap: false }, list: [1, 2] };
  assert.deepEqual(differences([one, other]), [
    { setting: "run.seed", values: [1, 2] },
    { setting: "window.wrap", values: [undefined, false] },
  ]);
  assert.deepEqual(differences([one, one, undefined]).length, 4);
});

test("a history tells when there may be new images, also where nothing is evaluated", () => {
  const history = new RunHistory();
  history.fill({});
  const before = history.samples;
  history.extend([{ type: "iteration", iteration: 1 }]);
  assert.equal(history.samples, before);
  history.extend([{ type: "sample", iteration: 1, images: [] }]);
  assert.equal(history.samples, before + 1);
});

test("what is asked for often is done at once, and then once a pause", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let times = 0;
  const { call, stop } = throttled(() => (times += 1), 3000);
  for (let number = 0; number < 5; number += 1) call();
  assert.equal(times, 1);
  mock.timers.tick(2999);
  assert.equal(times, 1);
  mock.timers.tick(1);
  assert.equal(times, 2);
  mock.timers.tick(3000);
  call();
  assert.equal(times, 3);
  call();
  stop();
  mock.timers.tick(9000);
  assert.equal(times, 3);
  mock.timers.reset();
});

test("compared runs are called held out only where something is", () => {
  const run = (name, prompts) => ({ name, held_out_prompts: prompts, held_out: { change: 0.1, error: 0.02 } });
  const [some, none] = [run("some", 2), run("none", 0)];
  const rows = Object.entries(changes([{ run: some }, { run: none }]));
  assert.deepEqual(
    rows.map(([name, told]) => [name, told(some), told(none)]),
    [["held-out change", "+0.100 ± 0.020", "–"], ["change on training prompts", "–", "+0.100 ± 0.020"]],
  );
  assert.deepEqual(Object.keys(changes([{ run: none }, { run: none }])), ["change on training prompts"]);
  const history = { iterations: {}, evaluations: { iteration: [0], "reward.text": [0.5] } };
  const label = (of) => tablesOf(of, history, "text", "red")[1].series[0].label;
  assert.deepEqual([label(some), label(none)], ["some: text, held out", "none: text, measured"]);
});
