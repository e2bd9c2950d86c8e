"""The benchmark: data, tasks, methods, evaluation, tables. Every rule calls `python -m bench <verb>`."""
