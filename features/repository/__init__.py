"""The Feast repository: what is known of a customer, and which of it each pack version may use."""
