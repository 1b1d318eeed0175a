"""Spreads tasks over processes and machines: in this process, or on a Dask cluster (extra `dask`).

A task is a function of a module with plain arguments and a plain result, so that it can be sent. A task whose worker dies is run again by another,
so it must be one that may be begun twice: a count does not change, and a recording goes on from its journal.
"""

from __future__ import annotations

from cascade.cluster.dask import open_cluster
from cascade.cluster.tasks import Cluster, Done, InProcess, Task, TaskFailed, should_stop

__all__ = ["Cluster", "Done", "InProcess", "Task", "TaskFailed", "open_cluster", "should_stop"]
