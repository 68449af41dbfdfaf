"""Exit statuses of all commands; 0 means that everything was done."""

SERVER_FAULT = 1
CALLER_FAULT = 2  # also argparse's
SOME_FAILED = 3  # some of many requests failed; the others were answered
LIMIT_MISSED = 4  # `evaluate demo` missed one of its limits
