"""What tests of the command line share."""

from whytransfer import cli


def call(*arguments: str) -> int:
    """Exit code of a command run in this process."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
