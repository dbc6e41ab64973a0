export { Component, h, render } from "preact";
export * from "preact/hooks";
import type { VNode } from "preact";
export declare const html: (strings: TemplateStringsArray, ...values: any[]) => VNode;
