"""Race optimizers: a task, entries, learning rates and seeds in; records and a report out."""

from .display import Bars as Bars
from .display import Display as Display
from .display import Lines as Lines
from .entries import Entry as Entry
from .entries import entry as entry
from .errors import RaceError as RaceError
from .executors import Executor as Executor
from .executors import Worker as Worker
from .figures import write_figures as write_figures
from .protocol import RATES as RATES
from .protocol import Protocol as Protocol
from .protocol import Race as Race
from .records import Curve as Curve
from .records import Record as Record
from .report import write_report as write_report
from .rows import Row as Row
from .rows import rows as rows
from .run import run_race as run_race
from .space import Range as Range
from .space import log as log
from .space import uniform as uniform
from .table import table as table
from .tasks import TASKS as TASKS
from .tasks import Task as Task
