"""A vision-language model as scorer, behind an OpenAI-compatible server."""
