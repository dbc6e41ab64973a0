// Which run a node of the graph on the canvas is about.
import { app, runs } from "../comfy.mjs";
import { isActive } from "../runs.mjs";

/** @type {Map<string, string>} place of a node -> id of the run that the server has told since the page was loaded */
const told = new Map();
/** @type {Map<string, string>} the same of workflows that were opened from a run: it stays that run of a sweep */
const opened = new Map();
/** @type {Set<string>} workflows and runs that the server was asked for */
const asked = new Set();
/** The id of a graph that was never given one. */
const NOBODYS = "00000000-0000-0000-0000-000000000000";

/** @param {{workflow_id: string, node_id: string, run_id: string}} detail  of the event mixgrpo.node */
export function onNodeRun({ workflow_id, node_id, run_id }) {
  told.set(`${workflow_id}/${node_id}`, run_id);
  opened.delete(`${workflow_id}/${node_id}`);
  runs.look(run_id).catch(() => {}); // deleted meanwhile
}

/** @param {string} workflowId @param {import("../api.mjs").Run} run  whose workflow this is */
export function onOpenedRun(workflowId, run) {
  opened.set(`${workflowId}/${run.train_node_id}`, run.run_id);
  runs.changed();
}

/**
 * The run that was told of; after a reload the newest one that this Train node has started; for Wait that of the Train
 * node before it, or the run whose id is written in it.
 * @param {any} node @returns {string|undefined}
 */
export function runOfNode(node) {
  if (!node.graph) return undefined;
  const root = node.graph.rootGraph ?? app.graph;
  const nodeId = pathOf(node, root);
  const slot = node.inputs.findIndex((/** @type {any} */ input) => input.name === "run");
  const before = slot < 0 ? null : node.getInputNode(slot);
  if (before?.comfyClass?.startsWith("MixGRPO_")) return runOfNode(before);
  const shown = opened.get(`${root.id}/${nodeId}`);
  if (shown) return shown;
  const known = told.get(`${root.id}/${nodeId}`);
  if (known) return atWork(known);
  if (node.comfyClass === "MixGRPO_Train") return startedBy(root.id, nodeId);
  if (before) return undefined;
  const written = String(node.widgets?.find((/** @type {any} */ widget) => widget.name === "run_id")?.value ?? "").trim();
  if (written && !runs.get(written)) look(written);
  return runs.get(written)?.run_id;
}

/** The run that a workflow's node has queued last. @param {string} workflow @param {string|null} nodeId */
function startedBy(workflow, nodeId) {
  if (!workflow || workflow === NOBODYS) return undefined;
  ask(workflow, () => runs.page({ workflow })); // the store begins with the newest runs only
  const its = runs.all().filter((run) => run.workflow_id === workflow && run.train_node_id === nodeId);
  const newest = its.sort((one, other) => (other.queued ?? 0) - (one.queued ?? 0))[0]?.run_id;
  return newest && atWork(newest);
}

/** The run of the same sweep that is at work; once none is, the last one. @param {string} runId */
function atWork(runId) {
  const sweep = runs.get(runId)?.sweep;
  if (!sweep) return runId;
  const all = runs.all().filter((run) => run.sweep?.id === sweep.id);
  all.sort((one, other) => (one.sweep?.position ?? 0) - (other.sweep?.position ?? 0));
  return (all.find((run) => isActive(run) && run.stage !== "turn") ?? all.find(isActive) ?? all[all.length - 1]).run_id;
}

/** @param {string} runId */
function look(runId) {
  ask(runId, () => runs.look(runId).catch(() => {})); // there may be no such run
}

/** @param {string} what @param {() => void} question  asked once a page, as drawing does it often */
function ask(what, question) {
  if (asked.has(what)) return;
  asked.add(what);
  queueMicrotask(question);
}

/**
 * A node's id as the server knows it: inside a subgraph, that of each graph around it comes first, as in "12:5".
 * @param {any} node @param {any} graph @returns {string|null}
 */
function pathOf(node, graph) {
  if (node.graph === graph) return String(node.id);
  for (const each of graph.nodes) {
    const rest = each.subgraph && pathOf(node, each.subgraph);
    if (rest) return `${each.id}:${rest}`;
  }
  return null;
}
