import assert from "node:assert/strict";
import { test } from "node:test";

import { RunsApi } from "../../nodes/web/api.mjs";
import { detailsOf } from "../../nodes/web/panel/fetched.mjs";
import { VotesApi } from "../../nodes/web/votes/api.mjs";
import { RunStore, bySweep } from "../../nodes/web/runs.mjs";

const run = (id, state, more = {}) => ({ run_id: id, name: id, state, created: 1, files: [], images: [], ...more });

/** Lets everything that was begun come to its end. */
const settle = () => new Promise((done) => setTimeout(done, 5));

/** A store over routes that answer from a table, and what was asked. */
function storeOver(answers) {
  const asked = [];
  const routes = new RunsApi(async (path, options) => {
    asked.push(`${options?.method ?? "GET"} ${path}`);
    const [status, content] = answers[path.split("?")[0]] ?? [404, { error: "There is no run." }];
    return new Response(JSON.stringify(content), { status });
  }, (path) => `http://here${path}`);
  return { store: new RunStore(routes), routes, asked };
}

test("a refusal is the route's own sentence", async () => {
  const { routes } = storeOver({ "/mixgrpo/runs/a/cancel": [409, { error: "Run a is finished." }] });
  await assert.rejects(routes.act("a", "cancel"), { message: "Run a is finished.", status: 409 });
});

test("addresses keep strange names in one piece", () => {
  const { routes } = storeOver({});
  const address = new URL(routes.viewUrl({ filename: "a&b #1.webp", subfolder: "mixgrpo/x", type: "output" }, 3));
  assert.equal(address.searchParams.get("filename"), "a&b #1.webp");
  assert.equal(address.searchParams.get("changed"), "3");
});

