"""`python -m runs`: the same program from a clone with nothing installed."""

from runs.cli import main

if __name__ == "__main__":
    main()
