"""How often the statistics are right: a simulator of training, the bars, the quoted real cases.

`python -m tests.calibration` prints the table of bars with what was reached; `--quick` is the part that the tests run.
The simulator is a model of training, not training: see `simulator` for what it assumes.
"""
