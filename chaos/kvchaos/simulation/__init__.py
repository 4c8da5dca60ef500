"""The chaos suite over the simulated world: schedules drawn from seeds, run, judged, shrunk and told.

Only this package of kvchaos knows the server. `schedule` and `shrink` are pure; `run` is where a schedule meets a world.
"""
