import assert from "node:assert/strict";
import { test } from "node:test";

import { outputsKey } from "../../nodes/web/on_node/place.mjs";

/** A workflow's graph, and one of a subgraph in it. */
function graphs() {
  const root = { id: "root", subgraphs: new Map() };
  root.rootGraph = root;
  const inside = { id: "inside", rootGraph: root };
  root.subgraphs.set(inside.id, inside);
  return { root, inside };
}

test("a node's outputs are not those of a node with the same id in another graph", () => {
  const { root, inside } = graphs();
  assert.deepEqual([outputsKey({ id: 5, graph: root }), outputsKey({ id: 5, graph: inside })], ["5", "inside:5"]);
  assert.equal(outputsKey({ id: 5, graph: {} }), "5", "frontends without subgraphs");
});
