"""What is known of an account, and what of it is saved."""
