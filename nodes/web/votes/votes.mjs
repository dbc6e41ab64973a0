// The page Votes of the panel: all sets, or one of them.
import { html } from "../html.mjs";
import { SetList } from "./setList.mjs";
import { SetView } from "./setView.mjs";

/**
 * @param {{
 *   name: string, votes: import("./store.mjs").VoteStore, runs: import("../runs.mjs").RunStore, wide: boolean,
 *   onOpen: (name: string) => void,
 * }} props  name: the set that is open, "" for none; wide: whether the panel fills the screen
 */
export function Votes({ name, votes, runs, wide, onOpen }) {
  return html`
    ${votes.error && html`<p class="mixgrpo-error">${votes.error}</p>`}
    ${name
      ? html`<${SetView} key=${name} name=${name} votes=${votes} runs=${runs} wide=${wide} onGone=${() => onOpen("")} />`
      : html`<${SetList} votes=${votes} onOpen=${onOpen} />`}
  `;
}
