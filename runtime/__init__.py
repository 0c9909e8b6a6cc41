"""Runtime: task ownership, errors, logs, metrics, child processes. Imports nothing of ours."""
