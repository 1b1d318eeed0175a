"""Live budgets: before each call a driver checks that every budget has room for it, and afterwards settles what it cost.

Read in this order: `gate` (what drivers call), `notices` (what is notified), `delivering` (how it is sent).
"""
