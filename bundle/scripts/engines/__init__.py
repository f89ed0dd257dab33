"""The loops and what hangs on them: semi-supervised training, evaluation, inference, checkpoints, logs, guards."""
