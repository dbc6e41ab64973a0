// One set of votes: the sheet that is asked, how far one is, and what can be done with the set.
import { app, toast } from "../comfy.mjs";
import { Button } from "../button.mjs";
import { html, useEffect, useMemo, useRef, useState } from "../html.mjs";
import { Add } from "./add.mjs";
import { Ballot } from "./ballot.mjs";
import { meaning } from "./picking.mjs";
import { progress } from "./setList.mjs";
import { Sheet } from "./sheet.mjs";

/**
 * @param {{
 *   name: string, votes: import("./store.mjs").VoteStore, runs: import("../runs.mjs").RunStore, wide: boolean,
 *   onGone: () => void,
 * }} props
 */
export function SetView({ name, votes, runs, wide, onGone }) {
  const [, draw] = useState({});
  const box = useRef(/** @type {HTMLElement|null} */ (null));
  const ballot = useMemo(
    () => new Ballot(name, votes.routes, () => draw({}), (why) => toast("error", `Votes: ${name}`, why)),
    [name],
  );
  const { told, sheet } = ballot;

  useEffect(() => votes.use(name), [name]);
  useEffect(() => void ballot.look(), [ballot, votes.version]);
  // Keys are the sheet's where the panel has the focus, the canvas's elsewhere.
  const focus = () => box.current?.focus({ preventScroll: true });
  useEffect(() => {
    const timer = setTimeout(focus); // once the panel has moved there
    return () => clearTimeout(timer);
  }, [wide]);
  useEffect(() => {
    for (const { images } of ballot.waiting.slice(1))
      for (const { view } of images) new window.Image().src = votes.routes.viewUrl(view);
  }, [told]);

  /** @param {import("./picking.mjs").Meaning} what */
  function act(what) {
    if (typeof what === "object") ballot.press(what.image);
    else if (what === "pairs") ballot.togglePairs();
    else ballot[what]();
    focus();
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, dialog")) return;
    if (event.key === "Enter" && target.closest("button, a, summary")) return; // it presses what has the focus
    const what = meaning(event.key, ballot.places.length, ballot.pairs);
    if (what === null) return;
    event.preventDefault();
    event.stopPropagation(); // the frontend has keys of its own
    act(what);
  }

  async function remove() {
    const message = "All its votes and their images are deleted from the disk. What was learned from them goes, too.";
    const sure = await app.extensionManager.dialog.confirm({ title: `Delete the votes ${name}?`, message, type: "delete" });
    if (!sure) return;
    try {
      await votes.routes.remove(name);
      onGone();
    } catch (error) {
      toast("error", `Votes: ${name}`, /** @type {Error} */ (error).message);
    }
  }

  return html`
    <div class="mixgrpo-scroll mixgrpo-votes" data-testid="mixgrpo-votes" tabindex="-1" ref=${box} onKeyDown=${onKey}>
      ${ballot.error && html`<p class="mixgrpo-error">${ballot.error}</p>`}
      ${told &&
      html`<p><b data-testid="mixgrpo-progress">${progress(told.votes, ballot.pending)}</b></p>
        <p class="mixgrpo-small">${told.words}</p>`}
      ${sheet && html`<${Sheet} key=${sheet.id} ballot=${ballot} sheet=${sheet} routes=${votes.routes} runs=${runs} act=${act} />`}
      ${!sheet && (told || ballot.missing) &&
      html`<p class="mixgrpo-hint">${ballot.missing ? "This set is empty: add images to vote on." : "Nothing waits for your vote."}</p>`}
      ${told &&
      html`<div class="mixgrpo-actions mixgrpo-choices">
        <${Button} icon="pi-check" label="Next" primary on=${ballot.picks.length > 0} onClick=${() => act("enter")} />
        ${ballot.pairs && html`<${Button} icon="pi-equals" label="Equal" on=${Boolean(sheet)} onClick=${() => act("tie")} />`}
        <${Button} icon="pi-step-forward" label="Skip" on=${Boolean(sheet)} onClick=${() => act("skip")} />
        <${Button} icon="pi-undo" label="Undo" on=${ballot.canUndo} onClick=${() => act("undo")} />
        <button class="mixgrpo-button" aria-pressed=${ballot.pairs} onClick=${() => act("pairs")}>
          <i class="pi pi-clone" aria-hidden="true"></i> Pairs
        </button>
      </div>`}
      ${sheet && html`<p class="mixgrpo-small">${keys(ballot.places.length, ballot.pairs)}</p>`}
      <${Add} key=${String(Boolean(sheet))} name=${name} open=${!sheet} routes=${votes.routes} runs=${runs} onAdded=${() => ballot.look()} />
      ${told &&
      html`<div class="mixgrpo-actions">
        <a class="mixgrpo-button" href=${votes.routes.zipUrl(name)} download=${`${name}.zip`}>
          <i class="pi pi-download" aria-hidden="true"></i> Download
        </a>
        <${Button} icon="pi-trash" label="Delete" on onClick=${remove} />
      </div>`}
    </div>
  `;
}

/** @param {number} count @param {boolean} pairs */
function keys(count, pairs) {
  if (pairs) return "Keys: 1 or \u2190 and 2 or \u2192 choose, 0 equal, S skips, Z takes back, P shows all images.";
  const rest = "S skips, Z takes back, P shows pairs.";
  if (count === 2) return `Keys: 1 and 2 choose. ${rest}`;
  return `Keys: 1 to ${Math.min(count, 9)} pick the best, then the worst; Enter after the best is enough. ${rest}`;
}
