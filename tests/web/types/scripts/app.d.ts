import type { ComfyApp } from "@comfyorg/comfyui-frontend-types";

/** As the frontends are that packs meet: the published types lack stores, and what nodes and widgets get at run time. */
export const app: Omit<ComfyApp, "extensionManager"> & { extensionManager: any } & Record<string, any>;

declare global {
  interface Window {
    LiteGraph: any;
  }
}
