"""Write what your optimizer does to a matrix; gradsmith makes it an Optax optimizer.

The public surface: what is not here, nor in `matrix`, `checks` and `race`, is private.
"""

from . import checks as checks
from . import matrix as matrix
from . import race as race
from ._version import __version__ as __version__
from .describe import Description as Description
from .describe import describe as describe
from .lifting.axes import MatrixAxes as MatrixAxes
from .lifting.declare import uncut as uncut
from .lifting.per_stack import StackState as StackState
from .lifting.per_stack import per_matrix as per_matrix
from .lifting.per_stack import per_stack as per_stack
from .lifting.placement import Owners as Owners
from .lifting.roles import Role as Role
from .lifting.roles import partition_by_role as partition_by_role
from .lifting.roles import roles as roles
from .optimizers import muon as muon
from .transforms.adam import scale_by_adam as scale_by_adam
from .transforms.momentum import MomentumState as MomentumState
from .transforms.momentum import momentum as momentum
from .transforms.orthogonalize import orthogonalize as orthogonalize
from .transforms.shape_scale import match_operator_norm as match_operator_norm
from .transforms.shape_scale import match_rms as match_rms
from .transforms.shape_scale import scale_by_aspect_ratio as scale_by_aspect_ratio
from .transforms.soap import scale_by_soap as scale_by_soap
from .transforms.weight_decay import decay_weights as decay_weights
from .transforms.weight_decay import decay_weights_cautiously as decay_weights_cautiously
