"""For every test: properties have no time limit for one example, which a busy machine would miss."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
