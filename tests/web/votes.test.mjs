import assert from "node:assert/strict";
import { test } from "node:test";

import { Ballot } from "../../nodes/web/votes/ballot.mjs";
import { isComplete, meaning, orderOf, picked } from "../../nodes/web/votes/picking.mjs";

const FOUR = [0, 1, 2, 3];
const pressed = (keys, count = 4) =>
  [...keys].reduce((picks, key) => picked(picks, meaning(key, count, false).image), []);

test("the first key is the best, the second the worst, the others stand between them", () => {
  assert.deepEqual(orderOf(pressed("32"), FOUR), [[2], [0, 3], [1]]);
  assert.deepEqual(orderOf(pressed("3"), FOUR), [[2], [0, 1, 3]]);
  assert.deepEqual(orderOf(pressed("2", 2), [0, 1]), [[1], [0]]);
  assert.deepEqual(orderOf([3], [1, 3]), [[3], [1]], "a pair's places are those among all images of its sheet");
});

test("the same key again takes a pick back", () => {
  assert.deepEqual(pressed("33"), []);
  assert.deepEqual(pressed("334"), [3]);
});

test("two picks are enough, of two images one", () => {
  assert.deepEqual([isComplete([2], FOUR), isComplete([2, 1], FOUR), isComplete([], [0, 1]), isComplete([0], [0, 1])],
    [false, true, false, true]);
});

test("keys mean what stands on the page, and nothing else", () => {
  assert.deepEqual(meaning("4", 4, false), { image: 3 });
  assert.deepEqual(["5", "0", "ArrowLeft", "a", "Shift"].map((key) => meaning(key, 4, false)), Array(5).fill(null));
  assert.deepEqual(["S", "z", "p", "Enter"].map((key) => meaning(key, 4, false)), ["skip", "undo", "pairs", "enter"]);
  assert.deepEqual(["0", "ArrowLeft", "ArrowRight"].map((key) => meaning(key, 2, true)), ["tie", { image: 0 }, { image: 1 }]);
});

const sheet = (id, places = FOUR) => ({ id, prompt: id, source: "", images: places.map((place) => ({ place, view: {} })) });
const settle = () => new Promise((done) => setTimeout(done, 5));

/** A ballot over a server that keeps what it is told. */
function ballotOver(...ids) {
  const state = { open: ids, answered: [], refuse: false, refusals: [] };
  const told = (pairs) => ({
    votes: state.answered.length, pending: state.open.length, can_undo: state.answered.length > 0, runs: [],
    next: state.open.map((id) => sheet(id, pairs ? [1, 3] : FOUR)),
  });
  const routes = {
    show: async (_name, pairs) => told(pairs),
    vote: async (_name, pairs, answer) => {
      if (state.refuse) throw new Error("The disk is full.");
      state.answered.push(answer);
      state.open = state.open.filter((id) => id !== answer.sheet);
      return told(pairs);
    },
    undo: async (_name, pairs) => {
      const { sheet: undone } = state.answered.pop();
      state.open = [...state.open, undone];
      return { ...told(pairs), undone };
    },
  };
  const ballot = new Ballot("mine", routes, () => {}, (why) => state.refusals.push(why));
  return { ballot, state };
}

test("the next sheet is there before the server has answered", async () => {
  const { ballot, state } = ballotOver("a", "b", "c");
  await ballot.look();
  ballot.press(2);
  ballot.press(1);
  assert.deepEqual([ballot.sheet.id, ballot.pending, state.answered.length], ["b", 2, 0]);
  ballot.press(0);
  ballot.enter();
  ballot.skip();
  await settle();
  assert.deepEqual(state.answered, [
    { sheet: "a", order: [[2], [0, 3], [1]] },
    { sheet: "b", order: [[0], [1, 2, 3]] },
    { sheet: "c", skip: true },
  ]);
  assert.equal(ballot.sheet, undefined);
});

test("undo first takes back what is picked, then the last answer, whose sheet is asked again", async () => {
  const { ballot, state } = ballotOver("a", "b");
  await ballot.look();
  await ballot.skip();
  ballot.press(1);
  await ballot.undo();
  assert.deepEqual([ballot.picks, ballot.sheet.id, state.answered.length], [[], "b", 1]);
  await ballot.undo();
  assert.deepEqual([ballot.sheet.id, state.answered.length], ["a", 0]);
  await ballot.undo(); // nothing is left
  assert.deepEqual(state.refusals, []);
});

test("a sheet that somebody else has answered goes away, another one stays with what is picked", async () => {
  const { ballot, state } = ballotOver("a", "b");
  await ballot.look();
  ballot.press(1);
  state.open = ["new", "a", "b"];
  await ballot.look();
  assert.deepEqual([ballot.sheet.id, ballot.picks], ["a", [1]]);
  state.open = ["b"];
  await ballot.look();
  assert.deepEqual([ballot.sheet.id, ballot.picks], ["b", []]);
});

test("an answer that isn't taken is told, and its sheet asked again", async () => {
  const { ballot, state } = ballotOver("a", "b");
  await ballot.look();
  state.refuse = true;
  await ballot.skip();
  assert.deepEqual([state.refusals, ballot.waiting.map(({ id }) => id)], [["The disk is full."], ["b", "a"]]);
});

test("pairs show two images of a sheet, and vote on these alone", async () => {
  const { ballot, state } = ballotOver("a", "b");
  await ballot.look();
  await ballot.togglePairs();
  ballot.press(1);
  await settle();
  ballot.tie();
  await settle();
  assert.deepEqual(state.answered.map(({ order }) => order), [[[3], [1]], [[1, 3]]]);
});
