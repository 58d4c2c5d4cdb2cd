"""A reinforcement-learning next-best-action decision server: the domain."""
