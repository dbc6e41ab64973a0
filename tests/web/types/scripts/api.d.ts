import type { ComfyApi } from "@comfyorg/comfyui-frontend-types";

/** With the events of custom packs, which the published types don't know. */
export const api: Omit<ComfyApi, "addEventListener"> & {
  addEventListener(type: string, listener: (event: CustomEvent<any>) => void): void;
};
