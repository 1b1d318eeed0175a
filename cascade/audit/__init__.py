"""The audit: grade a sample of what was shipped, notice when it gets worse, and act on it.

    sampled request (ledger) ─> worker: shadow answer ─> grader or judge ─> grading (ledger)
    gradings ─> detector, confidence sequence ─> alarm ─> event, webhook, ratchet
    gradings and sums ─> report

`worker` grades, `drift` watches the rate, `routing` the escalation side, `report` shows it all.
"""
