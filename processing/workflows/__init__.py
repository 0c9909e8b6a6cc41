"""Workflows: a file of steps becomes one graph, and the graph becomes a prompt. docs/workflows.md."""
