"""Stage 9, a grid of pretrainings, tasks and diagnoses -> a table. It runs cells and does not know what a stage does.

cells.py          what a cell is, and the key that stands for all that decides its result
sources.py        the code behind a stage, as a hash
contents.py       the images and weights behind a string, as a fingerprint
plan.py           a study file -> cells
store.py          the folder of a study: cells, their rows, and which study calls them what
status.py         which cells are finished, which are not and why
costs.py          what the rest will take
running.py        one cell, from its lock to its rows
schedule.py       many cells, each when what it needs is there
executors.py      where cells run: in this process, in a pool of processes (worker.py), on Ray (ray_executor.py)
query.py          SQL over the rows
scores.py         what claims and report ask of the table
statistics.py     how sure a comparison is: seeds as the unit
"""
