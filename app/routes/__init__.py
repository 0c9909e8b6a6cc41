"""The routes, by who uses them: native clients, OpenAI clients, operators."""
