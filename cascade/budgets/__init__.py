"""Budgets at work: before each call a driver asks whether every budget has room for it, and says afterwards what it cost.

Read in this order: `gate` (what drivers ask), `notices` (who is notified), `delivering` (how).
"""
