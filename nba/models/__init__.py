"""Models of action values by name. A new one is a file beside this one, a line in MODELS, and a test."""

from __future__ import annotations

from nba.models.ensemble import Ensemble
from nba.models.linear import LinearModel
from nba.models.model import Model
from nba.models.neural_linear import NeuralLinear
from nba.models.quadratic import QuadraticModel
from nba.models.recursive import RecursiveModel
from nba.models.rff import FourierModel

MODELS: dict[str, type[Model]] = {
    "linear": LinearModel,
    "quadratic": QuadraticModel,
    "rff": FourierModel,
    "recursive": RecursiveModel,
    "neural_linear": NeuralLinear,
    "ensemble": Ensemble,
}
