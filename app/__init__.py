"""The edge: HTTP in, HTTP out, and the one place where everything is put together."""
