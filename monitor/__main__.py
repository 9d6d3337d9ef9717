"""Runs the command line as ``python -m monitor``."""

from monitor._launch import main

main()
