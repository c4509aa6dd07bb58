"""Mathematics on stacks of matrices `(..., m, n)`: no parameter tree, no optimizer, no state."""

from .bases import follow_basis as follow_basis
from .coefficients import SCHEDULES as SCHEDULES
from .coefficients import Schedule as Schedule
from .gram import gram_newton_schulz as gram_newton_schulz
from .halley import halley as halley
from .newton_schulz import newton_schulz as newton_schulz
from .orthogonalize import explain as explain
from .orthogonalize import orthogonalize as orthogonalize
from .plan import Plan as Plan
from .polar_express import polar_express as polar_express
from .qr import orthonormal as orthonormal
from .roots import inverse_root as inverse_root
from .svd import svd_polar as svd_polar
from .zolotarev import zolotarev as zolotarev
