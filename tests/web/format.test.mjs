import assert from "node:assert/strict";
import { test } from "node:test";

import { smooth } from "../../nodes/web/charts.mjs";
import * as format from "../../nodes/web/format.mjs";

const run = (more) => ({ run_id: "a", name: "a", files: [], images: [], folder: "", log: "", ...more });

test("numbers", () => {
  const cases = [[0, "0.000"], [0.41234, "0.412"], [12.345, "12.35"], [1234.5, "1235"], [1e-4, "1.00e-4"], [null, "–"], [NaN, "–"]];
  for (const [value, text] of cases) assert.equal(format.number(value), text);
  assert.equal(format.change(-0.031), "−0.031");
  assert.equal(format.change(0.12), "+0.120");
  assert.equal(format.change(-6.7e-4), "−0.0007");
  assert.equal(format.change(0), "±0");
});

test("durations and bytes", () => {
  const cases = [[0, "0.0 s"], [0.42, "0.4 s"], [9.97, "10 s"], [59.4, "59 s"], [61, "1 min"], [3900, "1 h 05 min"], [200000, "2 d 7 h"], [undefined, "–"]];
  for (const [value, text] of cases) assert.equal(format.duration(value), text);
  assert.deepEqual([0, 999, 1500, 23.4e9].map(format.bytes), ["0 B", "999 B", "1.5 kB", "23 GB"]);
});

test("a state in a line", () => {
  const training = run({ state: "running", stage: "train", iteration: 12, iterations: 300, reward: { shapes: 0.4123 }, eta_seconds: 3900 });
  assert.equal(format.stateLine(training), "training, 12 of 300, about 1 h 05 min left");
  const left = (/** @type {any} */ more) => format.timeLeft(run({ ...training, ...more }));
  assert.equal(left({ iteration: 2, eta_seconds: 500 }), "", "the first iterations say little");
  assert.equal(left({ iteration: 1 }), "about 1 h 05 min", "but that it takes long");
  assert.deepEqual([0.2, 51, 56, 61].map((eta_seconds) => left({ eta_seconds })), ["about 5 s", "about 55 s", "about 1 min", "about 1 min"]);
  assert.equal(left({ state: "cancelled" }), "");
  assert.equal(left({ cancelling: true }), "", "it ends before");
  const encoding = run({ state: "running", stage: "encode", phase: "encode", phase_done: 3, phase_total: 40 });
  assert.equal(format.stateLine(encoding), "encoding prompts, 3 of 40");
  const measuring = run({ state: "running", stage: "train", phase: "evaluate", phase_done: 12, phase_total: 100 });
  assert.equal(format.stateLine(measuring), "training, measuring held-out prompts, 12 of 100");
  assert.equal(format.stateLine(run({ state: "finished", iteration: 5, iterations: 5 })), "finished, 5 of 5");
});

test("how good a run has become", () => {
  assert.equal(format.rewardLine(run({ state: "running", reward: { shapes: 0.4123 } })), "reward 0.412");
  const held_out = { first: 0.848, last: 0.936, change: 0.0886, error: 0.0391 };
  assert.equal(format.rewardLine(run({ reward: { shapes: 0.957 }, held_out })), "0.848 → 0.936 (+0.089 ± 0.039) held out");
  assert.equal(format.rewardLine(run({ held_out, held_out_prompts: 0 })), "0.848 → 0.936 (+0.089 ± 0.039)");
  assert.deepEqual([{ iteration: 0, score: 0.8 }, { iteration: 7, score: 0.9 }, null].map((best) => format.bestOf(run({ best }))),
    ["0.800 before training", "0.900 after 7", ""]);
});

test("how a run ended, in words", () => {
  const held_out = { first: 0.8, last: 0.92, change: 0.12, error: 0.03 };
  const best = { iteration: 40, score: 0.93, lora: "mixgrpo/a-best.safetensors" };
  assert.equal(
    format.outcome(run({ state: "finished", held_out, best, train_seconds: 550, lora: "mixgrpo/a.safetensors" })),
    "On prompts it didn't train on: 0.800 → 0.920 (+0.120\u00a0±\u00a00.030), clearly better. Took 9 min. " +
      "Best after iteration 40 (0.930). LoRA: mixgrpo/a.safetensors",
  );
  const unclear = { ...held_out, change: -0.01 };
  const untrained = { iteration: 0, score: 0.8, lora: "mixgrpo/a-best.safetensors" };
  assert.equal(
    format.outcome(run({ state: "finished", held_out: unclear, best: untrained })),
    "On prompts it didn't train on: 0.800 → 0.920 (−0.010\u00a0±\u00a00.030), no clear change. Best before training (0.800).",
  );
  const gain = (/** @type {any} */ more) => format.gain(run({ state: "finished", ...more }));
  assert.match(gain({ held_out: { ...held_out, change: -0.12 } }), /, clearly worse\.$/);
  assert.equal(gain({ held_out: { change: 0.12, error: null } }), "On prompts it didn't train on: +0.120.", "an old run");
  assert.equal(gain({ held_out: null }), "");
  const advice = "Out of memory.\nSwitch on gradient_checkpointing.";
  assert.equal(format.outcome(run({ state: "failed", message: advice })), `Failed: ${advice}`);
  assert.match(format.outcome(run({ state: "finished", held_out, held_out_prompts: 0 })), /^On its training prompts: 0.800 → 0.920 \(/);
  assert.match(format.outcome(run({ state: "cancelled", checkpoint: 10 })), /holds 10 iterations: press Run or Resume/);
  assert.match(format.outcome(run({ state: "dead" })), /without a word \(killed, or out of memory\)\.$/);
  assert.match(format.outcome(run({ state: "dead", message: "The disk is full." })), /without a word: The disk is full\.$/);
  assert.equal(format.outcome(run({ state: "running" })), "");
});

test("smoothing starts at the first value and leaves gaps", () => {
  assert.deepEqual(smooth([1, 2, 3], 0), [1, 2, 3]);
  const smoothed = smooth([4, null, 4, 8], 0.5);
  assert.deepEqual(smoothed.slice(0, 3), [4, null, 4]);
  // weights .25*.5, .5*.5, .5 of 4, 4, 8, by their sum .875
  assert.ok(Math.abs(smoothed[3] - (0.125 * 4 + 0.25 * 4 + 0.5 * 8) / 0.875) < 1e-12);
});

test("a sweep and its runs in words", () => {
  const of = (position, state, values = {}) => run({ state, sweep: { id: "x", position, of: 3, values } });
  assert.equal(format.inSweep(of(2, "queued", { name: "n", learning_rate: 0.001, seed: 7 })), "2 of 3, learning rate 0.001, seed 7");
  assert.equal(format.inSweep(run({ state: "queued", sweep: null })), "");
  assert.equal(format.sweepLine([of(1, "finished"), of(2, "queued"), of(3, "queued")]), "Sweep of 3: 1 finished, 2 queued");
  assert.equal(format.doing(run({ state: "queued", stage: "turn" })), "waiting for its turn");
});

test("runs of one name are told apart by the end of their ids, also in a sweep", () => {
  assert.deepEqual(["shapes-dfba9ee6", "my-run-dfba9ee6-12", "old"].map(format.shortId), ["dfba9ee6", "dfba9ee6-12", "old"]);
});
