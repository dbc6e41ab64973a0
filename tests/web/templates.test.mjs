import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { nameTemplates, TITLES, titled } from "../../nodes/web/templates.mjs";

const NAMES = readdirSync(new URL("../../workflows", import.meta.url))
  .filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));

/** @param {Object<string, string[]>} packs */
function frontend(packs) {
  const api = {
    packs,
    async getWorkflowTemplates() { return this.packs; },
    apiURL(/** @type {string} */ route) { return `/base/api${route}`; },
  };
  nameTemplates(api);
  return api;
}

test("each template has a title of its own that may become a file's name", () => {
  assert.deepEqual(Object.keys(TITLES).sort(), [...NAMES].sort());
  assert.equal(new Set(Object.values(TITLES)).size, NAMES.length);
  // Hyphens and underscores of a description are shown as spaces.
  for (const title of Object.values(TITLES)) assert.match(title, /^[A-Z][A-Za-z0-9., ()]{9,32}$/);
});

test("what runs without a download comes first", () => {
  const ordered = titled([...NAMES, "a_new_one"].reverse());
  assert.equal(ordered[0], "Start here, train on shapes");
  assert.equal(ordered.indexOf("Train SD3.5 medium on 8 GB"), 11);
  assert.equal(ordered.at(-1), "a_new_one");
});

test("a title leads to its template's file and picture", async () => {
  const api = frontend({ a: ["z", "b"], ours: [...NAMES].reverse() });
  const packs = await api.getWorkflowTemplates();
  assert.deepEqual(packs, { a: ["z", "b"], ours: titled(NAMES) });
  const asked = packs.ours.map((title) => api.apiURL(`/workflow_templates/ours/${title}.json`));
  assert.deepEqual(asked.sort(), NAMES.map((name) => `/base/api/workflow_templates/ours/${name}.json`).sort());
  const picture = api.apiURL(`/workflow_templates/ours/${TITLES.your_taste}.jpg`);
  assert.equal(picture, "/base/api/workflow_templates/ours/your_taste.jpg");
  for (const route of ["/workflow_templates/ours/your_taste.json", `/workflow_templates/a/${TITLES.your_taste}.jpg`, "/queue"]) {
    assert.equal(api.apiURL(route), `/base/api${route}`, "file names and others' templates stay as they are");
  }
});

test("other packs' templates stay as they are", async () => {
  const api = frontend({ a: ["z", "b"] });
  assert.deepEqual(await api.getWorkflowTemplates(), api.packs);
});
