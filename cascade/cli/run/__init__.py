"""`cascade run`: run a goal or a plan, and show what became of it.

app       its options
command   what it does, and its exit code
output    its tables
"""
