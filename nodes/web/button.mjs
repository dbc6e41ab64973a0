// A button with an icon.
import { html } from "./html.mjs";

/** @param {{icon: string, label: string, on: boolean, primary?: boolean, title?: string, onClick: () => void}} props */
export function Button({ icon, label, on, primary = false, title, onClick }) {
  const look = `mixgrpo-button${primary ? " mixgrpo-primary" : ""}`;
  return html`<button class=${look} title=${title} disabled=${!on} onClick=${onClick}>
    <i class=${`pi ${icon}`} aria-hidden="true"></i>${label}
  </button>`;
}
