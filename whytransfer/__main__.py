"""`python -m whytransfer` is the `whytransfer` command, for where its script is not on the path."""

from whytransfer.cli import main

if __name__ == "__main__":
    main()
