// This pack's templates in the frontend's browser, which lists file names as the disk does: here with titles for people,
// in an order of their own. A title stands for its file wherever the frontend asks for the template or its picture.
/** File -> title, in their order; a title may become a file's name, on Windows, too. @type {Object<string, string>} */
export const TITLES = {
  shapes_alignment: "Start here, train on shapes",
  explore_group: "Look at a group before you train",
  compare_models: "Compare tuned with base model",
  hybrid_inference: "Tuned model first, then base",
  rank_images: "Best of twelve images",
  edit_alignment: "Train a tiny edit model",
  your_taste: "Your taste is the reward",
  preference_scores: "Five preference scores",
  judge_images: "A VLM judges images",
  judge_edits: "Judge edits beside the source",
  http_reward: "Your own scorer over HTTP",
  sd35_medium_8gb: "Train SD3.5 medium on 8 GB",
  sd35_medium_16gb: "Train SD3.5 medium on 16 GB",
  diffusers_folder: "Train a diffusers folder, 16 GB",
  flux_dev_12gb: "Train FLUX.1 dev fp8 on 12 GB",
  flux_dev_fp8_24gb: "Train FLUX.1 dev fp8 on 24 GB",
  flux_dev_48gb: "Train FLUX.1 dev bf16 on 48 GB",
  flux_dev_80gb: "Train FLUX.1 dev bf16 on 80 GB",
  flux2_klein_12gb: "Train FLUX.2 klein on 12 GB",
  z_image_16gb: "Train Z Image on 16 GB",
  chroma_16gb: "Train Chroma1 HD on 16 GB",
  qwen_image_24gb: "Train Qwen Image on 24 GB",
  wan22_5b_24gb: "Train Wan 2.2 5B on 24 GB",
};
const FILES = Object.keys(TITLES);

/** @param {string[]} files @returns {string[]} titles in our order; then files that have none */
export function titled(files) {
  const others = files.filter((file) => !(file in TITLES)).sort();
  return [...FILES.filter((file) => files.includes(file)).map((file) => TITLES[file]), ...others];
}

/** Has `api` list this pack's templates so, and find their files. @param {any} api */
export function nameTemplates(api) {
  const { getWorkflowTemplates, apiURL } = api;
  let pack = "";
  api.getWorkflowTemplates = async function () {
    const packs = await getWorkflowTemplates.apply(this, arguments);
    pack = Object.keys(packs).find((each) => packs[each].includes(FILES[0]) && packs[each].includes(FILES[1])) ?? "";
    return pack ? { ...packs, [pack]: titled(packs[pack]) } : packs;
  };
  api.apiURL = function (/** @type {string} */ route) {
    const place = `/workflow_templates/${pack}/`, asked = String(route);
    const file = pack && asked.startsWith(place) && FILES.find((each) => asked.startsWith(`${place}${TITLES[each]}.`));
    return apiURL.call(this, file ? place + file + asked.slice(place.length + TITLES[file].length) : route);
  };
}
