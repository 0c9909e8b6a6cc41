"""Broadcasts: one append-only log per answer, any number of readers, one slot at the first of them."""
