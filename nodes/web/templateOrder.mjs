// The frontend lists a pack's templates as the disk does. These come first; the others follow by name.
const FIRST = [
  "shapes_alignment", "explore_group", "compare_models", "hybrid_inference", "rank_images", "edit_alignment", "your_taste",
];

/** @param {string[]} names @returns {string[]} */
export function inOrder(names) {
  const place = (/** @type {string} */ name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...names].sort((a, b) => place(a) - place(b) || a.localeCompare(b, "en", { numeric: true }));
}

/** Has `api` list this pack's templates in that order. @param {any} api */
export function orderTemplates(api) {
  const listed = api.getWorkflowTemplates;
  api.getWorkflowTemplates = async function () {
    const packs = await listed.apply(this, arguments);
    const mine = Object.keys(packs).find((pack) => FIRST.every((name) => packs[pack].includes(name)));
    return mine ? { ...packs, [mine]: inOrder(packs[mine]) } : packs;
  };
}
