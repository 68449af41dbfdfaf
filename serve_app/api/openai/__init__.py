"""The routes for OpenAI's clients: chat completions and models."""
