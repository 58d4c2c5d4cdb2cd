"""Learning whole sessions with RLlib. `training.rl.session` begins; Ray and torch are imported once learning does."""
