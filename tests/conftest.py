"""Settings of every test: hypothesis draws the same examples each time and keeps no database."""

from hypothesis import settings

settings.register_profile("kofn", derandomize=True, deadline=None, database=None)
settings.load_profile("kofn")