test("an id stays one part of its route, whatever it holds", async () => {
  const { routes, asked } = storeOver({});
  const [strange, encoded] = ["../../manager/reboot?a#b", "..%2F..%2Fmanager%2Freboot%3Fa%23b"];
  const votes = new VotesApi(routes.fetchApi, routes.apiUrl);
  const questions = [
    routes.show(strange), routes.history(strange, { points: 2 }), routes.schedule(strange), routes.images(strange),
    routes.group(strange), routes.log(strange), routes.workflow(strange), routes.act(strange, "cancel"),
    routes.cancelSweep(strange), routes.remove(strange, true), votes.show(strange, true), votes.vote(strange, true, {}),
    votes.undo(strange, false), votes.add(strange, { run_id: "a" }), votes.remove(strange),
  ];
  await Promise.allSettled(questions);
  const below = asked.map((each) => each.match(/^[A-Z]+ \/mixgrpo\/(?:runs|votes)\/([^/?#]+)/)?.[1]);
  assert.deepEqual(below, questions.map(() => encoded));
  assert.equal(routes.reportUrl(strange), `http://here/mixgrpo/runs/${encoded}/report`);
  assert.equal(votes.zipUrl(strange), `http://here/mixgrpo/votes/${encoded}/zip`);
});

test("what can't be a run's id asks nothing", async () => {
  const { store, asked } = storeOver({ "/mixgrpo/runs/a-1": [200, run("a-1", "finished")] });
  for (const strange of ["../../manager/reboot", "..", "", "-a", "A", "a b", "a".repeat(81), 3]) {
    await assert.rejects(store.look(strange), { status: 404 });
  }
  assert.deepEqual(asked, []);
  await store.look("a-1");
  assert.equal(store.get("a-1").state, "finished");
});

test("the store is filled by GET and kept by events", async () => {
  const page = { runs: [run("b", "running", { created: 2 }), run("a", "finished")], total: 2, counts: { running: 1, finished: 1 } };
  const { store } = storeOver({ "/mixgrpo/runs": [200, page] });
  await store.refresh();
  assert.deepEqual([store.all().map((each) => each.run_id), store.active], [["b", "a"], 1]);
  const ended = [];
  store.onEnd((each) => ended.push(each.run_id));
  store.onProgress({ run_id: "b", events: [], status: run("b", "finished") });
  store.onProgress({ run_id: "b", events: [], status: run("b", "finished") });
  assert.deepEqual([ended, store.active], [["b"], 0]);
  // Of a run that isn't loaded nobody knows here whether it was counted: the server is asked.
  page.counts = { queued: 1, finished: 2 };
  store.onProgress({ run_id: "c", events: [], status: run("c", "queued") });
  await settle();
  assert.equal(store.active, 1);
  store.onRemoved("c");
  assert.deepEqual([store.active, store.get("c")], [0, undefined]);
});

test("a run that ended while nobody was told is told of when the list comes", async () => {
  const page = { runs: [run("b", "running")], total: 1, counts: { running: 1 } };
  const { store } = storeOver({ "/mixgrpo/runs": [200, page] });
  const ended = [];
  store.onEnd((each) => ended.push(each.run_id));
  await store.refresh();
  page.runs = [run("b", "finished")];
  await store.refresh();
  await store.refresh();
  assert.deepEqual(ended, ["b"]);
});

test("listeners are told once a turn", async () => {
  const { store } = storeOver({});
  let times = 0;
  const end = store.subscribe(() => (times += 1));
  for (let number = 0; number < 5; number += 1) store.take(run("a", "running"));
  await Promise.resolve();
  assert.equal(times, 1);
  end();
  store.take(run("a", "finished"));
  await Promise.resolve();
  assert.equal(times, 1);
});

test("a history is asked for once and goes on by events; a long message asks for it anew", async () => {
  const told = { iterations: { iteration: [1], "reward.x": [0.5] }, evaluations: {}, notices: [] };
  const { store, asked } = storeOver({ "/mixgrpo/runs/a/history": [200, told] });
  store.history("a");
  await settle();
  store.onProgress({ run_id: "a", events: [{ type: "iteration", iteration: 2, reward: { x: 0.75 } }], status: run("a", "running") });
  assert.deepEqual(store.history("a").iterations["reward.x"], [0.5, 0.75]);
  const histories = () => asked.filter((path) => path.includes("/history")).length;
  assert.equal(histories(), 1);
  store.onProgress({ run_id: "a", events: [], status: run("a", "running"), more: true });
  assert.equal(histories(), 2);
  // What is told until the answer comes isn't lost by it.
  store.onProgress({ run_id: "a", events: [{ type: "iteration", iteration: 2, reward: { x: 0.25 } }], status: run("a", "running"), more: true });
  assert.equal(histories(), 2);
  await settle();
  assert.deepEqual(store.history("a").iterations["reward.x"], [0.5, 0.25]);
});

test("a run that is gone is asked for once, not for as long as somebody looks", async () => {
  const { store, asked } = storeOver({});
  store.subscribe(() => store.history("gone"));
  store.history("gone");
  for (let turn = 0; turn < 20; turn += 1) await settle();
  const histories = () => asked.filter((path) => path.includes("/history")).length;
  assert.equal(histories(), 1);
  store.onProgress({ run_id: "gone", events: [], status: run("gone", "running") });
  assert.equal(histories(), 2);
  await settle();
});

test("runs that can't be listed are told in a sentence", async () => {
  const answers = { "/mixgrpo/runs": [500, { error: "The disk is away." }] };
  const { store } = storeOver(answers);
  await store.refresh();
  assert.match(store.error, /The disk is away/);
  assert.equal(await store.page({}), null, "not a list without runs");
  answers["/mixgrpo/runs"] = [200, { runs: [], total: 0, counts: {} }];
  await store.refresh();
  assert.deepEqual([store.error, (await store.page({})).total], ["", 0]);
});

test("the runs of a sweep stand together in their order, where the first of them is", () => {
  const of = (id, position) => ({ sweep: { id, position, of: 3, values: {} } });
  const list = [run("d", "queued", of("x", 3)), run("c", "running"), run("b", "queued", of("x", 2)), run("a", "finished", of("x", 1))];
  assert.deepEqual(bySweep(list).map((group) => group.map((each) => each.run_id)), [["a", "b", "d"], ["c"]]);
  assert.deepEqual(bySweep([]), []);
});

test("a comparison leaves out runs that are gone, and nothing else", async () => {
  const answers = { "/mixgrpo/runs/a": [200, run("a", "finished")], "/mixgrpo/runs/c": [200, run("c", "finished")] };
  const { routes } = storeOver(answers);
  assert.deepEqual((await detailsOf(["a", "gone", "c"], routes)).map((each) => each.run_id), ["a", "c"]);
  answers["/mixgrpo/runs/c"] = [500, { error: "The disk is away." }];
  await assert.rejects(detailsOf(["a", "c"], routes), { message: "The disk is away." });
});

test("one request cancels a sweep", async () => {
  const { routes, asked } = storeOver({ "/mixgrpo/runs/a/cancel": [200, run("a", "cancelled")] });
  await routes.cancelSweep("a");
  assert.deepEqual(asked, ["POST /mixgrpo/runs/a/cancel?sweep=1"]);
});
