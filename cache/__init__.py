"""The answer cache: sealed answers in the process and in Redis, reached through one fast lane."""
