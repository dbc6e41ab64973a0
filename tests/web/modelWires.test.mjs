import assert from "node:assert/strict";
import { test } from "node:test";

import { baseSlot, loaderOf, modelInput } from "../../nodes/web/panel/modelWires.mjs";

const slots = (...names) => names.map((name) => ({ name, type: name.includes("model") ? "MODEL" : "OTHER" }));
const loader = (lora, type = "LoraLoaderModelOnly") => ({ type, widgets: [{ name: "lora_name", value: lora }] });

test("a LoRA is put behind the model without one, whatever node gives it", () => {
  const applyRun = { type: "MixGRPO_ApplyRun", outputs: slots("model", "lora_name", "base_model") };
  const blueprint = { type: "6d0f0c9c-0b0f-4c5e-9d0a-5d1f0f6f2c11", outputs: slots("model", "base_model", "run") };
  assert.deepEqual([baseSlot(applyRun, 0), baseSlot(blueprint, 0)], [2, 1]);
  const strange = { outputs: [{ name: "model", type: "MODEL" }, { name: "base_model", type: "STRING" }] };
  const refined = { outputs: slots("base_model", "refiner_model") };
  assert.deepEqual([baseSlot({ outputs: slots("clip", "model") }, 1), baseSlot(refined, 1), baseSlot(strange, 0)], [1, 1, 0]);
});

test("the loader that has a LoRA of this run is found", () => {
  const [ours, windows] = [loader("mixgrpo/a-1.safetensors"), loader("mixgrpo\\a-1-best.safetensors", "LoraLoader")];
  assert.equal(loaderOf([null, { type: "KSampler" }, ours], "a-1"), ours);
  assert.equal(loaderOf([windows], "a-1"), windows);
  const saved = loader("mixgrpo/a-1-000120.safetensors");
  assert.equal(loaderOf([saved], "a-1"), saved);
});

test("other loaders are left alone", () => {
  const others = ["mixgrpo/a-1b.safetensors", "mixgrpo/a-1-2.safetensors", "mixgrpo/a-1-2-best.safetensors", "mixgrpo/b.safetensors", "", undefined];
  assert.equal(loaderOf(others.map((name) => loader(name)), "a-1"), null);
  assert.equal(loaderOf([loader("mixgrpo/a-1.safetensors", "CheckpointLoader"), { type: "LoraLoader" }], "a-1"), null);
});

test("a node's model is changed where it is clear which one", () => {
  const inputs = (...names) => ({ inputs: names.map((name) => ({ name, type: "MODEL" })) });
  assert.deepEqual([inputs("model"), inputs("base", "tuned"), inputs("one", "two"), {}].map(modelInput), [0, 1, -1, -1]);
});
