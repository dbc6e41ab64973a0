// Where the settings of several runs differ.

/**
 * @param {(object|undefined)[]} configs  group -> field -> value, one a run
 * @returns {{setting: string, values: any[]}[]}  undefined where a run, older or newer, doesn't know the setting
 */
export function differences(configs) {
  const flat = configs.map((config) => flattened(config ?? {}));
  const names = [...new Set(flat.flatMap((values) => Object.keys(values)))];
  return names
    .map((setting) => ({ setting, values: flat.map((values) => values[setting]) }))
    .filter(({ values }) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
}

/** @param {object} config @returns {Object<string, any>}  "group.field" -> value */
function flattened(config) {
  return Object.fromEntries(
    Object.entries(config).flatMap(([name, value]) =>
      value !== null && typeof value === "object" && !Array.isArray(value)
        ? Object.entries(flattened(value)).map(([inner, each]) => [`${name}.${inner}`, each])
        : [[name, value]],
    ),
  );
}
