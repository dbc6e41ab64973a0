// The run panel: a sidebar tab, a button in the top bar where the frontend has room for one, a command, and toasts.
//
// The panel itself is imported when it is opened for the first time: a frontend that never shows it loads little.
import { api, app, runs, toast, votes } from "./comfy.mjs";
import { gain, outcome } from "./format.mjs";
import { askForVotes } from "./votes/attention.mjs";

const TAB = "mixgrpo";
const ICON = "pi pi-chart-line";
const COMMAND = "mixgrpo.showRuns";
const VOTE = "mixgrpo.vote";

// One element for as long as the page lives: the frontend renders a tab anew at each return to it.
const root = document.createElement("div");
root.className = "mixgrpo-root";
/** @type {Promise<typeof import("./panel/panel.mjs")>|null} */
let panel = null;
let failed = 0; // times that it couldn't be loaded

function loaded() {
  // Under the same address browsers don't ask a second time for a module that they didn't get.
  panel ??= import(`./panel/panel.mjs${failed ? `?again=${failed}` : ""}`).then(
    (module) => {
      module.mount(root);
      return module;
    },
    (error) => {
      panel = null;
      failed += 1;
      toast("error", "The MixGRPO panel can't be loaded", "It is tried again once the server is back.");
      throw error;
    },
  );
  return panel;
}

async function draw() {
  (await loaded()).cameBack();
}

function openTab() {
  app.extensionManager.sidebarTab.activeSidebarTabId = TAB;
}

/** @param {string} name  of a set of votes, "" for the list of them */
async function openVotes(name) {
  openTab();
  (await loaded()).showVotes(name);
}

app.registerExtension({
  name: "mixgrpo.panel",
  commands: [
    { id: COMMAND, label: "MixGRPO: show runs", icon: ICON, function: openTab },
    { id: VOTE, label: "MixGRPO: vote on images", icon: "pi pi-thumbs-up", function: () => openVotes("") },
  ],
  menuCommands: [{ path: ["View"], commands: [COMMAND, VOTE] }],
  actionBarButtons: [{ icon: ICON, label: "MixGRPO", tooltip: "MixGRPO runs", onClick: openTab }],

  setup() {
    app.extensionManager.registerSidebarTab({
      id: TAB,
      icon: ICON,
      title: "MixGRPO",
      tooltip: "MixGRPO runs",
      type: "custom",
      render: (/** @type {HTMLElement} */ element) => {
        element.style.height = "100%";
        element.replaceChildren(root);
        draw();
      },
    });
    api.addEventListener("reconnected", () => !panel && root.isConnected && draw());
    window.addEventListener("mixgrpo:show-run", async (event) => {
      openTab();
      (await loaded()).show(/** @type {CustomEvent} */ (event).detail.runId);
    });
    api.addEventListener("mixgrpo.node", async ({ detail }) => {
      if (panel) (await panel).follow(detail.run_id);
    });
    window.addEventListener("mixgrpo:show-votes", (event) => openVotes(/** @type {CustomEvent} */ (event).detail.name));
    runs.subscribe(showBadge);
    votes.subscribe(showBadge);
    askForVotes(votes, runs);
    runs.onEnd((run) => {
      const better = (run.held_out?.change ?? 0) >= 0;
      const severity = run.state === "finished" ? (better ? "success" : "info") : run.state === "cancelled" ? "warn" : "error";
      toast(severity, `${run.name}: ${run.state}`, (run.state === "finished" && gain(run)) || outcome(run));
    });
    runs.refresh();
    votes.refresh();
  },
});

/** How many runs are at work, or that one asks for a vote. */
function showBadge() {
  const tab = app.extensionManager.getSidebarTabs().find((/** @type {any} */ each) => each.id === TAB);
  const badge = votes.runs.length ? "!" : runs.active ? String(runs.active) : null;
  if (tab && tab.iconBadge !== badge) tab.iconBadge = badge;
}
