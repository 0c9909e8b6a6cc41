"""The only door to a model: its HTTP client, its wire format and the rules for trying again."""
