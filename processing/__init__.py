"""Processing: who leads and who joins, and what a leader does before the model is asked."""
