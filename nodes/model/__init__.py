"""ComfyPolicy: a MODEL with CLIP and VAE as the engine's policy."""
