"""Exit statuses of all commands; 0 is that everything was done."""

SERVER_FAULT = 1
CALLER_FAULT = 2  # also argparse's
SOME_FAILED = 3  # of many requests: the others were answered
LIMIT_MISSED = 4  # of `evaluate demo`
