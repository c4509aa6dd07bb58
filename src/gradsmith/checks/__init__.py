"""Tell anyone what is wrong with their optimizer.

The checks import nothing else of gradsmith: a stranger's transformation is an equal guest. Start
with `check_optimizer`; in pytest use `parametrize`; `docs/checks.md` lists every check.
"""

from .check import Check as Check
from .difference import Difference as Difference
from .difference import OptimizersDifferError as OptimizersDifferError
from .difference import assert_same_optimizer as assert_same_optimizer
from .difference import diff as diff
from .entry import CheckReportError as CheckReportError
from .entry import check_optimizer as check_optimizer
from .pytest_plugin import parametrize as parametrize
from .registry import all_checks as all_checks
from .report import Report as Report
from .subject import Subject as Subject
from .verdicts import Advice as Advice
from .verdicts import CheckFailure as CheckFailure
from .verdicts import Result as Result
