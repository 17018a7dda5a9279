"""`python -m eioku`."""

from eioku.cli import main

main()
