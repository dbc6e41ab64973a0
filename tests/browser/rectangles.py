"""Where nodes and groups stand on the screen, as a person sees them."""

# Everything as [title, left, top, width, height] in the graph's units. All of it in view: what isn't is not drawn.
RECTANGLES = """
async (unfolded) => {
  const { graph, canvas } = window.app;
  if (unfolded) for (const node of graph._nodes) unfold(node);
  function unfold(node) {
    node.showAdvanced = true;
    node.onAdded?.(graph); // where folding is the pack's own, it looks then
    const size = node.computeSize();
    node.setSize([Math.max(size[0], node.size[0]), Math.max(size[1], node.size[1])]);
  }
  const bounds = [...graph._nodes, ...graph._groups].map((item) => item.boundingRect);
  const [left, top] = [0, 1].map((axis) => Math.min(...bounds.map((box) => box[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...bounds.map((box) => box[axis] + box[axis + 2])));
  const scale = 0.8 * Math.min(window.innerWidth / (right - left), window.innerHeight / (bottom - top));
  canvas.ds.scale = scale;
  canvas.ds.offset = [80 / scale - left, 80 / scale - top];
  canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 700));
  const { offset } = canvas.ds;
  const ofNode = (node) => {
    const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    if (!box) return [node.title, ...node.boundingRect];
    return [node.title, box.x / scale - offset[0], box.y / scale - offset[1], box.width / scale, box.height / scale];
  };
  return {
    nodes: graph._nodes.map(ofNode),
    groups: graph._groups.map((group) => [group.title, ...group.boundingRect]),
  };
}
"""
ROUNDING = 2  # units: pixels are whole, the graph is shown small


def collisions(page, unfolded: bool = False) -> list[str]:
    """What lies over each other: two nodes, two groups, or a node and the edge of a group.

    unfolded: with the advanced widgets of every node shown.
    """
    found = page.evaluate(RECTANGLES, unfolded)
    nodes, groups = found["nodes"], found["groups"]
    pairs = [(a, b) for kind in (nodes, groups) for place, a in enumerate(kind) for b in kind[:place]]
    over = [f"{a[0]} lies over {b[0]}" for a, b in pairs if overlap(a, b)]
    edges = [(a, b) for a in nodes for b in groups if overlap(a, b) and not inside(a, b)]
    return over + [f"{a[0]} sticks out of {b[0]}" for a, b in edges]


def overlap(a, b) -> bool:
    return all(a[at] + ROUNDING < b[at] + b[at + 2] and b[at] + ROUNDING < a[at] + a[at + 2] for at in (1, 2))


def inside(a, b) -> bool:
    return all(a[at] >= b[at] - ROUNDING and a[at] + a[at + 2] <= b[at] + b[at + 2] + ROUNDING for at in (1, 2))
