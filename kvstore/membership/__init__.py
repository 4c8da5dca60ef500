"""Who is there, as one node sees it: drives the failure detector and the judge of slowness, and says what they think.

detection.py     the detector's shell: its inbox, its clock, its instructions; the opinions that coordinators read
promptness.py    how long peers take to answer, from the answers themselves; who is slow
"""
