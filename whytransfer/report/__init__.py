"""Stage 11: the table of a study, and the verdicts of claims -> one page to read, and tables for a paper."""
