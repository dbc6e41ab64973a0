// A training that asks for a vote is seen from another tab: in the page's title, and once in a toast.
import { toast } from "../comfy.mjs";

const MARK = "\u25cf Your vote: ";

/** @param {import("./store.mjs").VoteStore} votes @param {import("../runs.mjs").RunStore} runs */
export function askForVotes(votes, runs) {
  /** @type {Set<string>} */
  const told = new Set();
  const mark = () => {
    const plain = document.title.replaceAll(MARK, "");
    const wanted = votes.runs.length ? MARK + plain : plain;
    if (document.title !== wanted) document.title = wanted;
  };
  votes.subscribe(() => {
    for (const id of votes.runs.filter((each) => !told.has(each))) {
      told.add(id);
      const detail = "It shows images in the tab MixGRPO, Votes, and learns from your choice.";
      toast("info", `${runs.get(id)?.name ?? id} asks for your vote`, detail, 10_000);
    }
    mark();
  });
  // The frontend writes its own title whenever something happens.
  const title = document.querySelector("title");
  if (title) new MutationObserver(mark).observe(title, { childList: true, characterData: true, subtree: true });
}
