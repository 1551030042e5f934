"""What may have become of a run, a trial of a search or a job of a grid? The words of trial.json and of the results."""

RECORD = "trial.json"
COMPLETE, RUNNING, PRUNED, STOPPED = "complete", "running", "pruned", "stopped"
LOST, FAILED, NOT_RUN = "lost", "failed", "not run"
# in the order in which the results show them
STATES = (COMPLETE, RUNNING, PRUNED, STOPPED, LOST, FAILED, NOT_RUN)
