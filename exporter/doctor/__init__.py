"""A report about the server and the set-up that a person reads."""
