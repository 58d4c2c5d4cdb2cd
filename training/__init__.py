"""Learning from the simulator and from the log; judging, promoting and taking back what was learned."""
