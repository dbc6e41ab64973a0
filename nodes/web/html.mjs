// Preact with templates, from one place. What stands in a template's ${...} is text, whatever it holds.
export * from "./vendor/htm-preact.mjs";
