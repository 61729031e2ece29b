"""`python -m neuron_explainer`, and the program: the command line."""

# Imported below, so that Ctrl-C ends the program in a line while this takes its second.

from __future__ import annotations

import sys


def main() -> None:
    """The entry point."""
    try:
        from neuron_explainer.cli import main as run_command_line
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
