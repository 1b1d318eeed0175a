"""Recording: every rung asked for every input, graded, into a corpus; resumable at any moment."""
