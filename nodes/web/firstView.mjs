// A template of this pack opens on its note and first nodes, in a size that can be read: newer frontends show every
// template whole. The mark is taken out when it is read, so that a view that a person chose stays.
const MARK = "mixgrpo_first_view";

/** @type {{ scale: number, offset: [number, number] } | undefined} */
let wanted;

/** Before a graph is put on the canvas. @param {{ extra?: Record<string, any> }} workflow */
export function readFirstView(workflow) {
  const extra = workflow?.extra ?? {};
  wanted = extra[MARK] ? extra.ds : undefined;
  delete extra[MARK];
}

/** After it: the frontend fits the view in the next frames. @param {any} canvas */
export function showFirstView(canvas) {
  const view = wanted;
  if (!view) return;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    if (view !== wanted) return; // another graph came
    canvas.ds.scale = view.scale;
    canvas.ds.offset = [...view.offset];
    canvas.setDirty(true, true);
  }));
}
