"""Adaptive-step methods of torchdiffeq (extra ``ode``)."""

from __future__ import annotations

from bothways.numerics.solvers import Adaptive
from bothways.registry import register

DOPRI5 = register("solver", "dopri5", help="Dormand-Prince 5(4), adaptive steps")(Adaptive("dopri5"))
DOPRI8 = register("solver", "dopri8", help="Dormand-Prince 8, adaptive steps")(Adaptive("dopri8"))
BOSH3 = register("solver", "bosh3", help="Bogacki-Shampine 3(2), adaptive steps")(Adaptive("bosh3"))
ADAPTIVE_HEUN = register("solver", "adaptive_heun", help="Heun 2(1), adaptive steps")(Adaptive("adaptive_heun"))
