"""The load generator: simulated customers against a running server, as apps would bring them."""
