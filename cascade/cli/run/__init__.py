"""`cascade run`: run a goal or a plan, and show what became of it.

layout      where a plan's boxes stand
picture     what is written in them
page        the HTML page of a run
"""
