"""What may be built: architectures, axes, spaces, and their YAML. Imports no torch."""

from search_space.architecture import Architecture as Architecture
from search_space.architecture import Stage as Stage
from search_space.architecture import Stem as Stem
from search_space.census import Census as Census
from search_space.errors import ReplkError as ReplkError
from search_space.errors import SpaceError as SpaceError
from search_space.space import Constraint as Constraint
from search_space.space import DesignSpace as DesignSpace
from search_space.yaml_io import dump_architecture as dump_architecture
from search_space.yaml_io import load_architecture as load_architecture
from search_space.yaml_io import load_space as load_space
from search_space.yaml_io import shipped_names as shipped_names
