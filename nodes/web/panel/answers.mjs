// What a person is told when a run does what was asked of it.
import { isActive } from "../runs.mjs";

const AFTERWARDS = "To have what comes after it made, too, such as its pictures, press Run in its workflow.";

/**
 * Title and text, [] where the panel shows it anyway.
 * @param {string} action @param {boolean} isNew  whether the answer is about another run than the one that was asked
 * @param {import("../api.mjs").Run} answer  the run; its note is about what was done
 * @returns {[]|[string, string]}
 */
export function told(action, isNew, answer) {
  const waits = answer.state === "queued" && answer.stage === "turn";
  const inTurn = waits ? "It starts by itself when the trainings before it have ended." : "";
  const together = (/** @type {(string|undefined)[]} */ ...parts) => parts.filter(Boolean).join(" ");
  if (action === "save") return [isActive(answer) ? "The LoRA is saved at the end of this iteration" : "The LoRA is saved", ""];
  if (isNew) return [waits ? "Waits for its turn" : "Started anew", together(`It is the run ${answer.run_id}.`, inTurn, answer.note)];
  if (action !== "resume" && action !== "continue") return [];
  return [waits ? "The training waits for its turn" : "The training goes on", together(inTurn, answer.note, AFTERWARDS)];
}
