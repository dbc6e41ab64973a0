import assert from "node:assert/strict";
import { test } from "node:test";
import { told } from "../../nodes/web/panel/answers.mjs";

const AT_WORK = { run_id: "a-2", state: "queued", stage: "", note: "" };
const WAITING = { ...AT_WORK, stage: "turn" };
const AFTERWARDS = "To have what comes after it made, too, such as its pictures, press Run in its workflow.";
const IN_TURN = "It starts by itself when the trainings before it have ended.";

test("a run that waits for its turn isn't said to go on", () => {
  for (const action of ["resume", "continue"]) {
    assert.deepEqual(told(action, false, AT_WORK), ["The training goes on", AFTERWARDS]);
    assert.deepEqual(told(action, false, WAITING), ["The training waits for its turn", `${IN_TURN} ${AFTERWARDS}`]);
  }
  assert.deepEqual(told("restart", true, AT_WORK), ["Started anew", "It is the run a-2."]);
  assert.deepEqual(told("restart", true, WAITING), ["Waits for its turn", `It is the run a-2. ${IN_TURN}`]);
});

test("what the server notes of it is told", () => {
  const note = "Went on from the 20 iterations that the run had before.";
  assert.equal(told("continue", false, { ...AT_WORK, note })[1], `${note} ${AFTERWARDS}`);
});

test("a LoRA that comes later is said to, and what the panel shows needs no word", () => {
  assert.equal(told("save", false, { state: "running" })[0], "The LoRA is saved at the end of this iteration");
  assert.equal(told("save", false, { state: "cancelled" })[0], "The LoRA is saved");
  assert.deepEqual(told("cancel", false, { state: "running" }), []);
  assert.deepEqual(told("about", false, { state: "running", note: "mine" }), []);
});
