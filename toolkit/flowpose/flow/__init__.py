"""The flow: path, time grids and samplers, as pure functions on tensors.

Legend (the letters of RPFM, arXiv 2505.03562, and of flow matching, arXiv 2210.02747):

    x_0   noise, drawn from N(0, I)          x_1   data, the latent of a picture
    t     time: t = 0 is noise, t = 1 is data. Everything here runs upwards, from 0 to 1.
    x_t   the point of the path at time t    v     the velocity dx/dt, from noise towards data

Many code bases run t the other way round, and a sign error is silent: tests/flow pins the direction.
"""

from flowpose.flow.grids import end_dense, uniform
from flowpose.flow.path import data_from_velocity, interpolate, velocity
from flowpose.flow.samplers import SOLVERS, Velocity, solve

__all__ = [
    "SOLVERS",
    "Velocity",
    "data_from_velocity",
    "end_dense",
    "interpolate",
    "solve",
    "uniform",
    "velocity",
]
