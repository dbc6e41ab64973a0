// Where in a graph a model is taken from, and which loader has a run's LoRA already. No canvas here.

export const LOADERS = ["LoraLoaderModelOnly", "LoraLoader"];

/** The first slot that a MODEL goes through, or -1. @param {any[]|undefined} slots */
export function modelSlot(slots) {
  return (slots ?? []).findIndex((slot) => slot.type === "MODEL");
}

/** Where a node takes the model that is to be changed; -1 where that isn't clear. @param {any} node */
export function modelInput({ inputs = [] }) {
  const tuned = inputs.findIndex((/** @type {any} */ input) => input.type === "MODEL" && input.name === "tuned");
  const isAlone = inputs.filter((/** @type {any} */ input) => input.type === "MODEL").length === 1;
  return isAlone ? modelSlot(inputs) : tuned;
}

/**
 * The output that a LoRA is put behind: what Apply Run, or a subgraph around it, gives as `model` has a run's LoRA
 * already, which this one takes the place of.
 * @param {any} node @param {number} slot  the output that was used until now
 */
export function baseSlot({ outputs = /** @type {any[]} */ ([]) }, slot) {
  if (outputs[slot]?.name !== "model") return slot; // other packs have a base_model beside a refiner_model
  const base = outputs.findIndex((/** @type {any} */ output) => output.type === "MODEL" && output.name === "base_model");
  return base < 0 ? slot : base;
}

/** The first of these nodes that loads a LoRA of this run. @param {any[]} nodes @param {string} runId @returns {any} */
export function loaderOf(nodes, runId) {
  return nodes.find((node) => LOADERS.includes(node?.type) && isOf(loraWidget(node)?.value, runId)) ?? null;
}

/** @param {any} node */
export function loraWidget(node) {
  return node.widgets?.find((/** @type {any} */ each) => each.name === "lora_name");
}

/** Whether a file is called as the run's LoRAs are: the last, the best, that of an iteration. @param {any} name @param {string} runId */
function isOf(name, runId) {
  const file = String(name ?? "").split(/[\\/]/).at(-1) ?? "";
  return file.startsWith(runId) && /^(-best|-\d{6,7})?\.safetensors$/.test(file.slice(runId.length));
}
