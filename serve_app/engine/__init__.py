"""One vLLM engine: what goes in, what comes out, and answers given again."""
