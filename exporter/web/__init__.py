"""The web server: exposition, health, readiness, lifecycle and the pages for people.

It serves what it is handed in a `Site` and never waits for a poll.
"""
