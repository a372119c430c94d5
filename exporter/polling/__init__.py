"""The polls of one account: what is due, read, tracked, saved, published."""
