"""`python -m bitdraft`."""

from bitdraft.cli import main

main()
