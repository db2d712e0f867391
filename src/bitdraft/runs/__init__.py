"""Runs on disk, and where their cells are computed. Nothing here knows what a cell measures.

A *cell* is the unit of measuring (`cell`); a *run* is a folder with a manifest, a lock and a journal for
each cell (`store`); an *executor* is where cells run (`executors`); `schedule` takes cells through an
executor into their journals and hands every event to whoever folds them into a result.
"""
