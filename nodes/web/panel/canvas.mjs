// What the panel does on the canvas: a run's workflow is opened, a run's LoRA is put into the graph.
import { api, app, toast } from "../comfy.mjs";
import { onOpenedRun } from "../on_node/runOfNode.mjs";
import { LOADERS, baseSlot, loaderOf, loraWidget, modelInput, modelSlot } from "./modelWires.mjs";

const [LOADER] = LOADERS;
const OF_A_TRAINING = ["MixGRPO_Train", "MixGRPO_ApplyRun"];
const TITLE = 30; // units: the title stands above a node's place
const GAP = 10;
const ALONE = "connect a model to it, and it to what shall sample. Next time select the sampler's or the model's node first.";

/** The graph that is on the screen: the workflow's own, or that of a subgraph. @returns {any} */
function graph() {
  return app.canvas.graph ?? app.graph;
}

/** Opens the workflow that a run was queued with in a tab of its own. @param {import("../api.mjs").Run} run @param {import("../api.mjs").RunsApi} routes */
export async function openWorkflow(run, routes) {
  const { workflow, prompt } = await routes.workflow(run.run_id);
  // Without its id: the frontend gives it a new one, and the tab that it came from stays what it is.
  if (workflow) await app.loadGraphData({ ...workflow, id: undefined }, true, true, run.name);
  else if (prompt) await app.loadApiJson(prompt, run.name);
  else throw new Error("The run keeps no workflow: it was started before runs did, or without ComfyUI.");
  onOpenedRun(app.graph.id, run); // its nodes show it
}

/**
 * Puts a LoRA loader with this LoRA into the graph: before the selected node, if that takes a MODEL (a KSampler), or
 * behind its MODEL output, before what that model goes to; without such a node it stands alone. A model that is trained
 * in this graph keeps its wires: what is trained next must not begin with this LoRA, nor "before" be sampled with it,
 * nor Apply Run add it twice. A loader beside it that has a LoRA of this run already is given this one instead.
 * @param {import("../api.mjs").Run} run @param {import("../api.mjs").View} lora
 */
