"""`python -m kofn`: the command line, where its script is not on the path."""

from kofn.cli import entry

if __name__ == "__main__":
    entry()
