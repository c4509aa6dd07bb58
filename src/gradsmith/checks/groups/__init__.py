"""The checks, one group a file. Importing them fills the list; their order is the order of runs."""

from . import contract as contract  # isort: skip
from . import compilation as compilation  # isort: skip
from . import numbers as numbers  # isort: skip
from . import trees as trees  # isort: skip
from . import composition as composition  # isort: skip
from . import persistence as persistence  # isort: skip
from . import sharding as sharding  # isort: skip
from . import matrices as matrices  # isort: skip
from . import traits as traits  # isort: skip
