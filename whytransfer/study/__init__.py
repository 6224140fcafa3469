"""Stage 9: a grid of pretrainings, tasks and diagnoses -> a table. What a stage does, it does not know."""
