"""What the ledger knows of plans: how the rungs that planners assign have fared, and what runs cost by role.

    subtasks   a period's requests → runs, with what became of each subtask
    bounds     exact intervals of a rate, over runs
    cells      figures by kind of work and assigned rung
    report     which kinds are assigned a rung that is too low, beyond chance
    roles      what runs cost: by role, by assigned rung

The ledger's sums do not hold it, so entries are read one by one.
"""
