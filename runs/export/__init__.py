"""A network of a run as a package of its own, which needs nothing of this project."""
