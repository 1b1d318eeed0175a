"""What a rung passes to another where a request climbs: the doubt about the answer below, or a plan that a cheaper rung answers by.

words       what the rungs are told, in the words of `prompts.handoff`
artifacts   the plan: what makes one valid, and what it demands of an answer
passing     which rung is asked for what
executing   what becomes of a plan: the answer by it, its checks, and the top rung's own answer where it leads to none
"""

from cascade.core.handoff.executing import carry_out, told_of
from cascade.core.handoff.passing import Passing, passing_of

__all__ = ["Passing", "carry_out", "passing_of", "told_of"]
