"""The API: its fields, requests, answers and rows, and the only outbound HTTP."""
