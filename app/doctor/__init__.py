"""`refrain doctor`: looks at what a gateway would find with these settings, and says what it means."""
