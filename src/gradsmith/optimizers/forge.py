"""forge: the recipe that we recommend, from our own races."""

from typing import Unpack

import optax
from jax.typing import ArrayLike

from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..xla.arithmetic import Precision
from .shared import Shared, by_role, takes_shared, vectors_last, with_tables
from .soap_muon import whitened_muon


@takes_shared
def forge(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ScalarOrSchedule = 0.9,
    refresh_every: ArrayLike = 10,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """SOAP-Muon on the smaller side for all matrices, AdamW for the vectors; our recommendation.

    It is `soap_muon` with a basis of the smaller side alone, refreshed every tenth step, and a
    shorter momentum. Embeddings and heads are matrices too, and the vectors have the full learning
    rate. docs/evidence.md has the race behind it, each part left out, and what was tried beside.
    That race is of a small model and short runs. For a long run try a momentum of 0.95 as well;
    for a vocabulary of many thousands, AdamW as `embedding` and `head`.

    State for a matrix `(m, n)` with `m <= n`: `2 m n + 2 m^2`, two copies of a vector. Costs the
    products of `muon`, and `6 m^2 n` more flops; `10 m^3` and a QR at a refresh.

    Args:
        learning_rate: That of all leaves, a number or a schedule; typically 0.03. It is the
            spectral norm of an update where layers narrow.
        momentum: The part of the momentum that survives a step, a number or a schedule such as
            `trapezoid`; Keller Jordan's kind.
        refresh_every: The number of steps between refreshes of the bases.
        precision: The arithmetic of the orthogonalization; see `gradsmith.matrix.orthogonalize`.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.forge(0.03, weight_decay=0.01)

    References:
        modded-nanogpt, optimization track, records 14 to 46, for the whitened momentum;
        https://github.com/KellerJordan/modded-nanogpt
    """
    direction = whitened_muon(
        momentum,
        refresh_every=refresh_every,
        sides="smaller",
        precision=precision,
        placement=placement,
    )
    embedding, head = direction(vectors_last), direction(shared.get("axes"))
    shared = with_tables(shared, learning_rate, embedding=embedding, head=head)
    return by_role(direction, learning_rate, **shared)
