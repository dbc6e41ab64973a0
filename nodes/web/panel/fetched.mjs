// What a route answers, asked for again when there may be more, but not all the time.
import { useEffect, useMemo, useRef, useState } from "../html.mjs";

const MILLISECONDS = 3000;

/**
 * @template T
 * @param {() => Promise<T>} ask
 * @param {string} key  of what is asked for: another one is asked for at once
 * @param {string|number} version  changes when there may be a new answer
 * @returns {[answer: T|null, error: string]}  the newest answer stays when a later question fails
 */
export function useFetched(ask, key, version) {
  const [told, setTold] = useState({ key, answer: /** @type {T|null} */ (null), error: "" });
  const latest = useRef(ask);
  latest.current = ask;
  const look = useMemo(() => {
    const answered = (/** @type {T} */ answer) => setTold({ key, answer, error: "" });
    const refused = (/** @type {Error} */ { message }) =>
      setTold((before) => ({ key, answer: before.key === key ? before.answer : null, error: message }));
    return throttled(() => latest.current().then(answered, refused), MILLISECONDS);
  }, [key]);
  useEffect(() => look.call(), [look, version]);
  useEffect(() => look.stop, [look]);
  return told.key === key ? [told.answer, told.error] : [null, ""];
}

/**
 * Works at the first call, and once after each pause in which it was called again.
 * @param {() => void} work @param {number} milliseconds
 */
export function throttled(work, milliseconds) {
  let pausing = false;
  let wanted = false;
  let timer = /** @type {any} */ (undefined);
  function call() {
    wanted = true;
    if (pausing) return;
    [wanted, pausing] = [false, true];
    work();
    timer = setTimeout(() => {
      pausing = false;
      if (wanted) call();
    }, milliseconds);
  }
  return { call, stop: () => clearTimeout(timer) };
}

/**
 * What the routes tell of those runs that are still there.
 * @param {string[]} ids @param {import("../api.mjs").RunsApi} routes @returns {Promise<any[]>}
 */
export async function detailsOf(ids, routes) {
  const gone = (/** @type {any} */ problem) => {
    if (problem.status !== 404) throw problem;
    return null;
  };
  const told = await Promise.all(ids.map((id) => routes.show(id).catch(gone)));
  return told.filter(Boolean);
}
