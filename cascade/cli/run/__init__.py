"""`cascade run`: run a goal or a plan, and show what became of it.

app       its options
command   what it does, and its exit code
output    its tables
page      its HTML page
picture   the graph on it: what is written in the boxes
layout    where they stand
"""
