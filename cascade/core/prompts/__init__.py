"""The words that models are asked in, one module for each role."""
