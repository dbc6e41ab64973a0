// All sets of votes, and a new one.
import { app, toast } from "../comfy.mjs";
import { html } from "../html.mjs";

const NAME = /^[a-z0-9][a-z0-9-]{0,39}$/;

/** @param {{votes: import("./store.mjs").VoteStore, onOpen: (name: string) => void}} props */
export function SetList({ votes, onOpen }) {
  const create = async () => {
    const name = await askName(votes.lastUsed);
    if (name) onOpen(name);
  };
  return html`
    <div class="mixgrpo-scroll" data-testid="mixgrpo-sets">
      <div class="mixgrpo-tools">
        <span class="mixgrpo-small mixgrpo-grow">What you choose here is what MixGRPO Reward: Taste learns.</span>
        <button class="mixgrpo-button" onClick=${create}><i class="pi pi-plus" aria-hidden="true"></i> New set</button>
      </div>
      ${votes.loaded && !votes.sets.length && html`<${Nothing} />`}
      <ul class="mixgrpo-rows">
        ${votes.sets.map(
          (set) => html`<li class="mixgrpo-row" key=${set.name} data-set=${set.name}>
            <button class="mixgrpo-open" onClick=${() => onOpen(set.name)}>
              <span class="mixgrpo-about">
                <span class="mixgrpo-name">${set.name}</span>
                <span class="mixgrpo-small">${progress(set.votes, set.pending)}</span>
                ${set.runs.length > 0 && html`<b class="mixgrpo-small mixgrpo-asks">A training asks for your vote.</b>`}
                <span class="mixgrpo-small">${set.words}</span>
              </span>
              <i class="pi pi-chevron-right" aria-hidden="true"></i>
            </button>
          </li>`,
        )}
      </ul>
    </div>
  `;
}

function Nothing() {
  return html`
    <div class="mixgrpo-hint">
      <p>No votes yet.</p>
      <p>Images come to the vote from the node <b>MixGRPO Vote</b>, from a training with <b>MixGRPO Reward: You</b>,</p>
      <p>or from <b>New set</b>: the newest group of a training, or a folder of images.</p>
    </div>
  `;
}

/** "12 votes, 3 waiting". @param {number} votes @param {number} pending */
export function progress(votes, pending) {
  return `${votes} ${votes === 1 ? "vote" : "votes"}, ${pending} waiting`;
}

/** A set's name from the person, null if they don't give one. @param {string} suggested @returns {Promise<string|null>} */
export async function askName(suggested) {
  const { dialog } = app.extensionManager;
  const message = "Which set of votes? Small letters, digits and hyphens, at most 40.";
  const name = (await dialog.prompt({ title: "Votes", message, defaultValue: suggested }))?.trim();
  if (!name) return null;
  if (NAME.test(name)) return name;
  toast("warn", "Votes", `'${name}' can't be the name of a set: use small letters, digits and hyphens, at most 40.`);
  return null;
}
