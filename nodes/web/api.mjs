// The pack's HTTP routes as functions; docs/headless.md describes them.

/**
 * @typedef {{filename: string, subfolder: string, type: string}} View  a file as ComfyUI's /view wants it
 * @typedef {{
 *   run_id: string, name: string, state: string, note?: string, created?: number|null, updated?: number,
 *   stage?: string, message?: string, phase?: string, phase_done?: number, phase_total?: number,
 *   iteration?: number, iterations?: number, eta_seconds?: number|null, train_seconds?: number|null, checkpoint?: number,
 *   reward?: Object<string, number|null>, held_out_reward?: Object<string, number|null>,
 *   held_out?: {first: number|null, last: number|null, change: number|null, error: number|null},
 *   best?: {iteration: number, score: number|null, lora: string|null}|null, lora?: string,
 *   sparkline?: {every: number, values: (number|null)[]}, window?: [number, number],
 *   memory?: {now: number, peak: number}, images_per_second?: number|null,
 *   workflow_id?: string, train_node_id?: string, queued?: number|null, detached?: boolean, held_out_prompts?: number, cancelling?: boolean, thumbnail?: View|null,
 *   images: View[], files: View[], actions?: string[], folder: string, log: string, sweep?: Sweep|null
 * }} Run  a run as the list tells of it
 * @typedef {{id: string, position: number, of: number, values: Object<string, string|number|boolean>}} Sweep
 *   the runs that it was queued with: position is from 1 on, values are the settings that differ
 * @typedef {{train: string[], held_out: string[], total: {train: number, held_out: number}}} Prompts  the first ones
 * @typedef {{iteration: number, images: Sample[]}} Samples  the images of one evaluation
 * @typedef {{view: View, prompt: string, seed: string|number, scores: Object<string, number|null>}} Sample
 * @typedef {{view: View, rewards: Object<string, number|null>, advantage: number}} GroupImage
 * @typedef {{iteration?: number, prompt?: string, window?: [number, number], images: GroupImage[]}} Group
 */

/** Whether a text can be a run's id; the server takes no other. @param {any} text */
export function isRunId(text) {
  return typeof text === "string" && /^[a-z0-9][a-z0-9-]{0,79}$/.test(text);
}

/** What a route answered when it refused: `message` is its sentence. */
export class RouteError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Routes below one path. */
export class Routes {
  root = "";

  /**
   * @param {(path: string, options?: object) => Promise<Response>} fetchApi  ComfyUI's, which knows the server's place
   * @param {(path: string) => string} apiUrl  a path below the API's root -> an address
   */
  constructor(fetchApi, apiUrl) {
    this.fetchApi = fetchApi;
    this.apiUrl = apiUrl;
  }

  /**
   * The address of a file. changed: any text that changes when the file does, so that no old one is shown.
   * @param {View} view @param {string|number} changed
   */
  viewUrl(view, changed = "") {
    const query = { filename: view.filename, subfolder: view.subfolder, type: view.type, changed };
    return this.apiUrl(withQuery("/view", query));
  }

  /** @param {string} path */
  get(path) {
    return this.request(path);
  }

  /** @param {string} path @param {object} body */
  post(path, body = {}) {
    const headers = { "Content-Type": "application/json" };
    return this.request(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  /** @param {string} path @param {object} [options] @returns {Promise<any>} */
  async request(path, options) {
    const answer = await this.fetchApi(`${this.root}${path}`, options);
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new RouteError(content.error ?? `The server answered ${answer.status}.`, answer.status);
    return content;
  }
}

export class RunsApi extends Routes {
  root = "/mixgrpo/runs";

  /** @param {{limit?: number, query?: string, state?: string, workflow?: string}} wanted */
  list(wanted = {}) {
    return this.get(withQuery("", wanted));
  }

  /** @param {string} id */
  show(id) {
    return this.get(at(id));
  }

  /** @param {string} id @param {{points?: number, after?: number}} wanted */
  history(id, wanted = {}) {
    return this.get(withQuery(`${at(id)}/history`, wanted));
  }

  /** @param {string} id */
  schedule(id) {
    return this.get(`${at(id)}/schedule`);
  }

  /** @param {string} id @returns {Promise<{samples: Samples[]}>} */
  images(id) {
    return this.get(`${at(id)}/images`);
  }

  /** @param {string} id @returns {Promise<Group>} */
  group(id) {
    return this.get(`${at(id)}/group`);
  }

  /** @param {string} id @returns {Promise<{text: string, size: number}>} */
  log(id, bytes = 20000) {
    return this.get(withQuery(`${at(id)}/log`, { bytes }));
  }

  /** @param {string} id @returns {Promise<{workflow: object|null, prompt: object|null}>} */
  workflow(id) {
    return this.get(`${at(id)}/workflow`);
  }

  /** @param {string} id @param {"cancel"|"resume"|"save"|"continue"|"restart"|"about"} action @param {object} body */
  act(id, action, body = {}) {
    return this.post(`${at(id)}/${action}`, body);
  }

  /** All runs of the run's sweep. @param {string} id */
  cancelSweep(id) {
    return this.request(withQuery(`${at(id)}/cancel`, { sweep: 1 }), { method: "POST" });
  }

  /** @param {string} id @param {boolean} loras  the published LoRAs, too */
  remove(id, loras) {
    return this.request(withQuery(at(id), { loras: loras ? 1 : 0 }), { method: "DELETE" });
  }

  /** @param {string} id */
  reportUrl(id) {
    return this.apiUrl(`${this.root}${at(id)}/report`);
  }
}

/** A path below the root. An id stays one part of it, whatever it holds. @param {string} id */
export function at(id) {
  return `/${encodeURIComponent(id)}`;
}

/** @param {string} path @param {object} values  empty ones are left out */
export function withQuery(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return query ? `${path}?${query}` : path;
}
