"""Keeps what threads of earlier tests still log out of the log that a test reads."""

import logging
import threading


def hear_this_thread_only(others):
    """Let the root's handlers, but for ``others``, hear events of the calling thread alone."""
    here = threading.get_ident()
    for handler in logging.getLogger().handlers:
        if handler not in others:
            handler.addFilter(lambda record: record.thread == here)
