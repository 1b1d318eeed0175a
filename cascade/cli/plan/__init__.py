"""`cascade plan`: how assigned rungs have fared, and hints for the planner."""
