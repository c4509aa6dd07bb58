"""Mathematics on stacks of matrices `(..., m, n)`: no parameter tree, no optimizer, no state."""

from .bases import follow_basis as follow_basis
from .polar.coefficients import SCHEDULES as SCHEDULES
from .polar.coefficients import Schedule as Schedule
from .polar.gram_newton_schulz import gram_newton_schulz as gram_newton_schulz
from .polar.halley import halley as halley
from .polar.newton_schulz import newton_schulz as newton_schulz
from .polar.orthogonalize import explain as explain
from .polar.orthogonalize import orthogonalize as orthogonalize
from .polar.plan import Plan as Plan
from .polar.polar_express import polar_express as polar_express
from .polar.svd import svd_polar as svd_polar
from .polar.zolotarev import zolotarev as zolotarev
from .qr import orthonormal as orthonormal
from .roots import inverse_root as inverse_root
