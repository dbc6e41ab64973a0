// Shows the text that MixGRPO Score and MixGRPO Evaluate give (table, summary) on the node itself.
import { app } from "../../scripts/app.js";
import { after } from "./on_node/after.mjs";

const NODES = ["MixGRPO_Score", "MixGRPO_Evaluate"];
const WIDGET = "result";
const STYLE = {
  margin: "0",
  padding: "4px",
  boxSizing: "border-box",
  flex: "none",
  height: "120px", // fixed: nothing may grow over the nodes below
  overflow: "auto",
  fontSize: "11px",
  userSelect: "text",
  background: "var(--comfy-input-bg)",
  color: "var(--input-text)",
};

app.registerExtension({
  name: "mixgrpo.results",

  nodeCreated(/** @type {any} */ node) {
    if (!NODES.includes(node.comfyClass)) return;
    after(node, "onExecuted", (/** @type {any} */ output) => {
      if (output?.text?.length) show(node, output.text.join("\n"));
    });
  },
});

/** @param {any} node @param {string} text */
function show(node, text) {
  let widget = node.widgets?.find((/** @type {any} */ each) => each.name === WIDGET);
  if (!widget) {
    const element = document.createElement("pre");
    // Score gives a table, Evaluate sentences.
    Object.assign(element.style, STYLE, { whiteSpace: node.comfyClass === "MixGRPO_Score" ? "pre" : "pre-wrap" });
    const room = () => 140; // with the frontend's margins
    const options = { serialize: false, hideOnZoom: false, getMinHeight: room, getMaxHeight: room };
    widget = node.addDOMWidget(WIDGET, "mixgrpo_text", element, options);
    widget.serialize = false; // neither the workflow nor the prompt holds it
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  }
  widget.element.textContent = text;
  node.setDirtyCanvas(true, true);
}