export async function insertLora(run, lora) {
  const name = `${lora.subfolder.replace(/^loras\/?/, "")}/${lora.filename}`.replace(/^\//, "");
  const names = await refreshLists();
  // Windows lists it with backslashes.
  const listed = names.find((each) => each.replaceAll("\\", "/") === name);
  if (!listed) throw new Error(`${name} isn't among ComfyUI's LoRAs: look whether the file is still there.`);
  const source = selected((node) => modelSlot(node.outputs) >= 0);
  const sampler = !source && selected((node) => modelInput(node) >= 0 && !OF_A_TRAINING.includes(node.type));
  /** @type {any[]} */
  const outputs = source?.outputs ?? [];
  const near = outputs.flatMap((output) => targetsOf(output).map(([node]) => node));
  const has = loaderOf([source, sampler && originOf(sampler).origin, ...near], run.run_id);
  if (has) return exchange(has, listed, name);
  const loader = window.LiteGraph.createNode(LOADER);
  if (!loader) throw new Error("This frontend has no LoraLoaderModelOnly node.");
  const [x, y] = source
    ? [source.pos[0] + source.size[0] + 40, source.pos[1]]
    : sampler
      ? [sampler.pos[0] - loader.size[0] - 40, sampler.pos[1]]
      : middle();
  loader.pos = freeSpot(x, y, loader.size);
  loader.title = `LoRA: ${run.name}`;
  const widget = loraWidget(loader);
  // Before it is in the graph: newer frontends mark a node that comes with a file which its list doesn't have.
  widget.options.values = names;
  widget.value = listed;
  graph().add(loader);
  const [isReady, where] = source ? behind(source, loader) : sampler ? before(sampler, loader) : [false, ALONE];
  app.canvas.selectNode?.(loader);
  if (!source && !sampler) app.canvas.centerOnNode?.(loader); // beside a node that was just selected it is seen
  app.canvas.setDirty(true, true);
  if (isReady) toast("success", "LoRA loader added", `${name}: ${where}`);
  else toast("warn", "LoRA loader added, to be connected", `${name}: ${where}`);
}

/** The selected node, if it is one of those. @param {(node: any) => boolean} fits @returns {any} */
function selected(fits) {
  return Object.values(app.canvas.selected_nodes ?? {}).find(fits) ?? null;
}

/** @param {any} loader @param {string} listed  the LoRA as it is listed @param {string} name */
function exchange(loader, listed, name) {
  const widget = loraWidget(loader);
  const same = widget.value === listed;
  widget.value = listed;
  widget.callback?.(listed);
  app.canvas.selectNode?.(loader);
  app.canvas.setDirty(true, true);
  const told = `in ${loader.title}${same ? "" : ", which had another LoRA of this run"}.`;
  toast("success", same ? "The LoRA is there already" : "LoRA exchanged", `${name}: ${told}`);
}

/** What a node takes its model from; no origin behind a link: it comes from outside this subgraph. @param {any} sampler */
function originOf(sampler) {
  const id = sampler.inputs[modelInput(sampler)].link;
  const link = graph().getLink?.(id) ?? graph().links[id];
  return { link, origin: link && graph().getNodeById(link.origin_id) };
}

/** What an output goes to; no node: the output of a subgraph. @param {any} output @returns {[node: any, input: number][]} */
function targetsOf(output) {
  return (output.links ?? [])
    .map((/** @type {number} */ id) => graph().getLink?.(id) ?? graph().links[id])
    .map((/** @type {any} */ link) => [graph().getNodeById(link.target_id), link.target_slot]);
}

/** Whether all is connected, and what was. @param {any} sampler @param {any} loader @returns {[boolean, string]} */
function before(sampler, loader) {
  const { link, origin } = originOf(sampler);
  if (link && !origin) return [false, `${sampler.title} has its model from outside this subgraph: put it between.`];
  if (origin) origin.connect(baseSlot(origin, link.origin_slot), loader, "model");
  loader.connect(0, sampler, modelInput(sampler));
  return origin ? [true, `before ${sampler.title}.`] : [false, `before ${sampler.title}: connect a model to it.`];
}

/** Whether all is connected, and what was. @param {any} source @param {any} loader @returns {[boolean, string]} */
function behind(source, loader) {
  const slot = modelSlot(source.outputs);
  const targets = targetsOf(source.outputs[slot]);
  source.connect(baseSlot(source, slot), loader, "model");
  // No target: the output of a subgraph, whose wires stay as well.
  const isKept = targets.some(([target]) => !target || OF_A_TRAINING.includes(target.type));
  if (isKept || !targets.length) {
    return [false, `it has the model of ${source.title}. Connect its MODEL output to what shall sample with it.`];
  }
  for (const [target, input] of targets) loader.connect(0, target, input);
  return [true, `between ${source.title} and what its model goes to.`];
}

/** The first place from there on downward where a node of this size lies over no other. @param {number} x @param {number} y @param {number[]} size */
function freeSpot(x, y, [width, height]) {
  const nodes = [...graph()._nodes].sort((one, other) => one.pos[1] - other.pos[1]);
  for (const node of nodes) {
    const { pos } = node;
    const size = drawnSize(node);
    const beside = pos[0] >= x + width + GAP || x >= pos[0] + size[0] + GAP;
    const above = pos[1] - TITLE >= y + height + GAP;
    const below = y - TITLE >= pos[1] + size[1] + GAP;
    if (!beside && !above && !below) y = pos[1] + size[1] + GAP + TITLE;
  }
  return [x, y];
}

/** With Nodes 2.0 an element may be larger than its node says. @param {any} node @returns {number[]} */
function drawnSize(node) {
  const element = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  const height = element ? element.height / app.canvas.ds.scale - TITLE : 0;
  return [node.size[0], Math.max(node.size[1], height)];
}

/** The middle of what is seen of the canvas. */
function middle() {
  const { canvas, ds } = app.canvas;
  const [left, top] = ds.offset;
  return [canvas.clientWidth / 2 / ds.scale - left, canvas.clientHeight / 2 / ds.scale - top];
}

/**
 * Asks for the LoRAs anew, for the loaders that are there and those that undo or a workflow makes later; without the
 * toast of ComfyUI's own refresh.
 * @returns {Promise<string[]>}
 */
async function refreshLists() {
  const answer = await api.fetchApi(`/object_info/${LOADER}`);
  const input = (await answer.json())[LOADER].input.required.lora_name;
  // [[names], ...], or ["COMBO", {options: [names]}]
  const names = Array.isArray(input[0]) ? input[0] : input[1].options;
  for (const node of graph()._nodes.filter((/** @type {any} */ each) => LOADERS.includes(each.type))) {
    const widget = loraWidget(node);
    if (widget?.options?.values) widget.options.values = names;
  }
  for (const type of LOADERS) {
    const known = window.LiteGraph.registered_node_types[type]?.nodeData ?? {};
    const lists = [known.input?.required?.lora_name, known.inputs?.lora_name];
    for (const list of lists) {
      if (Array.isArray(list?.[0])) list[0] = names;
      else if (list?.[1]?.options) list[1].options = names;
      else if (list?.options) list.options = names;
    }
  }
  return names;
}
