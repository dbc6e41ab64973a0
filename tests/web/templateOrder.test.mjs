import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { inOrder, orderTemplates } from "../../nodes/web/templateOrder.mjs";

const NAMES = readdirSync(new URL("../../workflows", import.meta.url))
  .filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));

test("what runs without a download comes first, then the others by name", () => {
  const ordered = inOrder([...NAMES].reverse());
  assert.deepEqual(ordered.slice(0, 2), ["shapes_alignment", "explore_group"]);
  assert.deepEqual(ordered.slice(7, 9), ["chroma_16gb", "diffusers_folder"]);
  assert.ok(ordered.indexOf("sd35_medium_8gb") < ordered.indexOf("sd35_medium_16gb"));
  assert.deepEqual([...ordered].sort(), [...NAMES].sort());
});

test("other packs' templates stay as they are", async () => {
  const api = { packs: { a: ["z", "b"], ours: [...NAMES].reverse() }, async getWorkflowTemplates() { return this.packs; } };
  orderTemplates(api);
  const packs = await api.getWorkflowTemplates();
  assert.deepEqual(packs.a, ["z", "b"]);
  assert.deepEqual(packs.ours, inOrder(NAMES));
  api.packs = { a: ["z", "b"] };
  assert.deepEqual(await api.getWorkflowTemplates(), api.packs);
});
