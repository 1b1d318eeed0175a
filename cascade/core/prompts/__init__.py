"""The words that models are asked in: a module for each role, which holds words and nothing else."""
