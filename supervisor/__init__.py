"""The supervisor: keeps the fleet alive. It parses no configuration and speaks no HTTP.

    main.py       composition: run-dir, region, doors, loop; back to an exit status
    loop.py       wait -> gather facts -> policy.plan(facts) -> carry out
    policy.py     pure: facts to actions; rollouts.py and roster.py are its two halves
    fleet.py      what the supervisor remembers: generations, members, deaths, mode
    spawn.py      forks workers; controlling.py starts control
    sockets.py    owns the listening sockets
    requests.py   what control may ask, and the answers
"""
