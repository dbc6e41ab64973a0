// One person at one set of votes: what is asked, what is picked, and the answers on their way to the server.
import { isComplete, orderOf, picked } from "./picking.mjs";

/** @typedef {import("./api.mjs").Sheet} Sheet @typedef {import("./api.mjs").Told} Told */

export class Ballot {
  /**
   * @param {string} name @param {import("./api.mjs").VotesApi} routes
   * @param {() => void} changed  told of every change @param {(why: string) => void} refused  an answer wasn't taken
   */
  constructor(name, routes, changed, refused) {
    this.name = name;
    this.routes = routes;
    this.changed = changed;
    this.refused = refused;
    /** @type {Told|null} what the server has said last */
    this.told = null;
    this.error = "";
    this.missing = false; // nobody has voted here, nor added anything
    this.pairs = false;
    /** @type {number[]} places of the best and the worst image of the sheet, as far as they are picked */
    this.picks = [];
    /** @type {Set<string>} sheets whose answers are on their way */
    this.sent = new Set();
    this.current = ""; // the sheet that is asked: it stays until it is answered, here or elsewhere
    this.last = Promise.resolve(); // answers go one after the other
    this.asked = 0; // questions to the server, of which only the newest one's answer counts
  }

  /** Sheets without an answer, the one that is asked first. @returns {Sheet[]} */
  get waiting() {
    const open = (this.told?.next ?? []).filter((sheet) => !this.sent.has(sheet.id) && sheet.images.length > 1);
    const first = open.findIndex((sheet) => sheet.id === this.current);
    return first > 0 ? [open[first], ...open.filter((_, place) => place !== first)] : open;
  }

  /** @returns {Sheet|undefined} */
  get sheet() {
    return this.waiting[0];
  }

  /** Places of the images that are shown. */
  get places() {
    return (this.sheet?.images ?? []).map((image) => image.place);
  }

  /** How many sheets wait, those aside whose answers are on their way. */
  get pending() {
    return Math.max(0, (this.told?.pending ?? 0) - this.sent.size);
  }

  get canUndo() {
    return Boolean(this.picks.length || this.sent.size || this.told?.can_undo);
  }

  /** Asks the server again. */
  look() {
    return this.ask(() => this.routes.show(this.name, this.pairs));
  }

  /** @param {() => Promise<Told>} question */
  async ask(question) {
    const number = ++this.asked;
    try {
      const told = await question();
      if (number === this.asked) this.take(told);
    } catch (error) {
      if (number !== this.asked) return;
      const { status, message } = /** @type {import("../api.mjs").RouteError} */ (error);
      this.missing = status === 404;
      this.told = this.missing ? null : this.told;
      this.error = this.missing ? "" : message;
      this.changed();
    }
  }

  /** @param {Told} told */
  take(told) {
    this.told = told;
    this.error = "";
    this.missing = false;
    this.turn(told.undone);
  }

  /** Another sheet, where the one that was asked is gone. @param {string} [id]  the one that comes next */
  turn(id = this.current) {
    const before = this.current;
    this.current = id;
    this.current = this.sheet?.id ?? "";
    if (this.current !== before || this.picks.some((place) => !this.places.includes(place))) this.picks = [];
    this.changed();
  }

  /** The how-manieth image that is shown is picked, from 0. @param {number} number */
  press(number) {
    const place = this.places[number];
    if (place === undefined) return;
    this.picks = picked(this.picks, place);
    if (isComplete(this.picks, this.places)) this.enter();
    else this.changed();
  }

  /** What is picked is the answer. */
  enter() {
    if (this.picks.length) this.send({ order: orderOf(this.picks, this.places) });
  }

  /** All that is shown is equally good. */
  tie() {
    return this.send({ order: [this.places] });
  }

  skip() {
    return this.send({ skip: true });
  }

  /** The next sheet comes at once; the answer follows. @param {{order: number[][]}|{skip: true}} answer */
  send(answer) {
    const id = this.sheet?.id;
    if (!id) return;
    this.sent.add(id);
    this.picks = [];
    this.turn();
    return this.after(() => this.routes.vote(this.name, this.pairs, { sheet: id, ...answer }), id);
  }

  /** The last answer is taken back, and asked again; before that, what is picked. */
  undo() {
    if (!this.canUndo) return;
    if (!this.picks.length) return this.after(() => this.routes.undo(this.name, this.pairs));
    this.picks = [];
    this.changed();
  }

  /** Two images at a time, or all of a sheet. */
  async togglePairs() {
    this.pairs = !this.pairs;
    this.picks = [];
    this.changed();
    await this.look();
  }

  /** @param {() => Promise<Told>} work  after what is on its way @param {string} [id]  the sheet that it answers */
  after(work, id = "") {
    this.last = this.last.then(async () => {
      const { pairs } = this;
      try {
        const told = await work();
        this.sent.delete(id);
        if (pairs !== this.pairs) return await this.look();
        this.asked += 1; // what was asked before knows nothing of it
        this.take(told);
      } catch (error) {
        this.sent.delete(id);
        this.refused(/** @type {Error} */ (error).message);
        await this.look();
      }
    });
    return this.last;
  }
}
