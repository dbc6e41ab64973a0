// Where a node is: in the workflow's own graph or in a subgraph, and whether that one is still there. No elements here.

/** The key that the frontend keeps a node's outputs under: in each subgraph the ids begin anew. @param {any} node */
export function outputsKey({ id, graph }) {
  return isInside(graph) ? `${graph.id}:${id}` : String(id);
}

/**
 * Whether a node's subgraph is no longer the workflow's: when another workflow comes, only the nodes outside of subgraphs
 * are told that they are removed.
 * @param {any} node
 */
export function isLeft({ graph }) {
  return isInside(graph) && ![...graph.rootGraph.subgraphs.values()].includes(graph);
}

/** @param {any} graph */
function isInside(graph) {
  return Boolean(graph?.rootGraph) && graph.rootGraph !== graph;
}
