// What a run has said: its notices in their order, and the end of its worker's log.
import { bytes, moment } from "../format.mjs";
import { html, useEffect, useState } from "../html.mjs";
import { useEnd } from "./end.mjs";

const SECONDS = 3;
const LONG = 160; // characters of a notice

/**
 * @param {{id: string, history: import("../history.mjs").RunHistory, routes: import("../api.mjs").RunsApi, active: boolean}} props
 */
export function Log({ id, history, routes, active }) {
  const [log, setLog] = useState({ text: "", size: 0 });
  const [error, setError] = useState("");
  const { ref, onScroll } = useEnd("Top", log.text);
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
    const timer = setInterval(() => ref.current?.isConnected && look(), SECONDS * 1000); // not while the panel is closed
    return () => clearInterval(timer);
  }, [id, active]);
  return html`
    <ul class="mixgrpo-notices">
      ${history.notices.map(
        (notice) => html`<li>
          <span class="mixgrpo-small">${moment(notice.time)}, iteration ${notice.iteration}</span> <${Notice} message=${notice.message} />
        </li>`,
      )}
    </ul>
    ${error && html`<p class="mixgrpo-error">${error}</p>`}
    <p class="mixgrpo-small">The end of worker.log (${bytes(log.size)} in all)</p>
    <pre class="mixgrpo-text mixgrpo-log" ref=${ref} onScroll=${onScroll}>${log.text}</pre>
  `;
}

/** A long notice is folded behind its first words. @param {{message: string}} props */
function Notice({ message }) {
  const [first] = message.length > LONG ? (message.match(/^.{10,120}?[.:,](?=\s)/) ?? [""]) : [""];
  if (!first) return message;
  return html`<details class="mixgrpo-notice">
    <summary>${first} …</summary>
    ${message.slice(first.length).trim()}
  </details>`;
}
