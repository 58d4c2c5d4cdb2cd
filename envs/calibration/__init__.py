"""Fitting the simulator to a decision log, and asking how well it then tells what it has not seen.

`rounds` is what a log gives, `parameters` what a calibration is and how it is kept, `response` and `population` fit
it, `match` compares simulated with held-out outcomes.
"""
