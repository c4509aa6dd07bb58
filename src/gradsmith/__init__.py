"""Write what your optimizer does to a matrix; gradsmith makes it an Optax optimizer.

The public surface: what is not here, nor in `matrix`, `checks` and `race`, is private.
"""

from . import checks as checks
from . import matrix as matrix
from . import race as race
from ._version import __version__ as __version__
from .layout.axes import MatrixAxes as MatrixAxes
from .layout.declare import without_cuts as without_cuts
from .layout.roles import Role as Role
from .layout.roles import roles as roles
from .lift.partition_by_role import partition_by_role as partition_by_role
from .lift.per_gram import per_gram as per_gram
from .lift.per_stack import StackState as StackState
from .lift.per_stack import per_matrix as per_matrix
from .lift.per_stack import per_stack as per_stack
from .observe.describe import Description as Description
from .observe.describe import describe as describe
from .observe.fit_state import StateFit as StateFit
from .observe.fit_state import fit_state as fit_state
from .observe.state_shardings import state_shardings as state_shardings
from .observe.update_cost import UpdateCost as UpdateCost
from .observe.update_cost import update_cost as update_cost
from .optimizers import ademamix as ademamix
from .optimizers import asgo as asgo
from .optimizers import mars_adamw as mars_adamw
from .optimizers import mars_muon as mars_muon
from .optimizers import muon as muon
from .optimizers import normuon as normuon
from .optimizers import shampoo as shampoo
from .optimizers import soap as soap
from .sites.placement import Owners as Owners
from .transforms.adam import scale_by_adam as scale_by_adam
from .transforms.ademamix import ademamix_warmup as ademamix_warmup
from .transforms.ademamix import scale_by_ademamix as scale_by_ademamix
from .transforms.average_weights import average_weights as average_weights
from .transforms.average_weights import averaged_weights as averaged_weights
from .transforms.blocks import per_block as per_block
from .transforms.graft import graft as graft
from .transforms.mars import correct_by_mars as correct_by_mars
from .transforms.momentum import MomentumState as MomentumState
from .transforms.momentum import momentum as momentum
from .transforms.neuron_rms import scale_by_neuron_rms as scale_by_neuron_rms
from .transforms.orthogonalize import orthogonalize as orthogonalize
from .transforms.orthogonalize import polar_factor as polar_factor
from .transforms.qk_clip import clip_qk as clip_qk
from .transforms.qk_clip import qk_clip as qk_clip
from .transforms.shampoo import scale_by_shampoo as scale_by_shampoo
from .transforms.shape_scale import match_operator_norm as match_operator_norm
from .transforms.shape_scale import match_rms as match_rms
from .transforms.shape_scale import scale_by_aspect_ratio as scale_by_aspect_ratio
from .transforms.sides import scale_by_learning_rate as scale_by_learning_rate
from .transforms.soap import scale_by_soap as scale_by_soap
from .transforms.weight_decay import decay_weights as decay_weights
from .transforms.weight_decay import decay_weights_cautiously as decay_weights_cautiously
