import assert from "node:assert/strict";
import { test } from "node:test";

import { isLeft, outputsKey } from "../../nodes/web/on_node/place.mjs";

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

test("nodes of a subgraph are left when another workflow comes, with the same subgraph or without", () => {
  const { root, inside } = graphs();
  assert.deepEqual([root, inside].map((graph) => isLeft({ graph })), [false, false]);
  root.subgraphs.clear();
  assert.deepEqual([root, inside].map((graph) => isLeft({ graph })), [false, true]);
  root.subgraphs.set("inside", { id: "inside", rootGraph: root });
  assert.equal(isLeft({ graph: inside }), true);
  assert.deepEqual([{}, null].map((graph) => isLeft({ graph })), [false, false], "frontends without subgraphs; removed");
});
