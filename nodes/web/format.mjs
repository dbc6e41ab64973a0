// Numbers, times and states in words.

/** @typedef {import("./api.mjs").Run} Run */

/** A reward or another small number: 3 significant digits, never 1e-7 noise. @param {number|null|undefined} value */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("e+", "e");
  return size >= 100 ? value.toFixed(0) : value.toFixed(size >= 10 ? 2 : 3);
}

/** With its sign, and no exponent: "+0.120", "−0.0007", "±0". @param {number|null|undefined} value */
export function change(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (!size) return "±0";
  return `${value < 0 ? "−" : "+"}${size < 0.01 ? size.toFixed(4) : number(size)}`;
}

/** "0.4 s", "45 s", "12 min", "1 h 05 min", "2 d 3 h". @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${seconds < 9.95 ? Math.max(0, seconds).toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

/** "1.2 GB". @param {number|null|undefined} count */
export function bytes(count) {
  if (count === null || count === undefined || !Number.isFinite(count)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value.toFixed(power && value < 10 ? 1 : 0)} ${units[power]}`;
}

/** "Nov 26, 15:04" in the browser's language. @param {number|null|undefined} seconds  since the epoch */
export function moment(seconds) {
  if (!seconds) return "";
  const options = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  const words = new Date(seconds * 1000).toLocaleString(undefined, /** @type {any} */ (options));
  return words.replace(/\s(?=\S+$)/, "\u00a0"); // "PM" doesn't go into a line of its own
}

const PACE = 3; // iterations: the first one is slower than the others
const LONG = 600; // seconds: of so long a wait one wants to know at once, though it be too much

/** How long a run at work still takes, "" until that can be told: "about 55 s". @param {Run} run */
export function timeLeft(run) {
  if (run.state !== "running" || run.cancelling || !run.eta_seconds) return "";
  const seconds = run.eta_seconds;
  if ((run.iteration ?? 0) < PACE && seconds < LONG) return "";
  return `about ${seconds < 55 ? `${5 * Math.ceil(seconds / 5)} s` : duration(Math.max(60, seconds))}`;
}

const STAGES = {
  boot: "starting the training process",
  waiting: "waiting for the GPU",
  encode: "encoding prompts",
  load: "loading models",
  train: "training",
  resume: "going on from the checkpoint",
  compile: "compiling the model",
};

/** What a run is doing, in a few words. @param {Run} run */
export function doing(run) {
  if (run.cancelling) return "stopping, keeps a checkpoint";
  if (run.state === "dead") return "its worker is gone without a word";
  if (run.state === "queued" && run.stage === "turn") return "waiting for its turn";
  if (run.state !== "running" && run.state !== "waiting") return run.state;
  const stage = run.stage ?? "";
  return stage in STAGES ? STAGES[/** @type {keyof STAGES} */ (stage)] : stage || run.state;
}

/** A run's state in a line: "training, 12 of 300, about 1 h 05 min left". @param {Run} run */
export function stateLine(run) {
  const parts = [doing(run)];
  if (run.iteration) parts.push(`${run.iteration} of ${run.iterations ?? "?"}`);
  else if (run.phase && run.phase_total && run.phase === run.stage) {
    parts.push(`${run.phase_done} of ${run.phase_total}`);
  }
  if (run.state === "running" && run.phase === "evaluate" && run.phase_total) {
    const prompts = run.held_out_prompts === 0 ? "training" : "held-out";
    parts.push(`measuring ${prompts} prompts, ${run.phase_done} of ${run.phase_total}`);
  }
  const left = timeLeft(run);
  if (left) parts.push(`${left} left`);
  return parts.join(", ");
}

/**
 * How good it has become: "0.848 → 0.936 (+0.089 ± 0.039) held out", before there is a change "reward 0.412".
 * @param {Run} run
 */
export function rewardLine(run) {
  const held = heldOutChange(run);
  if (held) return `${fromTo(run, held)}${run.held_out_prompts === 0 ? "" : " held out"}`;
  const reward = Object.values(run.reward ?? {});
  return reward.length === 1 ? `reward ${number(reward[0])}` : "";
}

/** What tells a run from the others of its sweep: "2 of 6, seed 3". @param {Run} run */
export function inSweep(run) {
  if (!run.sweep) return "";
  const { position, of, values } = run.sweep;
  const told = Object.entries(values).filter(([name]) => name !== "name");
  return [`${position} of ${of}`, ...told.map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)].join(", ");
}

/** How far a sweep has come: "Sweep of 6: 2 finished, 1 running, 3 queued". @param {Run[]} runs  those that are known */
export function sweepLine(runs) {
  /** @type {Object<string, number>} */
  const counts = {};
  for (const { state } of runs) counts[state] = (counts[state] ?? 0) + 1;
  const told = Object.entries(counts).map(([state, count]) => `${count} ${state}`);
  return `Sweep of ${runs[0].sweep?.of}: ${told.join(", ")}`;
}

/** What evaluations tell: nothing is held out where there are too few prompts. @param {Run} run */
export function measuredChange(run) {
  return run.held_out_prompts === 0 ? "change on training prompts" : "held-out change";
}

/** "+0.120 ± 0.030", "" when nothing is known. @param {Run} run */
export function heldOutChange(run) {
  const held = run.held_out;
  if (!held || held.change === null || held.change === undefined) return "";
  const interval = held.error === null || held.error === undefined ? "" : ` ± ${change(held.error).slice(1)}`;
  return `${change(held.change)}${interval}`;
}

/** "0.936 after 150", "" while there is none. @param {Run} run */
export function bestOf({ best }) {
  if (!best) return "";
  return `${number(best.score)} ${best.iteration ? `after ${best.iteration}` : "before training"}`;
}

/** "0.848 → 0.947 (+0.099 ± 0.041)"; of runs of older versions the change alone. @param {Run} run @param {string} change */
function fromTo(run, change) {
  const { first, last } = run.held_out ?? {};
  return typeof first === "number" && typeof last === "number" ? `${number(first)} → ${number(last)} (${change})` : change;
}

/** A change against its interval, "" without one. @param {Run} run */
function verdict(run) {
  const { change, error } = run.held_out ?? {};
  if (typeof change !== "number" || typeof error !== "number") return "";
  if (Math.abs(change) <= error) return ", no clear change";
  return change > 0 ? ", clearly better" : ", clearly worse";
}

/**
 * What a finished training has brought, "" when that isn't known:
 * "On prompts it didn't train on: 0.848 → 0.947 (+0.099 ± 0.041), clearly better. Took 9 min."
 * @param {Run} run
 */
export function gain(run) {
  const parts = [];
  const held = heldOutChange(run);
  if (held) {
    const where = run.held_out_prompts === 0 ? "On its training prompts" : "On prompts it didn't train on";
    parts.push(`${where}: ${fromTo(run, held.replaceAll(" ", "\u00a0"))}${verdict(run)}.`);
  }
  if (run.train_seconds) parts.push(`Took ${duration(run.train_seconds)}.`);
  return parts.join(" ");
}

/** What tells runs of one name apart: the end of the id. @param {string} id */
export function shortId(id) {
  return id.match(/[0-9a-f]{8}(-\d+)?$/)?.[0] ?? id;
}

/** How a run ended, in words, "" while it hasn't. @param {Run} run */
export function outcome(run) {
  if (run.state === "finished") {
    const parts = [gain(run)].filter(Boolean);
    if (run.best?.lora) {
      const when = run.best.iteration ? `after iteration ${run.best.iteration}` : "before training";
      parts.push(`Best ${when} (${number(run.best.score)}).`);
    }
    if (run.message) parts.push(run.message);
    if (run.lora) parts.push(`LoRA: ${run.lora}`);
    return parts.join(" ") || "Finished.";
  }
  const kept = run.checkpoint ? `Its checkpoint holds ${run.checkpoint} iterations: press Run or Resume to go on.` : "";
  if (run.state === "cancelled") return `Cancelled. ${kept}`.trim();
  if (run.state === "failed") return `Failed: ${run.message ?? ""}`;
  if (run.state === "dead") {
    const why = run.message ? `: ${run.message}` : " (killed, or out of memory).";
    return `The worker is gone without a word${why} ${kept}`.trim();
  }
  if (run.state === "unreadable") return run.message ?? "";
  return "";
}
