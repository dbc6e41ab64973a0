// Preact with templates, from one place. What stands in a template's ${...} is text, whatever it holds.
export * from "./vendor/htm-preact.mjs";
import { Component, html } from "./vendor/htm-preact.mjs";

/** Shows why what it holds can't be drawn, where a run's files hold what nobody expects; the rest goes on. */
export class Boundary extends Component {
  /** @param {Error} error */
  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    const { error } = /** @type {{error?: Error}} */ (this.state);
    return error ? html`<p class="mixgrpo-error">This can't be shown: ${error.message}</p>` : this.props.children;
  }
}
