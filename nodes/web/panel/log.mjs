// What a run has said: its notices in their order, and the end of its worker's log.
import { bytes, moment } from "../format.mjs";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.mjs";

const SECONDS = 3;

/**
 * @param {{id: string, history: import("../history.mjs").RunHistory, routes: import("../api.mjs").RunsApi, active: boolean}} props
 */
export function Log({ id, history, routes, active }) {
  const [log, setLog] = useState({ text: "", size: 0 });
  const [error, setError] = useState("");
  const end = useRef(/** @type {HTMLElement|null} */ (null));
  const atEnd = useRef(true);
  useEffect(() => {
    const look = async () => {
      try {
        setLog(await routes.log(id));
        setError("");
      } catch (problem) {
        setError(/** @type {Error} */ (problem).message);
      }
    };
    look();
    if (!active) return;
    const timer = setInterval(look, SECONDS * 1000);
    return () => clearInterval(timer);
  }, [id, active]);
  useLayoutEffect(() => {
    // The newest lines stay in sight, unless somebody has scrolled away from them.
    if (atEnd.current) end.current?.scrollTo({ top: end.current.scrollHeight });
  }, [log.text]);
  const onScroll = (/** @type {any} */ { target }) => {
    atEnd.current = target.scrollTop + target.clientHeight > target.scrollHeight - 20;
  };
  return html`
    <ul class="mixgrpo-notices">
      ${history.notices.map(
        (notice) => html`<li>
          <span class="mixgrpo-small">${moment(notice.time)}, iteration ${notice.iteration}</span> ${notice.message}
        </li>`,
      )}
    </ul>
    ${error && html`<p class="mixgrpo-error">${error}</p>`}
    <p class="mixgrpo-small">The end of worker.log (${bytes(log.size)} in all)</p>
    <pre class="mixgrpo-text mixgrpo-log" ref=${end} onScroll=${onScroll}>${log.text}</pre>
  `;
}
