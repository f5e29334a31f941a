"""For every test: no example of a property has a time limit, which a busy machine would miss."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
