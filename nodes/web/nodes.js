// What the nodes show, and how their widgets and wires look.
import { api, app, runs } from "./comfy.mjs";
import { readFirstView, showFirstView } from "./firstView.mjs";
import { colorWires } from "./on_node/colors.mjs";
import { fold, foldAll } from "./on_node/folding.mjs";
import { showExactly } from "./on_node/numbers.mjs";
import { showRun } from "./on_node/runDisplay.mjs";
import { onNodeRun } from "./on_node/runOfNode.mjs";
import { nameTemplates } from "./templates.mjs";

const WITH_RUN = ["MixGRPO_Train", "MixGRPO_Wait"];

nameTemplates(api); // at once: the frontend asks while it starts

app.registerExtension({
  name: "mixgrpo.nodes",

  setup() {
    colorWires();
    // The old canvas and Nodes 2.0 fold by different means.
    app.ui.settings.addEventListener("Comfy.VueNodes.Enabled.change", () => setTimeout(foldAll));
    api.addEventListener("mixgrpo.node", ({ detail }) => onNodeRun(detail));
  },

  beforeConfigureGraph: readFirstView,
  afterConfigureGraph: () => showFirstView(app.canvas),

  nodeCreated(/** @type {any} */ node) {
    if (!node.comfyClass?.startsWith("MixGRPO_")) return;
    showExactly(node);
    fold(node);
    if (WITH_RUN.includes(node.comfyClass)) showRun(node, runs);
  },
});
