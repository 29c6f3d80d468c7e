"""A search from the outside: command line, records, workers, ranking, report.

Nothing imports this package.
"""
