import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/vendor/", ".*/", "build/", "node_modules/"] },
  js.configs.recommended,
  {
    files: ["nodes/web/**", "tests/web/**"],
    languageOptions: { globals: globals.browser },
    rules: {
      eqeqeq: "error",
      "prefer-const": "error",
      "no-implicit-globals": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", caughtErrors: "none" }],
      // Names, prompts and log lines come from strangers: text only.
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text goes through html`` templates or textContent." },
        { property: "outerHTML", message: "Text goes through html`` templates or textContent." },
        { property: "insertAdjacentHTML", message: "Text goes through html`` templates or textContent." },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "Property[key.name=/^(innerHTML|dangerouslySetInnerHTML)$/]",
          message: "Text goes through html`` templates or textContent.",
        },
      ],
    },
  },
  { files: ["tests/web/**"], languageOptions: { globals: globals.node } },
];
