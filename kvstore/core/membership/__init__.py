"""Who is there: failure detection by SWIM and Lifeguard, as opinions that steer routing and own nothing.

detector.py      the machine: pings, relays, suspicions; events in, instructions out
messages.py      what detectors say to each other, and the instructions
table.py         what is believed of each member, and the order of claims
suspicion.py     the configuration, and every duration as a formula of it; local health; damping
rumours.py       claims on their way round
relays.py        pings that are sent for others
opinions.py      whom others should avoid, as those read it who route
incarnation.py   our own lives, none of which is lived twice
"""
